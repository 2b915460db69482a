"""Tasks: what is asked of a robot, scored from what the robot senses. One file each, in batched numpy."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from hardware_io.state import Array

TASKS = {  # name → (module, class)
    "swing_up": ("sim.tasks.swing_up", "SwingUp"),
}


class Task(Protocol):
    """`T` steps a rollout, `O` observation, `A` action, `J` joints; leading dimensions are free."""

    steps: int  # T, of one rollout
    pose: str  # in which it is to end, one of the robot's

    def reset(self, n: int, rng: np.random.Generator, anywhere: float) -> tuple[Array, Array]:
        """Start positions and velocities (n, J); a share `anywhere` of them all over the state space."""

    def reward(
        self,
        observation: NDArray[Any],
        action: NDArray[Any],
        next_observation: NDArray[Any],
        previous_action: NDArray[Any],
    ) -> Array:
        """Reward of each step (...,) from observations (..., O) and commands (..., A); before the first it is 0."""

    def terminated(self, observation: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether a rollout ends here (...,)."""

    def success(self, observation: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether whole rollouts succeeded (...,), from observations (..., T+1, O) and which steps count (..., T)."""


def make_task(name: str, spec: RobotSpec, **parameters: Any) -> Task:
    """A task on a robot; `parameters` override the robot's own. Raises ConfigError."""
    if name not in TASKS:
        raise ConfigError("task", "name", name, f"one of {', '.join(TASKS)}")
    module, cls = TASKS[name]
    task: Task = getattr(import_module(module), cls).of(spec, {**spec.tasks.get(name, {}), **parameters})
    return task
