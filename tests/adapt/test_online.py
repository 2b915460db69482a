"""Adaptation on a robot, for every learner: what is deployed, and every way in which nothing is."""

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
import torch

import cli
from adapt.latent_search import LatentSearch
from adapt.learner import META_LEARNERS, class_of
from adapt.online import Adaptation, deploy
from adapt.scored import ADAPTED, TEACHING, UNADAPTED, scored, task_of
from adapt.session import Plan, logs_of
from adapt.slow import unpack
from hardware_io.bundle import Bundle, read_bundle, write_bundle
from hardware_io.config import ConfigError
from hardware_io.recording import Rollout, read_recording
from tests.adapt.on_twin import BETWEEN, SHORT, SPEC, adapt, exported
from tests.conftest import PATIENCE, ROOT, forgiving, in_real_time, pump_graph, wait_for_steps

pytest.importorskip("mujoco")
pytest.importorskip("serial")
PLAN = Plan(rollouts=2, judge=4)


def rollout_of(steps: int, angle: float = 0.0, outcome: str = "done", reason: str = "") -> Rollout:
    """A rollout at rest at one angle, rad, with no torque."""
    observation = np.zeros((steps + 1, 3), np.float32)
    observation[:, 0], observation[0, 2] = angle, 1.0
    flat = np.zeros((steps, 1), np.float32)
    fast = np.zeros(3, np.float32)
    times = np.zeros(steps)
    return Rollout(observation, flat, flat, flat, fast, fast, outcome, reason, times, times, 0)


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
    return replace(pump, graph=pump_graph(learning=rate, bias=99.0), task=SHORT, fast=fast)


def patient(bundle: Bundle) -> Bundle:
    """The same on a machine that pauses; a rollout still begins at rest."""
    safety, still = forgiving(bundle.spec).safety, bundle.spec.safety
    safety = replace(safety, still_time=still.still_time, still_velocity=still.still_velocity)
    return replace(bundle, spec=replace(bundle.spec, safety=safety))


@pytest.mark.parametrize("name", [name for name in META_LEARNERS if class_of(name).continuous])
def test_every_learner_adapts_on_a_twin(name: str, tmp_path: Path) -> None:
    """Lessons, shadow run and gate, whatever an untrained policy makes of it; the log says what was decided and why."""
    bundle = exported(name)
    result = adapt(bundle, tmp_path, PLAN)
    assert [one.rollout.role for one in result.of(TEACHING)] == ["teaching 1"] * 2 and result.reason
    if name == "oracle":  # identification wants more than two rollouts of 0.8 s
        assert result.reason.startswith("nothing was learned") and "a joint that moves" in result.reason
        return
    explored = [bool(np.abs(one.rollout.noise).max()) for one in result.rollouts]
    judged = len(result.rollouts) - 2
    assert explored == [name in BETWEEN and not class_of(name).searches] * 2 + [False] * judged
    assert result.candidate is not None and np.array_equal(result.candidate[~bundle.kept], bundle.fast[~bundle.kept])
    changed = not np.array_equal(result.candidate, bundle.fast)
    if name in BETWEEN:
        assert changed and (class_of(name).searches or result.candidate[-1] >= 1), "steps were taken"
    assert judged == (0 if not changed or "may not act" in result.reason else judged) and judged % 2 == 0
    (log,) = logs_of(tmp_path / "policy.adapt")
    events = {m.values["event"]: m.values for m in read_recording(log).messages if m.topic == "/event"}
    assert events["adapted"]["problem"] == "" and events["shadow"]["steps"] == 40
    assert events["gate"]["accepted"] is result.accepted and events["gate"]["reason"] == result.reason
    assert np.array_equal(np.array(events["adapted"]["fast"], np.float32), result.candidate)
    if result.accepted:
        deploy(bundle, result, tmp_path / "adapted.onnx")
        adapted = read_bundle(tmp_path / "adapted.onnx")
        assert np.array_equal(adapted.fast, result.candidate) and adapted.slow == bundle.slow


def test_there_are_learners_of_both_kinds_in_the_table() -> None:
    steps = {"maml", "fomaml", "meta_sgd", "anil", "promp", "reptile", "fine_tune", "scratch", "dqn_mapping"}
    assert steps | {"latent_search"} == set(BETWEEN)


@pytest.mark.parametrize(
    ("modules", "without"),
    [("adapt.online, adapt.watch", ("torch", "pybullet")), ("adapt.beside, adapt.slow", ("pybullet", "mujoco"))],
    ids=["control loop", "process beside it"],
)
def test_a_robot_that_adapts_needs_no_simulator_and_its_loop_no_torch(modules: str, without: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print([name for name in {without} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"


def test_fast_is_carried_and_what_is_judged_is_what_is_deployed(pump: Bundle, tmp_path: Path) -> None:
    bundle = learning(pump, 0.0, 0.02)
    result = adapt(bundle, tmp_path, PLAN)
    starts = {role: [one.rollout.fast_start[2] for one in result.of(role)] for role in (TEACHING, UNADAPTED, ADAPTED)}
    assert starts[TEACHING] == [0, pytest.approx(0.4)]  # 20 steps of 0.02
    assert starts[UNADAPTED] == [0] * 4 and starts[ADAPTED] == [pytest.approx(0.8)] * 4
    assert result.accepted and result.reason.startswith("better than un-adapted; return ")
    deploy(bundle, result, tmp_path / "adapted.onnx")
    adapted = read_bundle(tmp_path / "adapted.onnx", "simple_pendulum")
    assert adapted.graph == bundle.graph and adapted.spec == bundle.spec
    assert adapted.fast.tolist() == [0, 0, pytest.approx(0.8)]
    assert adapted.provenance["seed"] == 0 and adapted.provenance["adapted"]["rollouts"] == 2
    assert adapted.provenance["adapted"]["returns"] == [one.value for one in result.rollouts]


def test_what_got_worse_is_not_deployed(pump: Bundle, tmp_path: Path) -> None:
    bundle = learning(pump, 1.2, -0.03)
    result = adapt(bundle, tmp_path, Plan(rollouts=1, judge=4))
    assert not result.accepted and result.reason.startswith("no better than un-adapted; return ")
    with pytest.raises(ValueError, match=r"adapted.onnx: not deployed: no better"):
        deploy(bundle, result, tmp_path / "adapted.onnx")
    assert not (tmp_path / "adapted.onnx").exists()


def test_what_would_act_wildly_never_acts(pump: Bundle, tmp_path: Path) -> None:
    result = adapt(learning(pump, 1.5, -0.15), tmp_path, Plan(rollouts=1, judge=4))
    assert not result.accepted and len(result.rollouts) == 1
    assert result.reason.startswith("the adapted policy may not act: its commands differ by 1.")


def test_few_rollouts_are_too_little_evidence(pump: Bundle, tmp_path: Path) -> None:
    result = adapt(learning(pump, 0.0, 0.02), tmp_path, Plan(rollouts=2, judge=2))
    assert not result.accepted and result.reason.startswith("too little evidence: return ")
    assert len(result.of(ADAPTED)) == len(result.of(UNADAPTED)) == 2


def test_several_adaptations_are_steps_on_their_own_rollouts(tmp_path: Path) -> None:
    result = adapt(exported("maml"), tmp_path, Plan(rollouts=3, adaptations=2, judge=1))
    roles = [one.rollout.role for one in result.of(TEACHING)]
    assert roles == ["teaching 1", "teaching 1", "teaching 2"]
    counts = [one.rollout.fast_start[-1] for one in result.of(TEACHING)]
    assert counts == [0, 0, 1] and result.candidate is not None and result.candidate[-1] == 2


def test_a_search_tries_one_latent_after_the_other_and_what_it_settles_on_is_judged(tmp_path: Path) -> None:
    bundle = exported("latent_search")
    learner = unpack(bundle)
    assert isinstance(learner, LatentSearch)
    result = adapt(bundle, tmp_path, Plan(rollouts=3, adaptations=3, judge=1))
    starts = [one.rollout.fast_start for one in result.of(TEACHING)]
    assert [one.rollout.role for one in result.of(TEACHING)] == ["teaching 1", "teaching 2", "teaching 3"]
    counts = [start[learner.memory_size - 1] for start in starts]
    assert counts == [0, 1, 2] and result.candidate is not None and result.candidate[learner.memory_size - 1] == 3
    fast = torch.from_numpy(result.candidate)[None]
    assert torch.allclose(learner.settle(fast), fast, atol=1e-6)
    latents = [learner.latent_of(torch.from_numpy(row)) for row in (*starts, result.candidate)]
    assert not latents[0].any() and len({tuple(latent.tolist()) for latent in latents}) == 4


def test_an_adaptation_that_fails_is_rolled_back_with_the_reason(tmp_path: Path) -> None:
    bundle, at_once = exported("maml"), {"shoulder": replace(SPEC.joints["shoulder"], velocity_limit=1e-3)}
    result = adapt(replace(bundle, spec=replace(bundle.spec, joints=at_once)), tmp_path, PLAN)
    assert not result.accepted and result.reason == "nothing was learned: no whole step was recorded"
    assert [one.rollout.outcome for one in result.rollouts] == ["limit"] * 2


def test_an_adapted_file_that_cannot_be_written_is_named(pump: Bundle, tmp_path: Path) -> None:
    result = Adaptation([], np.zeros(3, np.float32), True, "better")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"file/adapted.onnx: document: got '.*'; allowed: a file that can be"):
        deploy(pump, result, tmp_path / "file" / "adapted.onnx")


@in_real_time
@pytest.mark.parametrize(("start", "rate", "status"), [(0.0, 0.04, 0), (1.2, -0.04, 3)])
def test_the_command_on_a_twin(
    twin: tuple[subprocess.Popen, str],
    pump: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    start: float,
    rate: float,
    status: int,
) -> None:
    source, bundle = tmp_path / "pump.onnx", patient(learning(pump, start, rate))
    write_bundle(source, bundle)
    before, verdict = source.read_bytes(), tmp_path / "verdict.json"
    arguments = ["adapt", str(source), "--channel", twin[1], "--rollouts", "1", "--judge", "4", "--json", str(verdict)]
    assert cli.main(arguments) == status
    said = capsys.readouterr().out
    assert said.startswith("teaching 1: return ") and said.count("un-adapted: return ") == 4
    document = json.loads(verdict.read_text())
    assert document["status"] == status and document["accepted"] is (status == 0) and len(document["returns"]) == 9
    (log,) = logs_of(tmp_path / "pump.adapt")
    recording = read_recording(log)
    assert recording.complete and [rollout.outcome for rollout in recording.rollouts()] == ["done"] * 9
    assert [m.values["event"] for m in recording.messages[-2:]] == ["gate", "end"]
    assert recording.metadata["task"] == SHORT and recording.metadata["plan"]["rollouts"] == 1
    assert source.read_bytes() == before
    target = tmp_path / "pump.adapted.onnx"
    if status == 0:
        assert f"deployed {target}: better than un-adapted; return " in said
        adapted = read_bundle(target)
        assert adapted.graph == bundle.graph and adapted.fast == pytest.approx([0, 0, 0.8])
    else:
        assert "rolled back: no better than un-adapted; return " in said
        assert not target.exists()


@in_real_time
def test_a_robot_is_kept_damped_while_a_process_beside_the_loop_adapts(
    twin: tuple[subprocess.Popen, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, bundle = tmp_path / "policy.onnx", exported("maml")
    write_bundle(source, patient(bundle))
    status = cli.main(["adapt", str(source), "--channel", twin[1], "--judge", "1"])
    assert status == 3 and "rolled back: too little evidence: " in capsys.readouterr().out
    recording = read_recording(tmp_path / "policy.adapt" / "0001.mcap")
    assert [rollout.role for rollout in recording.rollouts()][:2] == ["teaching 1"] * 2  # as many as in training
    at = {m.values["event"]: k for k, m in enumerate(recording.messages) if m.topic == "/event"}
    last_lesson = max(k for k, m in enumerate(recording.messages[: at["adapted"]]) if m.topic == "/event")
    meanwhile = [m.values for m in recording.messages[last_lesson : at["adapted"]] if m.topic == "/command"]
    assert meanwhile and all(abs(m["torque"][0]) < 0.01 and m["kd"][0] > 0.2 for m in meanwhile)


def little_space() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))


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
    source, folder = tmp_path / "pump.onnx", tmp_path / "pump.adapt"
    write_bundle(source, patient(replace(learning(pump, 1.0, 0.0), task={"name": "swing_up", "duration": 250.0})))
    before = source.read_bytes()
    command = [sys.executable, "-m", "cli", "adapt", str(source), "--channel", twin[1]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=prepare) as run:
        wait_for_steps(folder / "0001.mcap", 5, run)
        interfere(run, twin[0])
        _, message = run.communicate(timeout=PATIENCE)
    assert run.returncode == status and said in message and message.count("\n") == 1, message
    assert f"nothing is deployed, the same command goes on from {folder}" in message
    assert source.read_bytes() == before and sorted(tmp_path.iterdir()) == [folder, source]
    (rollout,) = read_recording(folder / "0001.mcap").rollouts()
    assert rollout.outcome == ("cut" if prepare else "stop") and rollout.steps >= 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--session", "{folder}/pump.onnx/logs"], "pump.onnx/logs: cannot be written"),
        (["--channel", "/dev/no-such-adapter"], "cannot open interface 'slcan', channel '/dev/no-such-adapter'"),
        (["--rollouts", "0"], "acclimate adapt: rollouts: got 0; allowed: at least 1"),
        (["--judge", "11"], "acclimate adapt: judge: got 11; allowed: at most 10"),
        (["--watch", "--every", "2"], "acclimate adapt: every: got 2; allowed: at least 5"),
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
