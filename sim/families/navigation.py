"""A point robot that is told nothing of its goal: the 2-D navigation of MAML (Finn et al. 2017, section 5.3).

https://arxiv.org/abs/1703.03400. The paper's cost is the squared distance; the environment published with it uses the
distance itself, as here. There, too, a rollout ends within 0.01 of the goal along each axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import build, option
from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.families.feedback import feedback_block, feedback_interface
from sim.families.ranges import uniform
from sim.family import Block, Family


@dataclass(frozen=True)
class NavigationSettings:
    """The task as in the paper; goals are at most `goal` from the start along each axis."""

    horizon: int = option(100, min=1, help="steps of a rollout")
    goal: float = option(0.5, min=0.01, help="goals are uniform in [-goal, goal]²")
    limit: float = option(0.1, min=1e-6, help="the longest move along each axis in one step")
    tolerance: float = option(0.01, min=0.0, help="a rollout ends when both coordinates are this near the goal")
    feedback: bool = option(False, help="show previous reward and rollout start")


class Navigation(Family):
    """The hidden parameters are the goal (2,); observation: position (2,); action: move (2,), all without unit."""

    name = "navigation"
    convex = True

    def __init__(self, settings: NavigationSettings) -> None:
        self.settings, self.steps = settings, settings.horizon
        bounds = ((-settings.goal, settings.goal),) * 2
        plain = Interface(observation=2, limit=(settings.limit,) * 2, bounds=bounds, nominal=(0.0, 0.0))
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Navigation:
        """Raises ConfigError naming the setting."""
        return cls(build(NavigationSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Goals (n, 2); those of training and tests have the same distribution."""
        return uniform(self.interface.bounds, self.interface.bounds, n, rng, split, self.name)

    def block(self, n: int) -> Block:
        block = NavigationBlock(self.settings, n)
        return feedback_block(block) if self.settings.feedback else block

    def success(self, observation: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether the goal was reached before the last step: only that ends a rollout early."""
        return ~valid[..., -1]


class NavigationBlock:
    """`n` points side by side."""

    def __init__(self, settings: NavigationSettings, n: int) -> None:
        self.settings = settings
        self.goal, self.position = np.zeros((n, 2)), np.zeros((n, 2))
        self.reward, self.terminated = np.zeros(n), np.zeros(n, bool)

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: goals (n, 2)."""
        self.goal[...] = dynamics

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Every point at the origin; a share `anywhere` of them uniform where goals are."""
        reach = self.settings.goal * (rng.uniform(size=(len(self.goal), 1)) < anywhere)
        self.position[...] = rng.uniform(-reach, reach, self.position.shape)
        self.reward[...] = 0
        self.terminated[...] = False
        return self.position.astype(np.float32)

    def step(self, command: Array) -> NDArray[np.float32]:
        """Move each point by its command (n, 2), clipped; the reward is minus the distance left."""
        move = np.clip(command, -self.settings.limit, self.settings.limit)
        self.position += np.where(self.terminated[:, None], 0.0, move)
        left = self.position - self.goal
        self.reward[...] = np.where(self.terminated, 0.0, -np.hypot(left[:, 0], left[:, 1]))
        self.terminated |= (np.abs(left) < self.settings.tolerance).all(axis=1)
        return self.position.astype(np.float32)

    def close(self) -> None:
        """It holds nothing that needs to be freed."""
