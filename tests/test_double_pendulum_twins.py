"""Hidden twins of the identified double pendulum: which machine a file meets, what counts, what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adapt.scored import Scored
from benchmarks.double_pendulum import twins
from benchmarks.double_pendulum.twins import Outcome, judged, machine, markdown, note_twins, play
from hardware_io.bundle import Bundle, write_bundle
from hardware_io.recording import Rollout
from sim.robots import load_robot
from tests.conftest import forgiving, pump_graph

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy of one motor with 0 N·m, that counts its steps in what is kept."""
    spec = forgiving(load_robot("double_pendulum/pendubot_robust"))
    fast = np.array([0.0, 0.0, 0.0], np.float32)
    bundle = Bundle(pump_graph(observation=5), spec, {"name": "swing_up"}, "pump", fast, np.ones(3, bool))
    path = tmp_path_factory.mktemp("twins") / "pump.onnx"
    write_bundle(path, bundle)
    return str(path)


def test_a_file_meets_the_identified_machine_behind_motors_of_its_own_scale() -> None:
    for robot in ("pendubot", "acrobot"):
        frictionless = load_robot(f"double_pendulum/{robot}_robust")
        met = machine(frictionless)
        assert met.name == f"{robot}_lab" and met.joints == frictionless.joints
        assert met.dynamics["elbow_coulomb"]["test"] == [0.08, 0.24]
        assert machine(load_robot(f"double_pendulum/{robot}_lab")).name == f"{robot}_lab"


def test_a_machine_is_the_same_each_time_and_does_not_rise_by_itself(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "DURATION", 1.0)
    assert play(file, 70_000, 2) == play(file, 70_000, 2) == [Outcome(False, False)] * 2


def rollout(end: list[float], outcome: str = "done") -> Scored:
    observation = np.tile(np.array([*end, 0.0], np.float32), (3, 1))
    flat, times, fast = np.zeros((2, 1), np.float32), np.zeros(2), np.zeros(1, np.float32)
    return Scored(Rollout(observation, flat, flat, flat, fast, fast, outcome, "", times, times, 0), 0.0, True)


def test_the_leaderboards_rule_looks_at_the_end_alone() -> None:
    spec = load_robot("double_pendulum/pendubot_lab")
    assert judged(rollout([np.pi + 0.3, -0.3, 0.9, -0.9]), spec) == Outcome(True, True)
    assert judged(rollout([-np.pi, 2 * np.pi, 0.0, 0.0]), spec).upright, "whole turns do not count"
    for end in ([np.pi + 0.4, 0, 0, 0], [np.pi, 0.4, 0, 0], [np.pi, 0, 1.1, 0], [np.pi, 0, 0, -1.1]):
        assert not judged(rollout(end), spec).upright
    assert not judged(rollout([np.pi, 0.0, 0.0, 0.0], "limit"), spec).upright


def test_the_page_tells_what_was_noted_with_its_interval(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "TWIN_SCORES", tmp_path / "twins.json")
    monkeypatch.setattr(twins, "score_twins", lambda file, count: counts(count))
    note_twins([file], 50)
    noted = json.loads((tmp_path / "twins.json").read_text())
    row = "| `pump.onnx` | 50 × pendubot_lab | over the last second | 0 [0, 7] | 90 [79, 96] |  |  |"
    assert row in markdown(noted)


def counts(count: int) -> dict[str, object]:
    return {"twins": count, "robot": "pendubot_lab", "success": [0, 45], "upright": [0, 45]}
