"""A point robot that is paid only near a goal that it is not told: sparse navigation of PEARL (Rakelly et al. 2019).

https://arxiv.org/abs/1903.08254, section 6.3. Goals are on a half circle; within 0.2 of its goal a step pays 1 less the
distance, elsewhere nothing. As in the paper, training may be paid by the distance while the policy is shown what is
paid sparsely, so that what it has to learn is how to look for a goal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import build, option
from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.families.feedback import WithFeedback, feedback_interface
from sim.families.ranges import uniform
from sim.family import Block, Family

BOUNDS = ((0.0, math.pi),)  # rad, of goals as seen from the start


@dataclass(frozen=True)
class PointRobotSettings:
    """The task as in the paper."""

    horizon: int = option(20, min=1, help="steps of a rollout")
    radius: float = option(0.2, min=1e-6, help="around the goal, within which a step pays")
    limit: float = option(0.1, min=1e-6, help="the longest move along each axis in one step")
    reward: str = option("sparse", choices=("sparse", "dense"), help="dense: minus the distance, which nobody is shown")
    feedback: bool = option(False, help="show what the last step paid, sparsely, and rollout start")


class PointRobot(Family):
    """Hidden parameter (1,): direction of the goal, rad, whose distance is 1; observation: position; action: move."""

    name = "point_robot"
    convex = True

    def __init__(self, settings: PointRobotSettings) -> None:
        self.settings, self.steps = settings, settings.horizon
        plain = Interface(observation=2, limit=(settings.limit,) * 2, bounds=BOUNDS, nominal=(math.pi / 2,))
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> PointRobot:
        """Raises ConfigError naming the setting."""
        return cls(build(PointRobotSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Directions (n, 1); those of training and tests have the same distribution."""
        return uniform(BOUNDS, BOUNDS, n, rng, split, self.name)

    def block(self, n: int) -> Block:
        block = PointRobotBlock(self.settings, n)
        return Paid(block) if self.settings.feedback else block

    def success(self, observation: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """Whether the last step of a rollout paid, which only feedback shows."""
        return observation[..., -1, -2] > 0 if self.settings.feedback else None


class PointRobotBlock:
    """`n` points side by side. `paid` (n,) is what the last step paid sparsely, whatever the reward."""

    def __init__(self, settings: PointRobotSettings, n: int) -> None:
        self.settings = settings
        self.goal, self.position = np.zeros((n, 2)), np.zeros((n, 2))
        self.reward, self.paid, self.terminated = np.zeros(n), np.zeros(n), np.zeros(n, bool)
        self.set_dynamics(np.full((n, 1), math.pi / 2))

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: directions (n, 1)."""
        self.goal[...] = np.concatenate([np.cos(dynamics), np.sin(dynamics)], axis=1)

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Every point at the origin; a share `anywhere` of them uniform in the square around the circle."""
        reach = 1.0 * (rng.uniform(size=(len(self.goal), 1)) < anywhere)
        self.position[...] = rng.uniform(-reach, reach, self.position.shape)
        self.reward[...] = self.paid[...] = 0
        return self.position.astype(np.float32)

    def step(self, command: Array) -> NDArray[np.float32]:
        """Move each point by its command (n, 2), clipped."""
        self.position += np.clip(command, -self.settings.limit, self.settings.limit)
        left = np.linalg.norm(self.position - self.goal, axis=1)
        self.paid[...] = np.where(left <= self.settings.radius, 1 - left, 0.0)
        self.reward[...] = -left if self.settings.reward == "dense" else self.paid
        return self.position.astype(np.float32)

    def close(self) -> None:
        """It holds nothing that needs to be freed."""


class Paid(WithFeedback):
    """The block with feedback of what is paid sparsely."""

    block: PointRobotBlock

    def step(self, command: Array) -> NDArray[np.float32]:
        """One step under commands (n, 2); returns observations (n, 4)."""
        observation = super().step(command)
        observation[:, -2] = self.block.paid
        return observation
