"""Adaptation on a robot: what the gate lets through, what is deployed, and every way in which nothing is."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cli
from adapt.online import Adaptation, Scored, adapt_on_robot, deploy, free_name, gate, scored, task_of
from hardware_io.bundle import Bundle, read_bundle, write_bundle
from hardware_io.clock import VirtualClock
from hardware_io.config import ConfigError
from hardware_io.drivers import make_driver
from hardware_io.loop import ControlLoop
from hardware_io.recording import Rollout, read_recording
from hardware_io.run import rest_of
from hardware_io.runtime import Policy
from tests.conftest import PATIENCE, ROOT, forgiving, in_real_time, pump_graph, wait_for_steps

pytest.importorskip("mujoco")
pytest.importorskip("serial")
SHORT = {"name": "swing_up", "duration": 0.8, "hold": 0.2}  # 20 steps
QUIET = {"latency": 0.01, "base_tilt": 0.0, "payload": 1.0}


def rollout_of(steps: int, angle: float = 0.0, outcome: str = "done", reason: str = "") -> Rollout:
    """A rollout at rest at one angle, rad, with no torque."""
    observation = np.zeros((steps + 1, 3), np.float32)
    observation[:, 0], observation[0, 2] = angle, 1.0
    flat = np.zeros((steps, 1), np.float32)
    fast = np.zeros(3, np.float32)
    times = np.zeros(steps)
    return Rollout(observation, flat, flat, flat, fast, fast, outcome, reason, times, times, 0)


def score(value: float, success: bool = False, outcome: str = "done") -> Scored:
    return Scored(rollout_of(1, outcome=outcome, reason="joint shoulder beyond" * (outcome != "done")), value, success)


@pytest.mark.parametrize(
    ("before", "after", "accepted", "why"),
    [
        (score(10), score(12), True, "return 12.0 against 10.0 un-adapted"),
        (score(10), score(9.6), True, "return 9.6"),  # within the noise
        (score(10), score(9.4), False, "worse than un-adapted; return 9.4 against 10.0"),
        (score(-10), score(-10.6), False, "worse than un-adapted"),
        (score(10), score(5, success=True), True, "return 5.0"),  # success counts more than return
        (score(10, success=True), score(20), False, "succeeded and the adapted one did not; return 20.0"),
        (score(10, success=True), score(9, success=True), False, "worse than un-adapted"),
        (score(10), score(20, outcome="limit"), False, "left the limits (joint shoulder beyond); return 20.0"),
        (score(1, outcome="limit"), score(2), True, "return 2.0 against 1.0"),
    ],
)
def test_the_gate(before: Scored, after: Scored, accepted: bool, why: str) -> None:
    verdict, reason = gate(before, after)
    assert verdict is accepted and why in reason


def test_a_rollout_is_scored_by_the_task_and_one_that_ended_early_has_failed(pump: Bundle) -> None:
    task = task_of(replace(pump, task=SHORT))
    upright = scored(task, rollout_of(20, np.pi))
    assert upright.success and upright.value == pytest.approx(20.0)  # 1 a step at the goal, at rest
    hanging = scored(task, rollout_of(20, 0.0))
    assert not hanging.success and abs(hanging.value) < 0.01
    short = scored(task, rollout_of(19, np.pi, outcome="limit"))
    assert not short.success and short.value == pytest.approx(19.0)
    assert not scored(task, rollout_of(20, np.pi, outcome="limit")).success
    assert scored(task, rollout_of(0, np.pi, outcome="limit")).value == 0.0
    with pytest.raises(ConfigError, match="'fly'"):
        task_of(replace(pump, task={"name": "fly"}))


def learning(pump: Bundle, start: float, rate: float) -> Bundle:
    """Leans to one side with a torque, N·m, of `start` that changes by `rate` a step; the torque is what is kept."""
    fast = np.array([0.0, 0.0, start], np.float32)
    return replace(pump, graph=pump_graph(learning=rate, bias=99.0), spec=forgiving(pump.spec), task=SHORT, fast=fast)


def lockstep_loop(bundle: Bundle) -> ControlLoop:
    from sim.twin import LockstepBus, Twin, draw_dynamics

    clock = VirtualClock()
    twin = Twin(bundle.spec, draw_dynamics(bundle.spec, 0, fixed=QUIET))
    robot = make_driver("can_mit", bundle.spec, clock, bus=LockstepBus(twin, clock))
    return ControlLoop(Policy(bundle), robot, clock, rest=rest_of(bundle.spec, None))


def adapt_in_lockstep(bundle: Bundle, rollouts: int = 2) -> tuple[Adaptation, list[int]]:
    told: list[int] = []
    loop = lockstep_loop(bundle)
    with loop.session():
        result = adapt_on_robot(loop, task_of(bundle), rollouts, lambda number, one: told.append(number))
    return result, told


def test_fast_is_carried_and_the_last_rollout_tries_what_is_deployed(pump: Bundle, tmp_path: Path) -> None:
    bundle = learning(pump, 0.0, 0.02)
    result, told = adapt_in_lockstep(bundle)
    assert told == [0, 1, 2]
    starts = [one.rollout.fast_start.tolist() for one in result.rollouts]
    assert starts == [[0, 0, 0], [0, 0, pytest.approx(0.4)], [0, 0, pytest.approx(0.8)]]  # 20 steps of 0.02 each
    assert result.candidate is not None and result.candidate.tolist() == starts[-1]
    assert result.accepted and result.rollouts[-1].value > result.rollouts[0].value + 0.1
    deploy(bundle, result, tmp_path / "adapted.onnx")
    adapted = read_bundle(tmp_path / "adapted.onnx", "simple_pendulum")
    assert adapted.graph == bundle.graph and adapted.spec == bundle.spec
    assert adapted.fast.tolist() == result.candidate.tolist()
    assert adapted.provenance["seed"] == 0 and adapted.provenance["adapted"]["rollouts"] == 2
    assert adapted.provenance["adapted"]["returns"] == [one.value for one in result.rollouts]
    again, _ = adapt_in_lockstep(replace(adapted, spec=bundle.spec))
    assert again.rollouts[0].rollout.fast_start.tolist() == result.candidate.tolist()


def test_what_got_worse_is_not_deployed(pump: Bundle, tmp_path: Path) -> None:
    bundle = learning(pump, 1.2, -0.03)
    result, _ = adapt_in_lockstep(bundle)
    assert not result.accepted and result.reason.startswith("worse than un-adapted")
    with pytest.raises(ValueError, match=r"adapted.onnx: not deployed: worse"):
        deploy(bundle, result, tmp_path / "adapted.onnx")
    assert not list(tmp_path.iterdir())


def test_an_adapted_file_that_cannot_be_written_is_named(pump: Bundle, tmp_path: Path) -> None:
    bundle = learning(pump, 0.0, 0.02)
    result, _ = adapt_in_lockstep(bundle, 1)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"file/adapted.onnx: document: got '.*'; allowed: a file that can be"):
        deploy(bundle, result, tmp_path / "file" / "adapted.onnx")


def test_a_log_is_never_written_over(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        names.append(free_name(tmp_path / "pump.adapt.mcap"))
        names[-1].touch()
    assert [name.name for name in names] == ["pump.adapt.mcap", "pump.adapt-2.mcap", "pump.adapt-3.mcap"]


@in_real_time
@pytest.mark.parametrize(("start", "rate", "status"), [(0.0, 0.02, 0), (1.2, -0.03, 3)])
def test_the_command_on_a_twin(
    twin: tuple[subprocess.Popen, str],
    pump: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    start: float,
    rate: float,
    status: int,
) -> None:
    source, bundle = tmp_path / "pump.onnx", learning(pump, start, rate)
    write_bundle(source, bundle)
    before, verdict = source.read_bytes(), tmp_path / "verdict.json"
    arguments = ["adapt", str(source), "--channel", twin[1], "--rollouts", "2", "--json", str(verdict)]
    assert cli.main(arguments) == status
    said = capsys.readouterr().out
    assert said.startswith("rollout 0 (un-adapted): return ") and "rollout 2 (judged): return " in said
    document = json.loads(verdict.read_text())
    assert document["status"] == status and document["accepted"] is (status == 0) and len(document["returns"]) == 3
    recording = read_recording(tmp_path / "pump.adapt.mcap")
    assert recording.complete and [rollout.outcome for rollout in recording.rollouts()] == ["done"] * 3
    assert recording.messages[-1].values["event"] == "gate" and recording.metadata["task"] == SHORT
    assert source.read_bytes() == before
    target = tmp_path / "pump.adapted.onnx"
    if status == 0:
        assert f"deployed {target}: return " in said
        adapted = read_bundle(target)
        assert adapted.graph == bundle.graph and adapted.fast == pytest.approx([0, 0, 0.8])
    else:
        assert f"rolled back: worse than un-adapted; return {document['returns'][2]:.1f}" in said
        assert not target.exists()


def little_space() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


@in_real_time
@pytest.mark.parametrize(
    ("status", "said", "prepare", "interfere"),
    [
        (1, "stopped: ", None, lambda run, twin: twin.kill()),
        (1, "File too large after", little_space, lambda run, twin: None),
        (130, "stopped: interrupted (Ctrl-C)", None, lambda run, twin: run.send_signal(signal.SIGINT)),
        (143, "stopped: asked to end (SIGTERM)", None, lambda run, twin: run.send_signal(signal.SIGTERM)),
    ],
    ids=["robot gone", "disk full", "Ctrl-C", "SIGTERM"],
)
def test_a_stop_deploys_nothing_and_leaves_a_log(
    twin: tuple[subprocess.Popen, str],
    pump: Bundle,
    tmp_path: Path,
    status: int,
    said: str,
    prepare: Callable[[], None] | None,
    interfere: Callable[[subprocess.Popen, subprocess.Popen], None],
) -> None:
    source, log = tmp_path / "pump.onnx", tmp_path / "pump.adapt.mcap"
    write_bundle(source, replace(learning(pump, 1.0, 0.0), task={"name": "swing_up", "duration": 250.0}))
    before = source.read_bytes()
    command = [sys.executable, "-m", "cli", "adapt", str(source), "--channel", twin[1]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=prepare) as run:
        wait_for_steps(log, 5, run)
        interfere(run, twin[0])
        _, message = run.communicate(timeout=PATIENCE)
    assert run.returncode == status and said in message and message.count("\n") == 1, message
    assert f"nothing is deployed, what the robot did is in {log}" in message
    assert source.read_bytes() == before and sorted(tmp_path.iterdir()) == [log, source]
    (rollout,) = read_recording(log).rollouts()
    assert rollout.outcome == ("cut" if prepare else "stop") and rollout.steps >= 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--record", "{folder}/pump.onnx"], "pump.onnx: exists already; a log is never overwritten"),
        (["--record", "{folder}/pump.onnx/log.mcap"], "pump.onnx/log.mcap: cannot be written"),
        (["--channel", "/dev/no-such-adapter"], "cannot open interface 'slcan', channel '/dev/no-such-adapter'"),
        (["--rollouts", "0"], "--rollouts: got 0; allowed: at least 1"),
        (["--robot", "acrobot"], "pump.onnx: made for robot 'simple_pendulum', not for 'acrobot'"),
    ],
)
def test_bad_input_is_one_line(
    pump_file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    before = pump_file.read_bytes()
    given = [argument.format(folder=pump_file.parent) for argument in arguments]
    assert cli.main(["adapt", str(pump_file), *given]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and named in message and message.count("\n") == 1
    assert pump_file.read_bytes() == before and not (pump_file.parent / "pump.adapted.onnx").exists()
