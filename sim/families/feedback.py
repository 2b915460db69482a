"""The two inputs that learners with a memory need beside what a task shows: how the last step paid, what just began.

RL² (Duan et al. 2016, https://arxiv.org/abs/1611.02779, section 2.2) gives them to its policy at every step. A robot
has channels for them; every other family appends them here, as the last two entries of the observation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.family import Block

ENTRIES = 2  # previous reward, rollout start


def feedback_interface(interface: Interface) -> Interface:
    """The interface of a family whose blocks are wrapped by `feedback_block`."""
    size = interface.observation
    return replace(interface, observation=size + ENTRIES, previous_reward=size, rollout_start=size + 1)


def feedback_block(block: Block, episode: int | None = None) -> Block:
    """A block (n, O) whose observations end in previous reward and rollout start, (n, O+2).

    `episode`: a rollout holds several episodes of that many steps, each of which starts anew; None: it is one episode.
    """
    return WithFeedback(block, episode)


class WithFeedback:
    """A block that shows its rewards. The previous reward is 0 at the start of a rollout.

    At the start of a later episode of the same rollout it is still what the last step paid, so that nothing is lost.
    """

    def __init__(self, block: Block, episode: int | None = None) -> None:
        self.block, self.episode = block, episode
        self.reward, self.terminated = block.reward, block.terminated
        self._steps = 0  # since the rollout began

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: tasks with hidden parameters (n, P)."""
        self.block.set_dynamics(dynamics)

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout; returns observations (n, O+2)."""
        observation = self.block.reset(rng, anywhere)
        self._steps = 0
        return self._append(observation, np.zeros(len(observation)))

    def step(self, command: Array) -> NDArray[np.float32]:
        """One step under commands (n, A); returns observations (n, O+2)."""
        observation = self.block.step(command)
        self._steps += 1
        return self._append(observation, self.block.reward)

    def close(self) -> None:
        """Free what the block holds. Idempotent."""
        self.block.close()

    def _append(self, observation: NDArray[np.float32], reward: Array) -> NDArray[np.float32]:
        self.reward, self.terminated = self.block.reward, self.block.terminated
        starts = self._steps == 0 if self.episode is None else self._steps % self.episode == 0
        feedback = np.stack([reward, np.full(len(reward), starts)], axis=1)
        return np.concatenate([observation, feedback], axis=1, dtype=np.float32)
