"""A grid with a hidden goal that has to be searched, as VariBAD poses it (Zintgraf et al. 2020, section 5.1).

https://arxiv.org/abs/1910.08348. A rollout is several short episodes on one grid, so that a goal that was found in one
episode, or cells where it is not, serve the next. `n` grids, `S` = size² cells.
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
from sim.families.ranges import check_split
from sim.family import Block, Family

MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])  # of each action in columns and rows; the first stays
NEAR = 2  # columns and rows around the start's corner where no goal is


@dataclass(frozen=True)
class GridWorldSettings:
    """The task as in the paper."""

    size: int = option(5, min=3, help="columns and rows")
    steps: int = option(15, min=1, help="of one episode, which starts in the corner")
    episodes: int = option(4, min=1, help="of one rollout")
    goal_reward: float = option(1.0, help="a step on the goal")
    step_reward: float = option(-0.1, help="a step anywhere else")
    feedback: bool = option(True, help="show previous reward and the start of each episode")


class GridWorld(Family):
    """Observation: cell, one-hot (S,), row by row. Action: discrete, one of five: stay, up, right, down, left.

    The hidden parameters are the goal's column and row (2,). The goal ends no episode: every step on it pays.
    """

    name = "grid_world"

    def __init__(self, settings: GridWorldSettings) -> None:
        self.settings, self.steps = settings, settings.episodes * settings.steps
        last = float(settings.size - 1)
        plain = Interface(
            observation=settings.size**2,
            limit=(1.0,) * len(MOVES),
            discrete=True,
            bounds=((0.0, last),) * 2,
            nominal=(last, last),
        )
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> GridWorld:
        """Raises ConfigError naming the setting."""
        return cls(build(GridWorldSettings, settings, source, "family.settings"))

    def goals(self) -> Array:
        """Every cell where a goal may be, column and row, (·, 2)."""
        row, column = np.divmod(np.arange(self.settings.size**2), self.settings.size)
        away = (column >= NEAR) | (row >= NEAR)
        return np.stack([column, row], axis=1)[away].astype(float)

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Goals (n, 2); those of training and tests have the same distribution."""
        check_split(split, self.name, outside=False)
        return rng.choice(self.goals(), n)

    def block(self, n: int) -> Block:
        block = GridWorldBlock(self.settings, n)
        return feedback_block(block, self.settings.steps) if self.settings.feedback else block


class GridWorldBlock:
    """`n` grids side by side."""

    def __init__(self, settings: GridWorldSettings, n: int) -> None:
        self.settings = settings
        self.goal, self.position = np.full((n, 2), settings.size - 1.0), np.zeros((n, 2), np.intp)
        self.reward, self.terminated = np.zeros(n), np.zeros(n, bool)
        self._one_hot, self._steps = np.eye(settings.size**2, dtype=np.float32), 0

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: goals (n, 2)."""
        self.goal[...] = dynamics

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout in the corner; every episode starts there."""
        self._steps = 0
        self.position[...] = 0
        self.reward[...] = 0
        self.terminated[...] = False
        return self._observe()

    def step(self, command: Array) -> NDArray[np.float32]:
        """Move where each command (n, 5) is greatest, not beyond the edge; after an episode's last step, the corner."""
        moved = self.position + MOVES[np.argmax(command, axis=1)]
        self.position[...] = np.clip(moved, 0, self.settings.size - 1)
        found = (self.position == self.goal).all(axis=1)
        self.reward[...] = np.where(found, self.settings.goal_reward, self.settings.step_reward)
        self._steps += 1
        self.terminated[...] = self._steps >= self.settings.steps * self.settings.episodes  # there is nothing after it
        if self._steps % self.settings.steps == 0:
            self.position[...] = 0
        return self._observe()

    def close(self) -> None:
        """It holds nothing that needs to be freed."""

    def _observe(self) -> NDArray[np.float32]:
        return self._one_hot[self.position[:, 1] * self.settings.size + self.position[:, 0]]
