"""Evaluation on twins: hidden robots behind the driver and the loop, in lockstep and in real time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cli
from adapt.scored import Scored
from adapt.twins import FIRST_SEED, TwinScore, column, lesson, lockstep, real_time, start_fast, summarise
from hardware_io.bundle import Bundle, write_bundle
from hardware_io.recording import Rollout
from hardware_io.runtime import Policy
from sim.dynamics import DynamicsRange
from sim.twin import draw_dynamics
from tests.adapt.on_twin import exported
from tests.conftest import forgiving, in_real_time, pump_graph

pytest.importorskip("mujoco")
SHORT = {"name": "swing_up", "duration": 0.8, "hold": 0.2}  # 20 steps
ROBOT = "simple_pendulum"


@pytest.fixture
def short(pump: Bundle) -> Bundle:
    return replace(pump, task=SHORT, spec=forgiving(pump.spec))


def test_a_robot_in_lockstep_is_the_same_each_time(short: Bundle) -> None:
    first, second, other = (lockstep(short, seed, 2, ROBOT) for seed in (3, 3, 4))
    assert first.seed == 3 and first.failure == "" and len(first.rollouts) == 2
    for one, two in zip(first.rollouts, second.rollouts, strict=True):
        assert np.array_equal(one.rollout.observation, two.rollout.observation)
        assert one.value == two.value and one.rollout.outcome == "done" and one.rollout.steps == 20
    assert not np.array_equal(first.rollouts[0].rollout.observation, other.rollouts[0].rollout.observation)


def test_what_is_kept_is_carried_from_rollout_to_rollout(short: Bundle) -> None:
    learning = replace(short, graph=pump_graph(learning=0.05), fast=np.zeros(3, np.float32))
    starts = [one.rollout.fast_start.tolist() for one in lockstep(learning, 3, 3, ROBOT).rollouts]
    assert starts == [[0, 0, 0], [0, 0, pytest.approx(1.0)], [0, 0, pytest.approx(2.0)]]


@pytest.mark.parametrize("name", ["maml", "latent_search"])
def test_what_adapts_beside_the_loop_has_lessons_between_the_rollouts_that_are_scored(name: str) -> None:
    bundle = exported(name)
    assert lesson(bundle) == 2
    first, again = (lockstep(bundle, 3, 3, ROBOT) for _ in range(2))
    starts = [one.rollout.fast_start for one in first.rollouts]
    assert first.failure == "" and np.array_equal(starts[0], bundle.fast)
    assert not np.array_equal(starts[0], starts[1]) and not np.array_equal(starts[1], starts[2])
    assert not any(one.rollout.noise.any() for one in first.rollouts)
    for one, two in zip(first.rollouts, again.rollouts, strict=True):
        assert np.array_equal(one.rollout.fast_start, two.rollout.fast_start) and one.value == two.value


def test_without_learning_weights_there_are_no_lessons(short: Bundle) -> None:
    assert lesson(short) == 0


def test_a_robot_that_stops_is_a_failure_with_the_rollouts_before_it(short: Bundle) -> None:
    runaway = replace(short, graph=pump_graph(learning=1e38), fast=np.zeros(3, np.float32))
    score = lockstep(runaway, 3, 3, ROBOT)  # the gain overflows in the first rollout
    assert score.rollouts == [] and "next_fast, [2]: got inf" in score.failure
    later = replace(short, graph=pump_graph(learning=1e37), fast=np.zeros(3, np.float32))
    score = lockstep(later, 3, 3, ROBOT)  # 20 steps a rollout: in the second, after 34
    assert len(score.rollouts) == 1 and "next_fast, [2]: got inf" in score.failure


def test_only_an_oracle_is_told_the_hidden_parameters_on_the_scale_it_was_trained_on(short: Bundle) -> None:
    ranges = DynamicsRange.of(short.spec)
    size = len(ranges) + 1  # and the previous action
    oracle = replace(short, learner="oracle", fast=np.full(size, 9, np.float32), kept=np.arange(size) < len(ranges))
    policy = Policy(short)
    assert start_fast(policy, 3, "train") is policy.fast0
    policy.bundle, policy.fast0 = oracle, oracle.fast
    known = start_fast(policy, 3, "train")
    low, high = ranges.bounds("train").T
    hidden = draw_dynamics(short.spec, 3, "train")
    varies = high > low
    expected = (2 * (hidden - low) / np.where(varies, high - low, 1) - 1)[varies]
    np.testing.assert_allclose(known[:-1][varies], expected, atol=1e-5)
    assert np.abs(known[:-1][varies]).max() <= 1 and known[-1] == 9 and known.dtype == np.float32
    outside = start_fast(policy, 3, "outside")
    assert np.abs(outside[:-1][varies]).max() > 1


def test_rollouts_that_never_were_count_as_failed(short: Bundle) -> None:
    whole = lockstep(short, 3, 2, ROBOT)
    won = TwinScore(1, [replace(one, success=True, value=10.0) for one in whole.rollouts], "")
    cut = TwinScore(2, [replace(whole.rollouts[0], success=True, value=10.0)], "no answer")
    summary = summarise([won, cut], 2)
    assert summary["robots"] == 2
    assert [mean for mean, _, _ in summary["success"]] == [1.0, 0.5]
    assert [mean for mean, _, _ in summary["return"]] == [10.0, 5.0]
    assert summary["failed"] == [{"seed": 2, "failure": "no answer"}]


def test_the_command_tells_and_writes_what_three_twins_did(
    short: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "pump.onnx", short)
    out = tmp_path / "twins.json"
    arguments = [str(tmp_path / "pump.onnx"), "--twins", "3", "--rollouts", "2", "--workers", "1", "--out", str(out)]
    assert cli.main(["evaluate", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["after 0 rollouts", "after 1 rollouts"]
    result = json.loads(out.read_text())
    assert result["file"] == "pump.onnx" and result["robots"] == 3 and result["real_time"] is False
    assert len(result["success"]) == len(result["return"]) == 2
    assert [one["seed"] for one in result["failed"]] == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]  # too short to win
    values = [lockstep(short, FIRST_SEED + i, 2, ROBOT).rollouts[0].value for i in range(3)]
    assert result["return"][0][0] == pytest.approx(np.mean(values))


def test_a_robot_that_does_not_ship_is_named(short: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "pump.onnx", short)
    arguments = ["evaluate", str(tmp_path / "pump.onnx"), "--twins", "1", "--workers", "1", "--robot", "toaster"]
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: robot: name: got 'toaster'") and message.count("\n") == 1


@in_real_time
def test_a_twin_in_real_time(short: Bundle) -> None:
    pytest.importorskip("serial")
    score = real_time(short, 3, 2, ROBOT)
    assert score.failure == "" and [one.rollout.steps for one in score.rollouts] == [20, 20]
    assert np.ptp(score.rollouts[0].rollout.observation[:, 0]) > 0.01
    with pytest.raises(RuntimeError, match="twin toaster seed 3: did not start"):
        real_time(short, 3, 1, "toaster")


def test_a_rollout_that_never_was_counts_as_nothing() -> None:
    def scored(value: float, success: bool = False) -> Scored:
        empty, times, fast = np.zeros((0, 1), np.float32), np.zeros(0), np.zeros(1, np.float32)
        return Scored(Rollout(empty, empty, empty, empty, fast, fast, "done", "", times, times, 0), value, success)

    whole = TwinScore(1, [scored(float(k), k > 1) for k in range(4)], "")
    cut = TwinScore(2, [scored(7.0)], "joint shoulder: no answer")
    assert column([whole, cut], "value", 4).tolist() == [[0, 7], [1, 0], [2, 0], [3, 0]]
    assert column([whole, cut], "success", 4).tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]
