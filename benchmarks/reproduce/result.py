"""What was measured beside what was published: an estimate, an aim, a verdict, a row of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from scipy.stats import t as student

HIGHER, LOWER, SAME = "higher", "lower", "same"


@dataclass(frozen=True)
class Estimate:
    """A mean with the half width of its 95 % interval."""

    mean: float
    half: float
    seeds: int  # trainings


def estimate(scores: Sequence[ArrayLike]) -> Estimate:
    """From the scores of each seed's tasks, (B,) each.

    With several trainings their means are the sample, since trainings differ more than tasks do; with one there is only
    the spread of its tasks, and the interval says nothing of other seeds. Infinite where one number is all there is.
    """
    seeds = [np.asarray(values, np.float64) for values in scores]
    sample = seeds[0] if len(seeds) == 1 else np.array([values.mean() for values in seeds])
    freedom = len(sample) - 1
    if freedom < 1:
        return Estimate(float(sample.mean()), math.inf, len(seeds))
    half = student.ppf(0.975, freedom) * sample.std(ddof=1) / math.sqrt(len(sample))
    return Estimate(float(sample.mean()), float(half), len(seeds))


def interval(count: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    found = binomtest(count, of).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Aim:
    """A published figure, and how far from it a mean may lie."""

    reference: float
    tolerance: float | None  # in the unit of the figure; None: shown to compare with, not to be reached
    good: str = HIGHER  # which side of the reference is better; SAME: neither, as for players that do not learn

    @classmethod
    def within(cls, reference: float, share: float, good: str = HIGHER) -> Aim:
        """A tolerance that is a share of the reference."""
        return cls(reference, share * abs(reference), good)

    def verdict(self, mean: float) -> str:
        """`better` than the reference, `met` within the tolerance, or `missed`; nothing without a tolerance."""
        if self.tolerance is None:
            return ""
        short = {HIGHER: self.reference - mean, LOWER: mean - self.reference}.get(self.good, abs(mean - self.reference))
        if short < 0:
            return "better"
        return "met" if short <= self.tolerance * (1 + 1e-9) else "missed"


@dataclass(frozen=True)
class Row:
    """One line of the table; `what` is unique within an experiment."""

    what: str
    measured: Estimate
    aim: Aim | None = None  # None: measured for comparison alone
    source: str = ""  # of the reference
    steps: int = 0  # of each training; 0: nothing was trained
    seconds: float = 0.0  # that each training took
    note: str = ""

    @property
    def verdict(self) -> str:
        return "" if self.aim is None else self.aim.verdict(self.measured.mean)

    def document(self) -> dict[str, Any]:
        """Plain data for JSON, which knows no infinity."""
        data = {**asdict(self), "verdict": self.verdict}
        if math.isinf(self.measured.half):
            data["measured"]["half"] = None
        return data
