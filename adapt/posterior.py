"""Most probable parameters and their covariance, from residuals that are the same function for many draws at once.

Damped Gauss-Newton (Levenberg, Marquardt) on a Cauchy likelihood, so that a window which no parameters explain, such as
one with a bump, counts little; a window counts as one observation, because its rows are not independent. Derivatives
are differences, all columns in one call. The covariance is Laplace's. `K` parameters, `W` windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hardware_io.state import Array

DIFFERENCE = 1e-4  # of a prior standard deviation
DAMPINGS = (0.1, 1.0, 10.0, 100.0)  # times the last one, tried at once
ENOUGH = 3e-4  # relative gain of a step below which the search ends

Residuals = Callable[[Array], Array]  # (n, K) → (n, W, …), squares of a window add up to its mean square, rad²


@dataclass(frozen=True)
class Step:
    """One iteration, for whoever watches."""

    iteration: int
    cost: float  # minus twice the log of the posterior, but for a constant
    error: float  # rad, median over windows


@dataclass(frozen=True)
class Prior:
    """A normal distribution, cut off below."""

    mean: Array  # (K,)
    covariance: Array  # (K, K)
    low: Array  # (K,)


@dataclass(frozen=True)
class Posterior:
    """A normal distribution around the most probable values."""

    mean: Array  # (K,)
    covariance: Array  # (K, K)
    history: tuple[Step, ...]

    @property
    def sd(self) -> Array:
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def fit(
    residuals: Residuals,
    prior: Prior,
    noise: float,
    watch: Callable[[Step], None] = lambda step: None,
    most: int = 25,
) -> Posterior:
    """What residuals make of a prior; `noise` rad is the model's own in a window."""
    x, history = prior.mean.copy(), []
    precision = np.zeros((len(x), len(x)))
    search = _Search(residuals, prior, noise)
    for iteration in range(most):
        x, precision, cost, better, errors = search.step(x)
        history.append(Step(iteration, cost, float(np.median(errors))))
        watch(history[-1])
        if not better:
            break
    return Posterior(x, np.asarray(np.linalg.inv(precision), np.float64), tuple(history))


class _Search:
    """Steps under one noise."""

    def __init__(self, residuals: Residuals, prior: Prior, noise: float) -> None:
        self._residuals, self._mean, self._low, self._noise = residuals, prior.mean, prior.low, noise
        self._known = np.linalg.inv(prior.covariance)  # (K, K), precision before the data
        self._damping = 1e-2

    def step(self, x: Array) -> tuple[Array, Array, float, bool, Array]:
        """The next values, precision (K, K) and cost at `x`, whether the next are better, errors (W,) rad."""
        width = DIFFERENCE / np.sqrt(np.diag(self._known))
        off = self._residuals(np.vstack([x, x + np.diag(width)]))
        errors = np.sqrt(_squares(off[:1])[0])
        weight = np.sqrt(1 / (1 + (errors / self._noise) ** 2)) / self._noise
        weight = weight.reshape(-1, *[1] * (off.ndim - 2))
        jacobian = ((off[1:] - off[0]) / width.reshape(-1, *[1] * (off.ndim - 1)) * weight).reshape(len(x), -1)
        precision = jacobian @ jacobian.T + self._known
        slope = jacobian @ (off[0] * weight).ravel() + self._known @ (x - self._mean)
        cost = self._cost(off[:1], x[None])[0]
        damped = [precision + d * self._damping * np.diag(np.diag(precision)) for d in DAMPINGS]
        tried = np.array([self._inside(x, matrix, slope) for matrix in damped])
        costs = self._cost(self._residuals(tried), tried)
        best = int(np.argmin(costs))
        self._damping = float(np.clip(self._damping * DAMPINGS[best], 1e-7, 1e4))
        better = costs[best] < cost - ENOUGH * abs(cost)
        return (tried[best] if costs[best] < cost else x), precision, float(cost), bool(better), errors

    def _inside(self, x: Array, matrix: Array, slope: Array) -> Array:
        """The step to the lowest point of the parabola, among values that are physical."""
        free = np.ones(len(x), bool)
        step = np.zeros(len(x))
        for _ in range(len(x)):
            step[~free] = self._low[~free] - x[~free]
            right = slope[free] + matrix[np.ix_(free, ~free)] @ step[~free]
            step[free] = -np.linalg.solve(matrix[np.ix_(free, free)], right)
            beyond = free & (x + step < self._low)
            if not beyond.any():
                break
            free &= ~beyond
        return np.maximum(x + step, self._low)

    def _cost(self, off: Array, values: Array) -> Array:
        """(n,)"""
        likelihood = np.log1p(_squares(off) / self._noise**2).sum(axis=1)
        off_mean = values - self._mean
        return np.asarray(likelihood + ((off_mean @ self._known) * off_mean).sum(axis=1))


def _squares(off: Array) -> Array:
    """Mean square error of each window, (n, W) rad²."""
    return np.asarray((off.reshape(*off.shape[:2], -1) ** 2).sum(axis=2))
