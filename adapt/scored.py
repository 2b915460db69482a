"""What the task says of a robot's rollout, from what the robot sensed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hardware_io.bundle import Bundle
from hardware_io.recording import Rollout
from hardware_io.state import Array
from sim.tasks import Task, make_task

TEACHING, UNADAPTED, ADAPTED = "teaching", "un-adapted", "adapted"  # roles; the first is followed by a number


@dataclass(frozen=True)
class Scored:
    """One rollout and what the task says of it."""

    rollout: Rollout
    value: float  # return
    success: bool


def task_of(bundle: Bundle) -> Task:
    """The task that a file was trained for. Raises ConfigError."""
    settings = dict(bundle.task)
    return make_task(settings.pop("name"), bundle.spec, **settings)


def rewards(task: Task, rollout: Rollout) -> Array:
    """Of each step of a real rollout, (T,)."""
    previous = np.concatenate([np.zeros_like(rollout.asked[:1]), rollout.asked[:-1]])
    return np.asarray(task.reward(rollout.observation[:-1], rollout.asked, rollout.observation[1:], previous))


def scored(task: Task, rollout: Rollout) -> Scored:
    """Return and success of a real rollout; one that ended early has failed."""
    whole = rollout.outcome == "done" and rollout.steps == task.steps
    success = whole and bool(task.success(rollout.observation, np.ones(rollout.steps, bool)))
    return Scored(rollout, float(rewards(task, rollout).sum()), success)
