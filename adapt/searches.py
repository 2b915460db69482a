"""Which latent to try next on a robot, and which to act with, from those that were tried and what they returned.

Advantage-weighted regression (Peng et al. 2020, https://arxiv.org/abs/2004.00784, algorithm 1) and CMA-ES (Hansen 2016,
https://arxiv.org/abs/1604.00772), with which Yu et al. 2019 (https://arxiv.org/abs/1810.05751) search. The same
archive gives the same answer. `n` rollouts, `Z` latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tried:
    """One robot's archive, the newest last."""

    latents: Array  # (n, Z)
    returns: Array  # (n,)
    forgotten: int = 0  # rollouts before these


@dataclass(frozen=True)
class Weighted:
    """A diagonal normal distribution that follows the returns.

    It maximises Σ exp((R_i − mean R) / α) log ω(z_i), and what the search began with goes on to count as one more
    rollout: of mean return in the mean, of the best return in the spread, which would else vanish with the first. α is
    `temperature` times the standard deviation of the returns, so that it means the same on every task.
    """

    spread: float  # that the search begins with, around 0
    temperature: float

    def distribution(self, tried: Tried) -> tuple[Array, Array]:
        """Mean and standard deviation (Z,); before anything was tried, those that the search begins with."""
        latents, returns = tried.latents, tried.returns
        if not len(returns):
            return np.zeros(latents.shape[1]), np.full(latents.shape[1], self.spread)
        scale = self.temperature * (returns.std() or 1.0)
        weight = np.exp((returns - returns.max()) / scale)  # of the best: 1
        mean = weight @ latents / (np.exp((returns.mean() - returns.max()) / scale) + weight.sum())
        variance = (weight @ (latents - mean) ** 2 + self.spread**2) / (1 + weight.sum())
        return mean, np.sqrt(variance)

    def propose(self, tried: Tried, seed: int) -> Array:
        """The latent (Z,) to try next."""
        mean, deviation = self.distribution(tried)
        rng = np.random.default_rng((seed, tried.forgotten + len(tried.returns)))
        return mean + deviation * rng.standard_normal(len(mean))


@dataclass(frozen=True)
class Evolved:
    """CMA-ES, replayed from the archive generation by generation; one that has begun to be forgotten is left out."""

    spread: float  # that the search begins with, around 0

    def propose(self, tried: Tried, seed: int) -> Array:
        """The latent (Z,) to try next."""
        from cma import CMAEvolutionStrategy  # slow to import, and only this search needs it

        size = generation(tried.latents.shape[1])
        first = -tried.forgotten % size
        told = tried.latents[first:], tried.returns[first:]
        centre = told[0][:size].mean(0) if tried.forgotten else np.zeros(tried.latents.shape[1])
        strategy = CMAEvolutionStrategy(centre, self.spread, {"popsize": size, "seed": 1 + seed, "verbose": -9})
        for start in range(0, len(told[1]) - size + 1, size):
            part = slice(start, start + size)
            strategy.ask()
            strategy.tell(list(told[0][part]), list(-told[1][part]))
        following: Array = strategy.ask()[(tried.forgotten + len(tried.returns)) % size]
        return following


def generation(latent: int) -> int:
    """Rollouts of one generation of CMA-ES, as its author recommends."""
    return 4 + math.floor(3 * math.log(latent))
