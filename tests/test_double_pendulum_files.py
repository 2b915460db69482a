"""Files and controllers that the double pendulum's benchmark scores: their period, what is refused, the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.double_pendulum.__main__ import PUBLISHED, load, main, show
from benchmarks.double_pendulum.graph import GraphController
from benchmarks.double_pendulum.lqr import Lqr
from benchmarks.double_pendulum.page import markdown
from benchmarks.double_pendulum.robustness import CATEGORIES
from hardware_io.bundle import Bundle, write_bundle
from hardware_io.config import ConfigError, read_yaml
from hardware_io.spec import Period, RobotSpec
from sim.robots import load_robot
from tests.conftest import pump_graph


@pytest.fixture(scope="module")
def leaning() -> Bundle:
    """A pendubot's file: 1 N·m · tanh(2 · q2), with a count of decisions in its fast state, every 10 ms."""
    spec = load_robot("double_pendulum/pendubot")
    spec = replace(spec, period=Period(policy=0.01, io=0.01))
    return Bundle(
        graph=pump_graph(observation=5),
        spec=spec,
        task={"name": "swing_up"},
        learner="pump",
        fast=np.array([0.0, 0.0, 1.0], np.float32),
        kept=np.zeros(3, dtype=bool),
    )


def test_a_file_decides_at_its_period_and_holds_in_between(leaning: Bundle) -> None:
    controller, rng = GraphController(leaning), np.random.default_rng(0)
    measured, everybody = rng.standard_normal((11, 4, 3)), np.ones(3, dtype=bool)
    controller.start(3)
    for step in range(11):
        torque = controller.torque(measured[step], step, everybody)
        decided = measured[step // 5 * 5]
        np.testing.assert_allclose(torque, np.tanh(2 * decided[1]), rtol=1e-5)
        np.testing.assert_array_equal(controller._fast[:, 1], step // 5 + 1)


def test_a_pause_delays_no_tick_after_it(leaning: Bundle) -> None:
    """Asked again at step 7, it decides at once, and then at 10, as the control loop does after missed ticks."""
    controller, decisions = GraphController(leaning), []
    controller.start(2)
    for step in range(16):
        controller.torque(np.ones((4, 2)), step, np.array([True, not 3 <= step < 7]))
        decisions.append(controller._fast[:, 1].tolist())
    counts = np.array(decisions)
    assert np.flatnonzero(np.diff(counts[:, 0], prepend=0)).tolist() == [0, 5, 10, 15]
    assert np.flatnonzero(np.diff(counts[:, 1], prepend=0)).tolist() == [0, 7, 10, 15]


def test_observations_follow_the_channels_of_the_file(leaning: Bundle) -> None:
    channels = tuple(reversed(leaning.spec.channels))
    controller = GraphController(replace(leaning, spec=replace(leaning.spec, channels=channels)))
    observation = controller._observe(np.arange(8.0).reshape(4, 2), np.array([True, False]))
    assert observation.tolist() == [[1, 4, 6, 0, 2], [0, 5, 7, 1, 3]]


def bad_period(spec: RobotSpec) -> RobotSpec:
    return replace(spec, period=Period(policy=0.015, io=0.015))


def bad_pose(spec: RobotSpec) -> RobotSpec:
    return replace(spec, poses={"hanging": (0.0, 0.0), "upright": (0.0, 0.0)})


def bad_channel(spec: RobotSpec) -> RobotSpec:
    start = next(channel for channel in spec.channels if channel.source == "rollout_start")
    others = [channel for channel in spec.channels if channel is not start]
    return replace(spec, channels=(*others, replace(start, name="reward", source="previous_reward")))


@pytest.mark.parametrize(
    ("change", "key"), [(bad_period, "period.policy"), (bad_pose, "poses.upright"), (bad_channel, "reward")]
)
def test_a_file_that_does_not_fit_is_refused(
    leaning: Bundle, change: Callable[[RobotSpec], RobotSpec], key: str
) -> None:
    with pytest.raises(ConfigError, match=key):
        GraphController(replace(leaning, spec=change(leaning.spec)))


def test_other_robots_are_refused(
    pump_file: Path, leaning: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(pump_file)]) == 2
    assert "two joints" in capsys.readouterr().err
    write_bundle(tmp_path / "leaning.onnx", leaning)
    assert main(["score", str(tmp_path / "leaning.onnx"), "--robot", "acrobot"]) == 2
    assert "pendubot" in capsys.readouterr().err
    assert main(["score", "lqr"]) == 2
    assert main(["score", "nowhere:make", "--robot", "acrobot"]) == 2
    assert "nowhere:make" in capsys.readouterr().err


def test_a_controller_of_a_module_is_scored() -> None:
    controller, acting = load("benchmarks.double_pendulum.lqr:Lqr", "acrobot")
    assert isinstance(controller, Lqr) and acting == 1


def test_command_prints_tables_and_documents(
    leaning: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "leaning.onnx"
    write_bundle(file, leaning)
    assert main(["score", str(file), "--categories", "response", "performance", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["robot"] == "pendubot" and document["response"]["score"] == 0.0
    assert document["performance"]["score"] == 0.0 and "robustness" not in document
    show("leaning.onnx", "pendubot", document)
    printed = capsys.readouterr().out
    assert "AR-EAPO" in printed and "0.913" in printed and "failed, response" in printed


def test_the_page_holds_scores_beside_aims_and_published_ones() -> None:
    results = {column: {"score": 0.5, "failed": ["x 1"] if column == "model" else []} for column in CATEGORIES}
    results |= {"robustness": {"score": 0.96}, "performance": {"score": 0.3}, "global": {"score": 0.9}}
    published = read_yaml(PUBLISHED)
    text = markdown({"pendubot": ("mine.onnx", results)}, published, {})
    assert "| **`mine.onnx`** | **0.500** |" in text and "- failed, model: x 1" in text
    assert "| robustness | 0.960 | 0.95 | met | AR-EAPO 0.913, evolsac 0.786, History SAC 0.770 |" in text
    assert "| performance | 0.300 | 0.70 | **missed** | History SAC 0.682, AR-EAPO 0.659 |" in text
