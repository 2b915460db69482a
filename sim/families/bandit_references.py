"""Players of Bernoulli bandits that know how bandits work, to measure learners against. `n` bandits, `k` arms.

Duan et al. 2016 (https://arxiv.org/abs/1611.02779, table 1) compare with them. Each takes the chances (n, k), a
generator and the settings, and gives what each bandit paid over all pulls, (n,).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hardware_io.state import Array
from sim.families.bandits import BanditBlock, BanditSettings

GRID = 201  # rates that an index is looked for among; between them it is interpolated


def random(parameters: Array, rng: np.random.Generator, settings: BanditSettings) -> Array:
    """Every arm with the same chance at every pull."""
    return _play(parameters, rng, settings, lambda wins, losses: rng.uniform(size=wins.shape))


def thompson(parameters: Array, rng: np.random.Generator, settings: BanditSettings) -> Array:
    """The best arm of a bandit drawn from the posterior, Beta(1 + wins, 1 + losses) (Thompson 1933)."""
    return _play(parameters, rng, settings, lambda wins, losses: rng.beta(1 + wins, 1 + losses))


def ucb1(parameters: Array, rng: np.random.Generator, settings: BanditSettings) -> Array:
    """The arm with the greatest mean + √(2 ln t / pulls), each pulled once at first (Auer et al. 2002, UCB1)."""

    def score(wins: NDArray[np.intp], losses: NDArray[np.intp]) -> Array:
        pulls = wins + losses
        tried = np.maximum(pulls, 1)
        bonus = np.sqrt(2 * np.log(np.maximum(pulls.sum(axis=1, keepdims=True), 1)) / tried)
        return np.where(pulls == 0, np.inf, wins / tried + bonus)

    return _play(parameters, rng, settings, score)


def gittins(parameters: Array, rng: np.random.Generator, settings: BanditSettings) -> Array:
    """The arm with the greatest Gittins index (Gittins 1979) under a discount whose horizon is the number of pulls."""
    table = gittins_indices(settings.pulls)
    return _play(parameters, rng, settings, lambda wins, losses: table[wins, losses])


@lru_cache(maxsize=4)
def gittins_indices(pulls: int) -> Array:
    """Indices by wins and losses, (pulls, pulls), of which those with fewer than `pulls` of both together are set.

    The index of an arm is the sure payment a pull that is worth as much as going on with the arm for as long as one
    likes. Stopping is solved backwards for a grid of payments at once, from a last pull after which the mean is known.
    """
    discount = 1 - 1 / max(pulls, 2)
    payment = np.linspace(0, 1, GRID)
    mean = _posterior_mean(pulls)
    value = np.maximum(0, (mean - payment) / (1 - discount))  # (wins, GRID) of going on, with `pulls` results
    table = np.zeros((pulls, pulls))
    for results in reversed(range(pulls)):
        wins, mean = np.arange(results + 1), _posterior_mean(results)
        gain = mean - payment + discount * (mean * value[1:] + (1 - mean) * value[:-1])  # falls along the grid
        above = np.clip((gain > 0).sum(axis=1), 1, GRID - 1)  # the first payment that is worth more
        before, after = gain[wins, above - 1], gain[wins, above]
        table[wins, results - wins] = payment[above - 1] + before / (before - after) * payment[1]
        value = np.maximum(0, gain)
    return table


def _posterior_mean(results: int) -> Array:
    """Of an arm with 0 … `results` wins among as many results, from a uniform prior, (results + 1, 1)."""
    return (1 + np.arange(results + 1)[:, None]) / (2 + results)


def _play(
    parameters: Array,
    rng: np.random.Generator,
    settings: BanditSettings,
    score: Callable[[NDArray[np.intp], NDArray[np.intp]], Array],
) -> Array:
    """Always pull the arm with the greatest `score` of wins and losses so far, (n, k) each."""
    block = BanditBlock(settings, len(parameters))
    block.set_dynamics(parameters)
    block.reset(rng)
    wins, losses = np.zeros(parameters.shape, np.intp), np.zeros(parameters.shape, np.intp)
    lanes, total = np.arange(len(parameters)), np.zeros(len(parameters))
    for _ in range(settings.pulls):
        preference = score(wins, losses)
        block.step(preference)
        arm, won = np.argmax(preference, axis=1), block.reward > 0
        wins[lanes, arm] += won
        losses[lanes, arm] += ~won
        total += block.reward
    return total


PLAYERS = {"random": random, "thompson": thompson, "ucb1": ucb1, "gittins": gittins}
