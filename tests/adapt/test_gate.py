"""The gate: its error rate and power by simulation, each of its answers, and what a shadow run notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import comb

import numpy as np
import pytest

from adapt.gate import WILD, decide, looks, permutation_p, shadow_run
from adapt.scored import Scored
from hardware_io.bundle import Bundle
from hardware_io.recording import Rollout
from tests.conftest import pump_graph

RATE, TRIALS = 0.05, 1500
Draw = Callable[[np.random.Generator], float]


def score(value: float, success: bool = False, outcome: str = "done") -> Scored:
    empty, times, fast = np.zeros((0, 1), np.float32), np.zeros(0), np.zeros(1, np.float32)
    reason = "" if outcome == "done" else "joint shoulder: too fast"
    return Scored(Rollout(empty, empty, empty, empty, fast, fast, outcome, reason, times, times, 0), value, success)


def deployed_share(reference: Draw, candidate: Draw, most: int = 6, trials: int = TRIALS) -> float:
    """How often the gate deploys a candidate whose returns come from one distribution, against another."""
    accepted = 0
    for seed in range(trials):
        rng, before, after, verdict = np.random.default_rng(seed), [], [], None
        while verdict is None:
            before.append(score(reference(rng)))
            after.append(score(candidate(rng)))
            verdict = decide(before, after, most, RATE)
        accepted += verdict.accepted
    return accepted / trials


def normal(rng: np.random.Generator) -> float:
    return rng.normal()


def skewed(rng: np.random.Generator) -> float:
    return -(rng.exponential() ** 3)


def success_or_not(rng: np.random.Generator) -> float:
    return 80.0 + rng.normal() if rng.uniform() < 0.5 else 20.0


def coin(rng: np.random.Generator) -> float:
    return float(rng.uniform() < 0.5)


@pytest.mark.parametrize("most", [3, 4, 6, 8])
@pytest.mark.parametrize("returns", [normal, skewed, success_or_not, coin])
def test_what_is_no_better_is_deployed_no_more_often_than_stated(returns: Draw, most: int) -> None:
    trials = 400
    noise = 3 * (RATE * (1 - RATE) / trials) ** 0.5
    assert deployed_share(returns, returns, most, trials) <= RATE + noise
    assert deployed_share(returns, lambda rng: returns(rng) - 0.5, most, trials) <= RATE


def test_the_error_rate_is_used_and_not_given_away() -> None:
    assert 0.02 < deployed_share(normal, normal) <= RATE + 3 * (RATE * (1 - RATE) / TRIALS) ** 0.5


@pytest.mark.parametrize(("gain", "power"), [(2.0, 0.6), (3.0, 0.9), (6.0, 0.99)])
def test_what_is_much_better_is_deployed(gain: float, power: float) -> None:
    assert deployed_share(normal, lambda rng: rng.normal() + gain, trials=300) >= power


def test_the_permutation_test_by_hand() -> None:
    assert permutation_p([1, 2, 3], [4, 5, 6]) == pytest.approx(1 / 20)
    assert permutation_p([4, 5, 6], [1, 2, 3]) == 1.0
    assert permutation_p([1, 4], [2, 5]) == pytest.approx(2 / 6)  # 2+5 and 4+5 of six
    assert permutation_p([1, 1], [1, 1]) == 1.0


@pytest.mark.parametrize(("most", "first"), [(1, 2), (2, 3), (3, 3), (4, 4), (6, 4), (8, 5)])
def test_the_first_look_is_the_first_that_can_tell(most: int, first: int) -> None:
    found, level = looks(most, RATE)
    assert found == first
    if found <= most:
        assert 1 / comb(2 * found, found) <= level and level * (most - found + 1) == pytest.approx(RATE)


@pytest.mark.parametrize(
    ("before", "after", "accepted", "why"),
    [
        (
            [1, 2, 3, 1],
            [5, 6, 7, 5],
            True,
            "better than un-adapted; return 5.8 against 1.8 un-adapted, 4 rollouts",
        ),
        ([5, 6, 7, 5], [1, 2, 3, 1], False, "no better than un-adapted; return 1.8 against 5.8"),
        ([1, 2, 3, 1] * 2, [1, 2, 3, 2] * 2, False, "not shown to be better than un-adapted"),
        ([1, 2], [5, 6], False, "too little evidence: return 5.5 against 1.5 un-adapted, 2 rollouts each"),
        ([1, 2], [5, 6], False, "p is at least 0.17, 0.05 is asked"),
        ([1, 2, 3], [5, 6, 7], None, ""),
    ],
)
def test_what_the_gate_says(before: list[float], after: list[float], accepted: bool | None, why: str) -> None:
    most = 6 if accepted is None else len(before)
    verdict = decide([score(v) for v in before], [score(v) for v in after], most, RATE)
    assert (None if verdict is None else verdict.accepted) is accepted
    if verdict is not None:
        assert why in verdict.reason


def test_leaving_the_limits_ends_it_unless_the_other_policy_does_too() -> None:
    fine, left = score(1.0), score(50.0, outcome="limit")
    verdict = decide([fine], [left], 6, RATE)
    assert verdict is not None and not verdict.accepted
    assert verdict.reason.startswith("the adapted policy left the limits (joint shoulder: too fast)")
    assert decide([score(1.0, outcome="limit")], [left], 6, RATE) is None


class TestShadowRun:
    OBSERVATIONS = (np.tile(np.array([0.1, 3.0, 0.0], np.float32), (20, 1)),)

    def run(self, bundle: Bundle, gain: float) -> tuple[float, str]:
        shadow = shadow_run(bundle, list(self.OBSERVATIONS), np.array([0, 0, gain], np.float32))
        return shadow.difference, shadow.problem

    def test_a_candidate_that_commands_nearly_the_same_may_act(self, pump: Bundle) -> None:
        difference, problem = self.run(pump, 1.2)
        assert difference == pytest.approx(0.1, abs=0.01) and problem == ""  # 0.2 of 2 N·m

    def test_a_wild_one_may_not(self, pump: Bundle) -> None:
        difference, problem = self.run(pump, -1.0)
        assert difference > WILD and problem == f"its commands differ by 1.00 of their limit; allowed: at most {WILD}"

    def test_one_that_is_not_finite_is_named(self, pump: Bundle) -> None:
        growing = replace(pump, graph=pump_graph(learning=1e38))
        shadow = shadow_run(replace(growing, fast=np.zeros(3, np.float32)), list(self.OBSERVATIONS[:0]), growing.fast)
        assert shadow.steps == 0 and shadow.problem == ""
        _, problem = self.run(pump, np.inf)
        assert problem.startswith("policy input fast, [2]: got inf")

    def test_one_that_goes_beyond_the_limits_is_named(self, pump: Bundle) -> None:
        joint = replace(pump.spec.joints["shoulder"], torque_limit=1.1)
        weak = replace(pump, spec=replace(pump.spec, joints={"shoulder": joint}))
        assert self.run(weak, 1.2)[1].startswith("command 1.2") and "limit: ±1.1" in self.run(weak, 1.2)[1]
