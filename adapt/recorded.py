"""Rollouts of a robot in the shape that learners train on, so that an inner step on a robot is that of training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adapt.episodes import Episodes
from adapt.scored import rewards
from hardware_io.recording import Rollout
from sim.tasks import Task


def episodes_of(rollouts: list[Rollout], task: Task) -> Episodes:
    """Rollouts of one robot as episodes (1, K, T, …), scored by its task from what was sensed.

    What ended early is filled up and not `valid`; leaving the limits counts as terminated, as in simulation. The
    action follows from the noise. Raises ValueError without a single whole step.
    """
    whole = [rollout for rollout in rollouts if rollout.steps]
    if not whole:
        raise ValueError("no whole step was recorded")
    lengths = np.array([rollout.steps for rollout in whole])
    valid = np.arange(task.steps) < lengths[:, None]
    ended = np.array([rollout.outcome == "limit" for rollout in whole])
    last = np.arange(task.steps) == lengths[:, None] - 1
    reward = [rewards(task, rollout) for rollout in whole]
    return Episodes(
        observation=_stack([rollout.observation for rollout in whole], task.steps + 1),
        asked=_stack([rollout.asked for rollout in whole], task.steps),
        sent=_stack([rollout.sent for rollout in whole], task.steps),
        noise=_stack([rollout.noise for rollout in whole], task.steps),
        reward=_stack(reward, task.steps),
        valid=torch.from_numpy(valid)[None],
        terminated=torch.from_numpy(last & ended[:, None])[None],
        fast=torch.from_numpy(np.stack([rollout.fast_start for rollout in whole]))[None],
        last_fast=torch.from_numpy(whole[-1].fast_end)[None],
        dynamics=None,
    )


def _stack(parts: list[np.ndarray], length: int) -> Tensor:
    """Arrays (T, ...) as one float32 tensor (1, K, length, ...), the last row repeated to the end.

    A row that was sensed is a number that a learner can take; a zero might be none.
    """
    filled = [np.concatenate([part, np.repeat(part[-1:], length - len(part), axis=0)]) for part in parts]
    return torch.from_numpy(np.stack(filled).astype(np.float32))[None]
