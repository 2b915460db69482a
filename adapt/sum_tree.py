"""Draws in proportion to priorities, which change all the time, in steps of the logarithm of their number.

A tree of sums (Schaul et al. 2016, https://arxiv.org/abs/1511.05952, appendix B.2.1). With 32 children a node, four
levels hold a million priorities; each level is one operation on all draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardware_io.state import Array

CHILDREN = 32


class SumTree:
    """Priorities of `size` places, 0 to begin with."""

    def __init__(self, size: int) -> None:
        self._levels = [np.zeros((-(-size // CHILDREN), CHILDREN))]  # sums of the rows of one are entries of the next
        while len(self._levels[-1]) > 1:
            self._levels.append(np.zeros((-(-len(self._levels[-1]) // CHILDREN), CHILDREN)))

    @property
    def total(self) -> float:
        return float(self._levels[-1].sum())

    def get(self, places: NDArray[np.int64]) -> Array:
        return self._levels[0].reshape(-1)[places]

    def set(self, places: NDArray[np.int64], priorities: ArrayLike) -> None:
        """Sums are taken anew from their parts, so that rounding does not add up."""
        self._levels[0].reshape(-1)[places] = priorities
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            places = np.unique(places // CHILDREN)
            level.reshape(-1)[places] = below[places].sum(1)

    def find(self, shares: Array) -> NDArray[np.int64]:
        """Where running sums pass shares (n,) in [0, 1) of the total: places (n,) whose priority is not 0."""
        node, left = np.zeros(len(shares), np.int64), shares * self.total
        for level in reversed(self._levels):
            parts = level[node]
            sums = parts.cumsum(1)
            last = CHILDREN - 1 - (parts[:, ::-1] > 0).argmax(1)  # rounding must not lead past it
            child = np.minimum((sums <= left[:, None]).sum(1), last)
            before = np.take_along_axis(sums - parts, child[:, None], axis=1)[:, 0]
            node, left = node * CHILDREN + child, left - before
        return node
