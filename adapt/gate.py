"""The gate between what was learned and the robot: a shadow run before a candidate may act, a test before it stays.

The test is an exact permutation test of returns (Fisher 1935): if the candidate is no better,
every division of all returns among the two policies is equally likely, whatever their distribution. It may look after
several pairs of rollouts, at an error rate that is divided among the looks (Bonferroni), so that a candidate that is
no better than the deployed policy is deployed with at most the error rate that is stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from adapt.scored import Scored
from hardware_io.bundle import Bundle
from hardware_io.runtime import NonFinite, Policy

Float32 = NDArray[np.float32]
WILD = 0.5  # root mean square difference of commands as a share of their limit; see docs/decisions.md


@dataclass(frozen=True)
class Verdict:
    """What becomes of a candidate, and why."""

    accepted: bool
    reason: str


@dataclass(frozen=True)
class Shadow:
    """A candidate beside the deployed policy on what was recorded; nothing moved."""

    steps: int
    difference: float  # root mean square of the difference of commands, as a share of their limits
    problem: str  # empty: it may act


def shadow_run(bundle: Bundle, observations: list[Float32], candidate: Float32) -> Shadow:
    """Both policies on recorded observations, each (T, O), without noise: does the candidate (F,) behave?"""
    policy, limit = Policy(bundle), bundle.spec.action_limit
    quiet, squared, steps = np.zeros(bundle.spec.action_size, np.float32), 0.0, 0
    for rows in observations:
        fast, other = policy.start_fast(policy.fast0), policy.start_fast(candidate)
        for row in rows:
            command, fast = policy.step(row, fast, quiet)
            try:
                tried, other = policy.step(row, other, quiet)
            except NonFinite as error:
                return Shadow(steps, float("inf"), str(error))
            beyond = np.flatnonzero(np.abs(tried) > limit * (1 + 1e-6))
            if beyond.size:
                at = int(beyond[0])
                return Shadow(steps, float("inf"), f"command {tried[at]:.3f}; limit: ±{limit[at]}")
            squared += float((((tried - command) / limit) ** 2).mean())
            steps += 1
    difference = (squared / max(steps, 1)) ** 0.5
    wild = difference > WILD
    problem = f"its commands differ by {difference:.2f} of their limit; allowed: at most {WILD}" if wild else ""
    return Shadow(steps, difference, problem)


def permutation_p(reference: list[float], candidate: list[float]) -> float:
    """Chance that a random division of all returns puts the candidate's mean as far above the reference's."""
    values = np.array([*candidate, *reference])
    sums = values[_divisions(len(values), len(candidate))].sum(1)
    return float(np.mean(sums >= sums[0] - 1e-9 * max(1.0, float(np.abs(values).sum()))))


@cache
def _divisions(of: int, count: int) -> NDArray[np.int64]:
    """All ways to choose `count` of `of`, (ways, count); the first ones come first."""
    return np.array(list(combinations(range(of), count)))


def looks(most: int, error_rate: float) -> tuple[int, float]:
    """After how many rollouts of each policy the test may first decide, and the error rate of each of its looks.

    The first look is the earliest at which returns can be told apart at all; without one it is beyond `most`.
    """
    for first in range(1, most + 1):
        level = error_rate / (most - first + 1)
        if 1 / comb(2 * first, first) <= level:
            return first, level
    return most + 1, error_rate


def decide(reference: list[Scored], candidate: list[Scored], most: int, error_rate: float) -> Verdict | None:
    """What the rollouts so far, as many of each, say of the candidate; None: one more pair is needed."""
    pairs, (first, level) = len(candidate), looks(most, error_rate)
    before, after = [one.value for one in reference], [one.value for one in candidate]
    told = f"return {np.mean(after):.1f} against {np.mean(before):.1f} un-adapted, {pairs} rollouts each"
    told += f", success {sum(one.success for one in candidate)} against {sum(one.success for one in reference)}"
    left = [sum(one.rollout.outcome != "done" for one in arm) for arm in (reference, candidate)]
    if left[1] > left[0]:
        why = next(one.rollout.reason for one in candidate if one.rollout.outcome != "done")
        return Verdict(False, f"the adapted policy left the limits ({why}); {told}")
    if pairs < first:
        if pairs < most:
            return None
        best = 1 / comb(2 * pairs, pairs)
        return Verdict(False, f"too little evidence: {told}; p is at least {best:.2g}, {error_rate:g} is asked")
    if np.mean(after) <= np.mean(before):
        return Verdict(False, f"no better than un-adapted; {told}")
    p = permutation_p(before, after)
    if p <= level:
        return Verdict(True, f"better than un-adapted; {told} (p = {p:.2g}, at most {level:.2g})")
    if pairs < most:
        return None
    return Verdict(False, f"not shown to be better than un-adapted; {told} (p = {p:.2g}, at most {level:.2g})")
