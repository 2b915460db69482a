"""The double pendulum's report: it holds the figures, says what was skipped and why, and shows what was scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapt.report_bars import Bar, Cell, bars, strip
from adapt.robot_model import RobotModel
from adapt.windows import windows
from benchmarks import real_logs, simple_logs
from benchmarks.double_pendulum import real
from benchmarks.double_pendulum.__main__ import PUBLISHED
from benchmarks.double_pendulum.clips import Clip, swing_ups, thinned, torques
from benchmarks.double_pendulum.lqr import Zero
from benchmarks.double_pendulum.performance import NORMS, Costs, shares
from benchmarks.double_pendulum.real import RealLogs, markdown, sections
from benchmarks.double_pendulum.report import write_report
from benchmarks.double_pendulum.report_scores import PARTS, performance, robustness
from benchmarks.double_pendulum.robustness import CATEGORIES
from benchmarks.overlay import figures, typical
from hardware_io.config import ConfigError, read_yaml
from hardware_io.motion_log import MotionLog
from sim.robots import load_robot

DOUBLE = {
    "groups": {"excitation": {"windows": 7, "reference": 0.0665, "excitation": [0.5, 0.8], "one more": [0.4, 0.9]}},
    "mean": {"excitation": [0.5, 0.8], "one more": [0.4, 0.9]},
}
SIMPLE = {
    "logs": [
        {"log": "light", "made_from": ["other"], "windows": 4, "as shipped": 0.25, "calibrated": 0.125},
        {"log": "heavy", "made_from": ["light", "other"], "windows": 5, "as shipped": 0.5, "calibrated": 0.3,
         "adapted": 0.0625},
    ],
    "taught": 10.0,
    "moment": {"light": 0.4, "heavy": 0.7},
    "weights": {"light": 0.57, "heavy": 1.0},
}  # fmt: skip
FOUND: dict[str, Any] = {"double_pendulum": DOUBLE, "simple_pendulum": SIMPLE}


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return RobotModel(load_robot("simple_pendulum"))


def swinging() -> MotionLog:
    time = np.arange(0.0, 2.0, 0.005)
    position = np.sin(3 * time)[:, None]
    return MotionLog("swing", time, position, 3 * np.cos(3 * time)[:, None], np.zeros((len(time), 1)), None)


def test_tables_hold_what_was_kept() -> None:
    text = markdown(FOUND)
    assert "| excitation | 7 | 0.0665 | 0.63 | 0.80 | 0.60 | 0.90 |" in text  # √(0.5 · 0.8), √(0.4 · 0.9)
    assert "| aim for the mean |  |  | at most 0.7 | met | at most 0.5 | missed |" in text
    assert "| aim for each group |  |  | at most 1 | met |  |  |" in text
    assert "| heavy | light, other | 5 | 0.500 | 0.300 | 0.062 |" in text
    assert "from 0.400 to 0.700 kg·m, 1.75 times" in text
    assert markdown({}) == ""


def test_without_logs_the_last_figures_are_shown_and_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real, "KEPT", tmp_path / "kept.json")
    nothing = sections(real.measured(""))
    assert all("no folder of real logs was given" in section.body for section in nothing)
    (tmp_path / "kept.json").write_text(json.dumps(FOUND))
    for section, figure in zip(sections(real.measured("")), ("0.0665", "0.125"), strict=True):
        assert "no folder of real logs was given" in section.body and figure in section.body


def test_with_logs_nothing_is_said_to_be_skipped(model: RobotModel) -> None:
    overlay = typical(model, "swing", list(windows(swinging())), {"as shipped": model.mean})
    double, simple = sections(RealLogs(FOUND, {"simple_pendulum": [overlay]}))
    assert "Skipped" not in double.body + simple.body
    assert "<svg" in simple.body and "swing: shoulder" in simple.body and "<svg" not in double.body


def test_the_typical_window_is_the_median_of_the_last_prediction(model: RobotModel) -> None:
    found = list(windows(swinging()))
    overlay = typical(model, "swing", found, {"as shipped": model.mean})
    foreseen = overlay.foreseen["as shipped"]
    assert foreseen.shape == overlay.measured.shape == (len(overlay.time), 1)
    assert foreseen[0] == overlay.measured[0]
    errors = [typical(model, "", [window], {"x": model.mean}) for window in found]
    off = sorted(float(np.sqrt(np.mean((o.foreseen["x"] - o.measured)[1:] ** 2))) for o in errors)
    own = float(np.sqrt(np.mean((foreseen - overlay.measured)[1:] ** 2)))
    assert own == pytest.approx(off[len(off) // 2])
    assert figures([overlay]).count('class="line"') == 2


@pytest.mark.parametrize("measure", [real_logs.measure, simple_logs.measure])
def test_a_folder_without_logs_is_named(measure: Any, tmp_path: Path) -> None:
    (tmp_path / "score_logs.py").write_text("")
    (tmp_path / "logs").mkdir()
    with pytest.raises(ConfigError, match=r"pendulum.*at least"):
        measure(tmp_path / "logs")


def test_the_moment_of_weight_is_that_of_the_bodies_over_the_gain(model: RobotModel) -> None:
    values = model.mean.copy()
    values[model.names.index("payload")] = 2.0
    values[model.names.index("torque_gain.shoulder")] = 0.8
    by_hand = (0.32 * 0.3 + 2 * 0.25 * 0.5) / 0.8  # arm and weight of the robot's file
    assert simple_logs.moment_of_weight(model, values) == pytest.approx(by_hand)


def test_clips_show_the_plain_run_the_bumps_the_longest_delay_and_a_failure() -> None:
    results = {"delay": {"failed": ["38 ms", "40 ms"]}, "model": {"failed": ["cf2 0.2", "m2 0.8"]}}
    clips = swing_ups(Zero(), 0, results)
    assert [clip.label.partition(":")[0] for clip in clips] == [
        "undisturbed", "strongest bumps", "delay of 36 ms", "plant with cf2 0.2",
    ]  # fmt: skip
    assert all("not upright" in clip.label for clip in clips)
    assert not clips[0].state.any() and clips[0].height[0] == pytest.approx(-0.5)
    assert np.abs(clips[1].state).max() > 0.1


def test_a_clip_is_thinned_to_the_ticks_of_a_policy() -> None:
    clip = thinned(Clip("", np.arange(44.0).reshape(11, 4), np.arange(11.0)), 5)
    assert clip.state[:, 0].tolist() == [0, 20, 40]
    command = torques(clip)
    assert command is not None and command.tolist() == [[0], [5]]


def test_shares_of_costs_are_those_of_the_formula() -> None:
    found = shares(Costs(20.0, 0.0, 10.0, 0.1, 400.0))
    assert found == pytest.approx([np.tanh(np.pi), 0.0, np.tanh(np.pi / 2), np.tanh(np.pi), np.tanh(np.pi)])
    assert NORMS.torque_cost == 20.0


def test_bars_and_strips_say_what_they_show() -> None:
    drawn = bars("score", [Bar("mine <b>", 0.25, ours=True), Bar("theirs", 2.0, text="2 J")])
    assert "width:25.0%" in drawn and "width:100.0%" in drawn
    assert "mine &lt;b&gt;" in drawn and "0.250" in drawn and "2 J" in drawn
    row = strip("m2", "0.4", "0.8", [Cell("m2 0.4", False, True), Cell("m2 0.6", True), Cell("m2 0.8", False)])
    assert "1 of 3" in row and 'title="m2 0.4: failed"' in row
    assert row.count('class="passed"') == row.count('class="failed"') == row.count('class="failed beyond"') == 1


def test_scores_stand_beside_aims_published_ones_and_the_values_that_fail() -> None:
    results: dict[str, Any] = {column: {"score": 0.375, "failed": []} for column in CATEGORIES}
    results["model"]["failed"] = ["m2 0.782"]
    results["delay"]["failed"] = ["38 ms", "40 ms"]
    results |= {"robustness": {"score": 0.96}, "performance": {"score": 0.3}, "global": {"score": 0.9}}
    ceiling = {column: {"score": 1.0, "failed": ["40 ms"]} for column in (*CATEGORIES, "robustness")}
    text = robustness("mine", "pendubot", results, read_yaml(PUBLISHED)["pendubot"], ceiling)
    assert "robustness, aim 0.95 met" in text and "performance, aim 0.70 missed" in text
    assert text.count("<em>0.375</em>") == len(CATEGORIES) and "0.913" in text
    assert 'class="failed" title="m2 0.782: failed"' in text and "m2: 20 of 21 passed" in text
    assert 'class="failed" title="38 ms: failed"' in text and 'class="failed beyond" title="40 ms: failed"' in text
    assert text.count(": passed") == 10 * 21 + 4 * 21 + 50 - 3


def test_costs_stand_beside_published_ones() -> None:
    parts = dict(zip(PARTS, (1.5, 30.0, 10.0, 0.05, 200.0), strict=True))
    published = read_yaml(PUBLISHED)["acrobot"]
    text = performance("mine", {"performance": {"score": 0.125, **parts}}, published)
    assert f"width:{100 * np.tanh(np.pi / 2):.1f}%" in text  # half of the norm
    assert "0.125" in text and "0.655" in text and "8.08" in text and "swing up time, s" in text


def test_a_robot_without_a_file_is_said_to_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, {}, {}, {}, {}, RealLogs(FOUND))
    text = path.read_text()
    assert text.count("Skipped: no file of this robot was scored.") == 2
    assert "0.0665" in text and "http" not in text.replace("http-equiv", "")
