"""`acclimate run` in real time: a twin in a process of its own, the motor protocol over a pseudo-terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware_io.bundle import Bundle, read_bundle, write_bundle
from hardware_io.recording import read_recording
from hardware_io.run import main
from tests.conftest import PATIENCE, forgiving, in_real_time, pump_graph, wait_for_steps

pytest.importorskip("mujoco")
pytest.importorskip("serial")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def patient(pump: Bundle, tmp_path: Path) -> Path:
    """Leans to one side with 1 N·m, however long, and forgives a shared machine its pauses."""
    path = tmp_path / "patient.onnx"
    write_bundle(path, replace(pump, graph=pump_graph(bias=99.0), spec=forgiving(pump.spec)))
    return path


def process_of(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "hardware_io.run", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@in_real_time
def test_two_rollouts_on_a_twin(twin, patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, channel = twin
    log, told = tmp_path / "log.mcap", tmp_path / "summary.json"
    arguments = [str(patient), "--interface", "slcan", "--channel", channel, "--rollouts", "2", "--duration", "0.8"]
    arguments += ["--robot", "simple_pendulum", "--explore", "--record", str(log), "--json", str(told)]
    assert main(arguments) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("rollout 1: done, 20 steps · late p50")
    document = json.loads(told.read_text())
    assert document["robot"] == "simple_pendulum" and document["status"] == 0
    assert [rollout["steps"] for rollout in document["rollouts"]] == [20, 20]
    first, second = read_recording(log).rollouts()
    assert np.ptp(first.observation[:, 0]) > 0.1  # it moved
    assert second.fast_start.tolist() == [0, 0, 1]


@in_real_time
def test_a_dry_run_needs_no_motor_to_act(twin, patient: Path, tmp_path: Path) -> None:
    _, channel = twin
    log = tmp_path / "dry.mcap"
    arguments = [
        str(patient),
        "--channel",
        channel,
        "--duration",
        "0.4",
        "--explore",
        "--record",
        str(log),
        "--dry-run",
    ]
    assert main(arguments) == 0
    recording = read_recording(log)
    assert np.ptp(recording.column("/state", "position")) < 0.02
    assert np.abs(recording.column("/command", "torque")).max() > 0.01


@in_real_time
def test_a_twin_killed_in_a_rollout_stops_the_run_and_the_log_is_readable(twin, patient: Path, tmp_path: Path) -> None:
    process, channel = twin
    log = tmp_path / "log.mcap"
    with process_of(patient, "--channel", channel, "--duration", 250, "--rest", "anywhere", "--record", log) as run:
        wait_for_steps(log, 10, run)
        process.kill()
        _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1 and "stopped:" in said
    recording = read_recording(log)
    (rollout,) = recording.rollouts()
    assert rollout.outcome == "stop" and rollout.reason and rollout.steps >= 9
    assert recording.complete  # the run itself ended in order


@in_real_time
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_in_order(twin, patient: Path, tmp_path: Path, number: int, status: int) -> None:
    _, channel = twin
    log = tmp_path / "log.mcap"
    with process_of(patient, "--channel", channel, "--duration", 250, "--rest", "anywhere", "--record", log) as run:
        wait_for_steps(log, 5, run)
        run.send_signal(number)
        _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == status and "stopped" in said
    assert read_recording(log).rollouts()[0].outcome == "stop"


@pytest.mark.parametrize(
    "extra, said",
    [
        (["--robot", "double_pendulum"], "made for robot 'simple_pendulum', not for 'double_pendulum'"),
        (["--rollouts", "0"], "--rollouts: got 0; allowed: at least 1"),
        (["--duration", "0"], "--duration: got 0.0; allowed: at least one policy period, 0.04 s"),
        (["--rest", "sideways"], "--rest: got 'sideways'; allowed: one of hanging, upright, anywhere"),
        (["--channel", "/dev/no-such-adapter"], "cannot open interface 'slcan', channel '/dev/no-such-adapter'"),
        (["--record", "{file}"], "exists already; a log is never overwritten"),
    ],
)
def test_bad_input_is_refused(pump_file: Path, extra: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [item.format(file=pump_file) for item in extra]
    assert main([str(pump_file), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert read_bundle(pump_file)


def test_help_shows_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "of a rollout, s (the task's)" in " ".join(text.split()) and "how many (1)" in text
