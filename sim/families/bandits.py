"""Bernoulli bandits as RL² poses them (Duan et al. 2016, https://arxiv.org/abs/1611.02779, section 3.1).

A rollout is all pulls of one bandit, so whatever is learned of it has to be learned inside the rollout.
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
class BanditSettings:
    """k arms and n pulls; the paper has n = 10, 100, 500 with k = 5, 10, 50."""

    arms: int = option(5, min=2, help="k")
    pulls: int = option(10, min=1, help="n, steps of a rollout")
    feedback: bool = option(True, help="show previous reward and rollout start, without which nothing can be learned")


class Bandits(Family):
    """The hidden parameters are the arms' chances to pay 1 instead of 0, (k,), uniform on [0, 1].

    The action is discrete, one of k. A bandit shows nothing but what it pays: the observation is a constant 1.
    """

    name = "bandits"
    convex = True
    knows_regret = True

    def __init__(self, settings: BanditSettings) -> None:
        self.settings, self.steps = settings, settings.pulls
        k = settings.arms
        bounds = ((0.0, 1.0),) * k
        plain = Interface(observation=1, limit=(1.0,) * k, discrete=True, bounds=bounds, nominal=(0.5,) * k)
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Bandits:
        """Raises ConfigError naming the setting."""
        return cls(build(BanditSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Chances (n, k); those of training and tests have the same distribution."""
        return uniform(self.interface.bounds, self.interface.bounds, n, rng, split, self.name)

    def regret(self, dynamics: Array, observation: NDArray[Any], asked: NDArray[Any]) -> Array:
        """The best arm's chance less that of the arm which was pulled."""
        pulled = np.argmax(asked, axis=-1)
        chance = np.take_along_axis(dynamics, pulled.reshape(len(dynamics), -1), axis=1).reshape(pulled.shape)
        return dynamics.max(axis=1)[:, None, None] - chance

    def block(self, n: int) -> Block:
        block = BanditBlock(self.settings, n)
        return feedback_block(block) if self.settings.feedback else block


class BanditBlock:
    """`n` bandits side by side."""

    def __init__(self, settings: BanditSettings, n: int) -> None:
        self.settings, self._pulled = settings, 0
        self.chance = np.full((n, settings.arms), 0.5)
        self.reward, self.terminated = np.zeros(n), np.zeros(n, bool)
        self.rng = np.random.default_rng(0)
        self._lanes = np.arange(n)

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: the arms' chances (n, k)."""
        self.chance[...] = dynamics

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout; there is but one state to start from."""
        self.rng, self._pulled = rng, 0
        self.reward[...] = 0
        self.terminated[...] = False
        return self._observe()

    def step(self, command: Array) -> NDArray[np.float32]:
        """Pull the arm where each command (n, k) is greatest."""
        chance = self.chance[self._lanes, np.argmax(command, axis=1)]
        self.reward[...] = self.rng.uniform(size=len(chance)) < chance
        self._pulled += 1
        self.terminated[...] = self._pulled >= self.settings.pulls  # nothing is to be had after the last pull
        return self._observe()

    def close(self) -> None:
        """It holds nothing that needs to be freed."""

    def _observe(self) -> NDArray[np.float32]:
        return np.ones((len(self.chance), 1), np.float32)
