"""The demo's own pieces: what it counts and what it prints. The whole demo is `make demo`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cli
from adapt.scored import Scored
from export import demo
from hardware_io.recording import Rollout


def scored(value: float, success: bool = False, outcome: str = "done", reason: str = "") -> Scored:
    empty = np.zeros((0, 1), np.float32)
    times, fast = np.zeros(0), np.zeros(1, np.float32)
    return Scored(Rollout(empty, empty, empty, empty, fast, fast, outcome, reason, times, times, 0), value, success)


def test_percentiles() -> None:
    assert demo.percentiles(np.arange(101.0)) == {"p50": 50.0, "p99": 99.0}
    assert demo.percentiles(np.array([1.26])) == {"p50": 1.3, "p99": 1.3}


def test_a_rollout_in_words() -> None:
    assert demo.describe(scored(12.34, True)) == "return 12.3, success"
    assert demo.describe(scored(1.0)) == "return 1.0, failed"
    assert demo.describe(scored(1.0, outcome="limit", reason="shoulder too fast")) == "return 1.0, shoulder too fast"
    assert demo.plain(scored(12.345, True)) == {"return": 12.35, "success": True, "outcome": "done"}


def document(accepted: bool) -> dict[str, object]:
    def plain(value: float, success: bool) -> dict[str, object]:
        return {"return": value, "success": success, "outcome": "done"}

    def share(*means: float) -> dict[str, object]:
        return {"success": [(mean, mean, mean) for mean in means], "return": []}

    return {
        "rollouts": {
            "rl2": [plain(20.0, False), plain(50.0, False), plain(60.0, True), plain(70.0, True)],
            "domain_randomised": [plain(40.0, False)],
            "oracle": [plain(80.0, True)],
        },
        "lockstep": {
            "robots": 16,
            "learners": {"rl2": share(0.5, 0.6, 0.7, 1.0), "domain_randomised": share(0.25), "oracle": share(1.0)},
        },
        "stops": [],
        "gate": {"accepted": accepted, "reason": "return 70.0 against 20.0 un-adapted"},
        "latency_us": {"p50": 21.0, "p99": 40.0},
        "lateness_us": {"p50": 60.0, "p99": 100.0, "max": 300.0},
        "missed": 1,
        "ticks": 2000,
    }


def test_the_result_in_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    demo.print_table(document(accepted=True))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0] == ["return", "success", "success", "on", "16", "twins"]
    assert lines[1] == ["RL²", "before", "adaptation", "20.0", "no", "50%"]
    assert lines[2] == ["RL²", "after", "adaptation", "70.0", "yes", "100%"]
    assert lines[3] == ["no", "memory", "(baseline)", "40.0", "no", "25%"]
    assert lines[4] == ["oracle", "80.0", "yes", "100%"]
    assert " ".join(lines[5]) == "gate: deployed (return 70.0 against 20.0 un-adapted)"
    assert " ".join(lines[6]).endswith("ticks late by 60 µs (p99 100, max 300), 1 of 2000 missed")
    demo.print_table(document(accepted=False) | {"stops": ["oracle: 9 deadlines missed", "rl2: no answer"]})
    said = capsys.readouterr().out
    assert "gate: rolled back (" in said
    assert said.endswith("watchdogs and begun again:\n  oracle: 9 deadlines missed\n  rl2: no answer\n")


def test_a_stage_is_timed_and_announced(capsys: pytest.CaptureFixture[str]) -> None:
    watch = demo.Stopwatch()
    with watch.stage("train", "1/4 train"):
        pass
    assert watch.seconds == {"train": 0.0} and "1/4 train" in capsys.readouterr().out


def test_a_checkout_without_the_trained_files_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "ZOO", {"oracle": tmp_path / "oracle.onnx"})
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "oracle.onnx" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()
