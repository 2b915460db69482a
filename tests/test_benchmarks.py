"""The benchmarks run, pair what they compare and say what they measured on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.measure import compare, machine, rate, summary, take_turns, warning
from tests.conftest import in_real_time

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")
from benchmarks.run import line, main


def test_turns_alternate_and_the_first_does_not_count() -> None:
    called: list[str] = []

    def contestant(name: str) -> float:
        called.append(name)
        return float(len(called))

    values = take_turns({"a": lambda: contestant("a"), "b": lambda: contestant("b")}, turns=2)
    assert called == ["b", "a", "a", "b", "b", "a"]
    assert values == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_ratios_are_paired_turn_by_turn() -> None:
    """A pause that slows both alike in one turn leaves the ratio as it is."""
    values = {"ours": [300.0, 30.0, 300.0], "theirs": [100.0, 10.0, 100.0]}
    rates_and_ratio = compare("section", values, "steps/s", "ours", {"theirs": 2.5})
    assert [(f.name, f.value) for f in rates_and_ratio] == [("ours", 300), ("theirs", 100), ("ours / theirs", 3)]
    ratio = rates_and_ratio[-1]
    assert ratio.low == ratio.high == pytest.approx(3) and ratio.met
    assert "aim 2.5: met" in line(ratio)


def test_a_missed_aim_says_so() -> None:
    figure = summary("section", "ratio", [0.4, 0.5, 0.6], "ratio", aim=0.6)
    assert figure.document()["met"] is False and "aim 0.6: MISSED" in line(figure)


def test_rates_are_things_a_second() -> None:
    assert rate(lambda: sum(range(1000)), 10) > 0


def test_a_busy_machine_is_named() -> None:
    quiet = {**machine(), "cores": 2, "load": [0.3, 3.0, 3.0]}
    assert not warning(quiet)
    assert "load 1.7 on 2 cores" in warning({**quiet, "load": [1.7, 0.0, 0.0]})


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("ppo", ["PPO update / SB3 PPO.train", "RL² update (GRU) / RecurrentPPO.train (LSTM)"]),
        ("off_policy", ["SAC update / SB3 SAC.train", "PEARL gradient steps", "append, on disk", "size on disk"]),
        ("meta", ["MAML meta-gradient / a loop over tasks"]),
        ("training", ["share of wall-clock in which workers simulate"]),
        ("inference", ["Policy.step, 1 thread: p50", "Policy.step, 1 thread: p99"]),
        pytest.param(
            "env",
            ["vector env / bullet bound", "vector env / SubprocVecEnv", "vector env / AsyncVectorEnv"],
            marks=pytest.mark.slow,
        ),
        pytest.param("loop", ["one tick", "control loop: late p50"], marks=[pytest.mark.slow, in_real_time]),
    ],
)
def test_each_part_runs_and_writes_json(
    part: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert main(["--quick", "--only", part, "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    figures = {figure["name"]: figure for figure in document["figures"]}
    printed = capsys.readouterr().out
    for name in expected:
        assert figures[name]["value"] > 0 and name in printed
    assert document["machine"]["cores"] >= 1 and len(document["machine"]["load"]) == 3


def test_lanes_that_cannot_be_shared_out_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--lanes", "7"])
    assert "--lanes: got 7; allowed: a multiple of 2 x workers = 4" in capsys.readouterr().err
