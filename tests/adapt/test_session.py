"""A session survives everything: what signal 9 leaves is a prefix of what would have been, and it goes on there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapt.session import Plan, Session, folder_for, logs_of
from hardware_io.bundle import Bundle, file_digest, write_bundle
from hardware_io.clock import VirtualClock
from hardware_io.config import ConfigError
from hardware_io.recording import Recording, Rollout, read_recording
from tests.adapt.on_twin import SHORT, Machine, adapt, exported
from tests.conftest import ROOT, pump_graph

pytest.importorskip("mujoco")
PLAN = Plan(rollouts=2, judge=4)
KILLED = {  # frame that is sent when it dies → whole rollouts and decisions that are on disk by then
    "before anything": (1, 0, []),
    "teaching": (290, 1, []),
    "judging": (720, 3, ["adapted", "shadow"]),
}


@pytest.fixture(scope="module")
def bundle(pump: Bundle) -> Bundle:
    """Leans to one side with a torque that grows a little with every step, and is what is kept."""
    fast = np.zeros(3, np.float32)
    return replace(pump, graph=pump_graph(learning=0.02, bias=99.0), task=SHORT, fast=fast)


def kill_at(frame: int, bundle: Bundle, folder: Path, plan: Plan, turns: int | None = None) -> None:
    """Adapt in a process that ends by signal 9 when it sends that frame."""
    write_bundle(folder / "policy.onnx", bundle)
    command = [sys.executable, "-m", "tests.adapt.on_twin", str(folder / "policy.onnx"), json.dumps(asdict(plan))]
    done = subprocess.run([*command, str(frame), json.dumps(turns)], cwd=ROOT, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def logged(recording: Recording) -> list[tuple[str, dict[str, Any]]]:
    """Everything but what a real clock measured."""
    return [(m.topic, {k: v for k, v in m.values.items() if k != "latency"}) for m in recording.messages]


def whole(folder: Path) -> list[Rollout]:
    rollouts = [rollout for log in logs_of(folder) for rollout in read_recording(log).rollouts()]
    return [rollout for rollout in rollouts if rollout.outcome == "done"]


@pytest.fixture(scope="module")
def uninterrupted(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    @cache
    def made() -> Path:
        folder = tmp_path_factory.mktemp("uninterrupted")
        adapt(bundle, folder, PLAN)
        return folder / "policy.adapt"

    return made


@pytest.mark.parametrize("when", KILLED)
def test_a_kill_costs_the_present_tick_and_adaptation_goes_on(
    when: str, bundle: Bundle, uninterrupted: Callable[[], Path], tmp_path: Path
) -> None:
    frame, rollouts, decisions = KILLED[when]
    kill_at(frame, bundle, tmp_path, PLAN)
    folder, reference = tmp_path / "policy.adapt", read_recording(uninterrupted() / "0001.mcap")
    cut, would = read_recording(folder / "0001.mcap"), logged(reference)
    assert not cut.complete and logged(cut) == would[: len(cut.messages)], "a prefix, to the last bit"
    sent = sum(topic == "/command" for topic, _ in logged(cut))
    assert frame - 3 <= sent <= frame, "a frame a tick: all but enabling and the one that it died in"
    assert len(whole(folder)) == rollouts
    assert [m.values["event"] for m in cut.messages if "number" in m.values] == decisions

    result = adapt(bundle, tmp_path, PLAN)
    again = [rollout for log in logs_of(folder) for rollout in read_recording(log).rollouts()]
    expected = whole(uninterrupted())
    assert [one.rollout.role for one in result.rollouts] == [rollout.role for rollout in expected]
    for one, rollout in zip(result.rollouts, expected, strict=True):
        np.testing.assert_allclose(one.rollout.fast_start, rollout.fast_start, atol=1e-6)
        np.testing.assert_allclose(one.rollout.observation[-1, 0], rollout.observation[-1, 0], atol=0.1)  # rad
    for one, rollout in zip(result.rollouts[:rollouts], expected, strict=False):
        assert np.array_equal(one.rollout.observation, rollout.observation), "what was on disk is not run again"
    assert len([rollout for rollout in again if rollout.outcome == "cut"]) == (when != "before anything")
    assert result.accepted and len(logs_of(folder)) == 2


def test_a_rollout_that_is_run_again_draws_the_same_noise(tmp_path: Path) -> None:
    bundle, plan, noise = exported("maml"), Plan(), []
    for name in ("one", "two"):
        machine = Machine(bundle)
        session = machine.session(tmp_path / name, plan)
        with session, session.loop.session():
            noise.append([session.rollout("teaching 1", bundle.fast, True).rollout.noise for _ in range(2)])
    session = Machine(bundle).session(tmp_path / "two", plan)
    with session, session.loop.session():
        kept = [session.rollout("teaching 1", bundle.fast, True).rollout.noise for _ in range(3)]
    assert np.array_equal(noise[0], noise[1]) and np.array_equal(noise[0], kept[:2])
    assert not np.array_equal(kept[1], kept[2]) and 0.5 < np.std(kept) < 1.5


def test_exploration_stays_inside_the_envelope_and_is_recorded(tmp_path: Path) -> None:
    bundle = exported("maml")
    limit = float(bundle.spec.action_limit[0])
    joint = replace(bundle.spec.joints["shoulder"], torque_limit=0.5 * limit)
    weak = replace(bundle, spec=replace(bundle.spec, joints={"shoulder": joint}))
    session = Machine(weak).session(tmp_path, Plan())
    with session, session.loop.session():
        rollout = session.rollout("teaching 1", weak.fast, True).rollout
    asked, sent = np.abs(rollout.asked).max(), np.abs(rollout.sent).max()
    assert asked > 0.55 * limit and sent <= 0.5 * limit + 0.01  # and half a step of the bus
    (read,) = read_recording(session.logs[0]).rollouts()
    for name in ("noise", "asked", "sent", "observation"):
        assert np.array_equal(getattr(read, name), getattr(rollout, name)), name


def test_decisions_are_made_once(bundle: Bundle, tmp_path: Path) -> None:
    made = []

    def decision() -> dict[str, Any]:
        made.append(len(made))
        return {"fast": np.array([0.1, 0.2], np.float32), "reason": "first"}

    for _ in range(2):
        with Session(tmp_path, bundle, "digest", PLAN, VirtualClock()) as session:
            session.recorder.event("rollout_start", rollout=0, fast=bundle.fast)
            values = session.decide("adapted", 0, decision)
        assert np.array_equal(np.array(values["fast"], np.float32), np.array([0.1, 0.2], np.float32))
        assert values["reason"] == "first"
    assert made == [0]


def test_a_session_of_something_else_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    def session(digest: str = "digest", plan: Plan = PLAN) -> Session:
        return Session(tmp_path, bundle, digest, plan, VirtualClock())

    with session():
        pass
    with session(plan=Plan(rollouts=9)) as other:  # nothing had come of the first
        other.recorder.event("rollout_start", rollout=0, fast=bundle.fast)
    with pytest.raises(ConfigError, match=r"0002.mcap: bundle: got 'digest'; allowed: other; or another session"):
        session("other")
    with pytest.raises(ConfigError, match=r"plan.rollouts: got 2; allowed: 9 as this session began; or another"):
        session()
    with session(plan=Plan(rollouts=9)) as last:
        with pytest.raises(ConfigError, match="session: got 'in use'; allowed: a session that no other process is in"):
            session(plan=Plan(rollouts=9))
        last.end(status=0)
    with pytest.raises(ConfigError, match="session: got 'ended'"):
        session(plan=Plan(rollouts=9))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"rollouts": 1, "adaptations": 2}, "rollouts: got 1; allowed: at least 2, one an adaptation"),
        ({"every": 3}, "every: got 3; allowed: at least 5"),
    ],
)
def test_a_plan_that_cannot_be(given: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Plan(**given)
    assert Plan(rollouts=5, adaptations=2).lessons() == [3, 2]


def test_what_has_ended_is_never_written_over(bundle: Bundle, tmp_path: Path) -> None:
    file, names = tmp_path / "pump.onnx", []
    write_bundle(file, bundle)
    for _ in range(3):
        names.append(folder_for(file).name)
        for end in (False, True):
            assert folder_for(file).name == names[-1], "what has not ended goes on"
            with Session(tmp_path / names[-1], bundle, file_digest(file), PLAN, VirtualClock()) as session:
                if end:
                    session.end(status=0)
    assert names == ["pump.adapt", "pump.adapt-2", "pump.adapt-3"]


@pytest.mark.parametrize("length", [0, 5, 300])
def test_a_log_that_was_cut_at_its_beginning_is_in_nobodys_way(bundle: Bundle, tmp_path: Path, length: int) -> None:
    with Session(tmp_path, bundle, "digest", PLAN, VirtualClock()) as session:
        log = session.logs[0]
    log.write_bytes(log.read_bytes()[:length])
    with Session(tmp_path, bundle, "digest", PLAN, VirtualClock()) as session:
        assert [path.name for path in session.logs] == ["0001.mcap", "0002.mcap"]


def test_a_watch_that_was_killed_goes_on_in_its_turn(bundle: Bundle, tmp_path: Path) -> None:
    plan = Plan(rollouts=1, judge=4, every=6)
    kill_at(2200, bundle, tmp_path, plan, turns=2)
    folder = tmp_path / "policy.adapt"
    turns = [read_recording(log) for log in logs_of(folder)]
    assert turns[-1].messages[0].values["event"] == "turn" and not turns[-1].complete
    seen = sum(rollout.outcome == "done" for rollout in turns[-1].rollouts())
    result = adapt(bundle, tmp_path, plan, turns=2)
    resumed = read_recording(logs_of(folder)[len(turns)])
    roles = [rollout.role for rollout in turns[-1].rollouts()[:seen] + resumed.rollouts()]
    assert roles[:6] == ["watched"] * 6 and roles[6] == "teaching 1" and seen > 0
    assert result.accepted
