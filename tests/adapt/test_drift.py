"""The drift alarm: how often it is false, how soon it is right, and a payload that changes on a twin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapt.drift import FIT, Detector, Drift
from adapt.scored import Scored, scored, task_of
from adapt.session import Plan
from hardware_io.bundle import Bundle
from tests.adapt.on_twin import SHORT, Machine
from tests.conftest import forgiving

pytest.importorskip("mujoco")
RATE = 0.02


def first_alarm(scores: np.ndarray, rate: float, seed: int) -> int:
    """After how many scores there is an alarm; their number where there is none."""
    detector = Detector(rate, seed)
    return next((n for n, score in enumerate(scores, 1) if detector.update(float(score))), len(scores))


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "choice"])
def test_false_alarms_are_no_more_frequent_than_stated(draw: str) -> None:
    lengths = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scores = rng.choice(3, 400).astype(float) if draw == "choice" else getattr(rng, draw)(400)
        lengths.append(first_alarm(scores, RATE, seed))
    assert np.mean(lengths) >= 1 / RATE  # cut at 400, the mean is too small if anything


def test_a_change_is_noticed_within_some_rollouts() -> None:
    delays = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        quiet = rng.standard_normal(20)
        changed = 20 + rng.standard_normal(40)
        found = first_alarm(np.concatenate([quiet, changed]), 0.005, seed)
        delays.append(found - len(quiet))
    assert np.median(delays) <= 6 and np.mean(np.array(delays) <= 0) < 0.1


def rollouts_of(machine: Machine, folder: Path, count: int) -> list[Scored]:
    session = machine.session(folder, Plan())
    with session, session.loop.session():
        return [session.rollout("watched", machine.bundle.fast) for _ in range(count)]


@pytest.fixture(scope="module")
def watched(pump: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Scored], list[Scored]]:
    """Rollouts of a pendulum, and of the same one after its payload has grown."""
    machine = Machine(replace(pump, task={**SHORT, "duration": 1.6}, spec=forgiving(pump.spec)))
    before = rollouts_of(machine, tmp_path_factory.mktemp("before"), 40)
    machine.become(payload=1.5)
    return before, rollouts_of(machine, tmp_path_factory.mktemp("after"), 12)


def test_no_alarm_while_the_robot_stays_as_it_is(pump: Bundle, watched: tuple[list[Scored], list[Scored]]) -> None:
    for seed in range(3):
        drift = Drift(pump.spec, 0.005, seed)
        assert [reason for one in watched[0] if (reason := drift.update(one))] == []


def test_a_payload_that_grows_is_told(pump: Bundle, watched: tuple[list[Scored], list[Scored]]) -> None:
    drift = Drift(pump.spec, 0.005, 0)
    for one in watched[0][:25]:
        assert drift.update(one) == ""
    reasons = [drift.update(one) for one in watched[1]]
    assert any(reasons[:8])
    reason = next(filter(None, reasons))
    assert reason.startswith("the robot has changed: its motion is ") and "an alarm at 200" in reason
    assert float(reason.split()[7]) > 1.5  # times as far from what the model foretells


def test_it_goes_on_from_its_state(pump: Bundle, watched: tuple[list[Scored], list[Scored]]) -> None:
    whole, first = Drift(pump.spec, 0.005, 0), Drift(pump.spec, 0.005, 0)
    for one in watched[0][:25]:
        whole.update(one)
        first.update(one)
    second = Drift(pump.spec, 0.005, 0)
    second.restore(first.state())
    for one in watched[1]:
        assert second.update(one) == whole.update(one)
    assert Drift(pump.spec, 0.005, 0).state() == {}, "nothing is known before the model is fitted"


def test_a_rollout_without_a_step_is_an_alarm(pump: Bundle, watched: tuple[list[Scored], list[Scored]]) -> None:
    drift = Drift(pump.spec, 0.005, 0)
    none = replace(watched[0][0].rollout, asked=np.zeros((0, 1), np.float32), outcome="limit", reason="shoulder")
    assert drift.update(scored(task_of(pump), replace(none, observation=none.observation[:1]))).endswith(": shoulder")
    assert FIT > 1
