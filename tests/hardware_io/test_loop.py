"""The loop on the real driver and protocol against a MuJoCo twin in lockstep: no part of the way is a stand-in."""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_io.bundle import Bundle
from hardware_io.clock import Clock, MonotonicClock, VirtualClock
from hardware_io.drivers import make_driver
from hardware_io.envelope import EnvelopeStop
from hardware_io.loop import ControlLoop
from hardware_io.mit_protocol import ENTER, EXIT, MotorCodec
from hardware_io.recorder import Recorder, RecordingError
from hardware_io.recording import Recording, Rollout, read_recording
from hardware_io.runtime import NonFinite, Policy
from hardware_io.spec import Channel
from hardware_io.state import DriverError, StaleState
from hardware_io.timing import Grid, Terminated
from tests.conftest import PATIENCE

twin = pytest.importorskip("sim.twin")
pytest.importorskip("mujoco")

QUIET = {"latency": 0.02, "base_tilt": 0.0, "position_noise": 0.001, "velocity_noise": 0.05, "payload": 1.0}
HEAVY = QUIET | {"payload": 2.0, "torque_constant": 0.6}  # too heavy for its motor to lift over the top
Hidden = dict[str, float]


class Bench:
    """A pendulum twin with its driver and loop on one clock, virtual if not given; keeps every frame on the bus."""

    def __init__(
        self,
        bundle: Bundle,
        hidden: Hidden = QUIET,
        log: Path | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or VirtualClock(100.0)
        self.recorder = Recorder(log, bundle.spec, self.clock, task=bundle.task) if log else None
        self.twin = twin.Twin(bundle.spec, twin.draw_dynamics(bundle.spec, 0, fixed=hidden))
        self.bus = twin.LockstepBus(self.twin, self.clock)
        self.frames: list[tuple[float, bytes]] = []
        self.on_frame: Callable[[int], None] = lambda count: None
        self._send = self.bus.send
        self.bus.send = self.watch
        self.robot = make_driver("can_mit", bundle.spec, self.clock, bus=self.bus)
        self.loop = ControlLoop(Policy(bundle), self.robot, self.clock, self.recorder, **options)

    def watch(self, message, timeout=None) -> None:
        self.frames.append((self.clock.now(), bytes(message.data)))
        self.on_frame(len(self.frames))
        self._send(message, timeout)

    def recording(self) -> Recording:
        self.recorder.close()
        return read_recording(self.recorder.path)

    def ended_safely(self) -> bool:
        """Damped for a while, then disabled."""
        *_, before, last = [payload for _, payload in self.frames]
        return last == EXIT and before not in (ENTER, EXIT) and self.twin.state().torque.tolist() == [0.0]


def energy(rollout: Rollout) -> float:
    return float(np.abs(rollout.observation[:, 1]).max())


def test_a_rollout_swings_the_twin_and_ends_damped(pump: Bundle) -> None:
    bench = Bench(pump)
    with bench.loop.session():
        bench.loop.settle()
        first = bench.loop.rollout(pump.fast, 50, np.random.default_rng(0))
        bench.loop.settle()
        damping = bench.loop.rollout(np.array([9, 9, -1], np.float32), 20, np.random.default_rng(0))
    assert bench.ended_safely()
    assert first.outcome == "done" and first.steps == 50
    assert first.observation.shape == (51, 3) and first.asked.shape == first.sent.shape == first.noise.shape == (50, 1)
    assert first.observation[:, 2].tolist() == [1.0] + [0.0] * 50
    assert first.fast_start.tolist() == [0, 0, 1] and first.fast_end[1] == 50
    assert damping.fast_start.tolist() == [0, 0, -1]  # only what is kept was carried in
    assert energy(first) > 3 > 1 > energy(damping)
    np.testing.assert_allclose(first.sent, first.asked, atol=12 / 4095 + 1e-6)  # half a step of the torque's 12 bits


def test_commands_follow_one_grid_and_the_policy_divides_it(pump: Bundle) -> None:
    bench = Bench(pump)
    with bench.loop.session():
        bench.frames.clear()
        rollout = bench.loop.rollout(pump.fast, 10)
        times = np.array([time for time, _ in bench.frames])
    np.testing.assert_allclose(np.diff(times), 0.01, atol=1e-9)
    assert len(times) == 10 * 4 + 1  # and the damped one after the last step
    assert rollout.missed == 0 and rollout.late.max() == 0.0
    held = [payload for _, payload in bench.frames[:40]]
    assert all(len(set(held[4 * k : 4 * k + 4])) == 1 for k in range(10))


def test_a_pause_before_the_first_rollout_costs_nothing(pump: Bundle) -> None:
    bench = Bench(pump)
    with bench.loop.session():
        bench.clock.sleep_until(bench.clock.now() + 0.5)  # what enabling was answered with is stale by now
        assert bench.loop.rollout(pump.fast, 10).outcome == "done"


def test_the_grid_skips_what_was_missed(pump: Bundle) -> None:
    clock = VirtualClock(5.0)
    grid = Grid(clock, 0.01)
    assert grid.next() == (0, 5.0, 0)
    clock.sleep_until(5.043)
    number, due, missed = grid.next()
    assert (number, missed) == (4, 3) and due == pytest.approx(5.04)  # 3 ms late, and at once
    number, due, missed = grid.next()
    assert (number, missed) == (5, 0) and clock.now() == pytest.approx(5.05)


def test_a_pause_of_the_loop_is_survived_up_to_the_limit(pump: Bundle) -> None:
    bench = Bench(pump)

    def pause(count: int) -> None:
        if count == 40:
            bench.clock.sleep_until(bench.clock.now() + 0.045)

    bench.on_frame = pause
    with bench.loop.session():
        rollout = bench.loop.rollout(pump.fast, 20)
    assert rollout.outcome == "done" and rollout.missed == 3 and rollout.late.max() == pytest.approx(0.005)
    bench = Bench(pump)

    def long_pause(count: int) -> None:
        if count == 40:
            bench.clock.sleep_until(bench.clock.now() + 0.1)

    bench.on_frame = long_pause
    with pytest.raises(EnvelopeStop, match=r"deadlines of 0.01 s missed in a row"), bench.loop.session():
        bench.loop.rollout(pump.fast, 20)
    assert bench.ended_safely()


def test_a_lost_answer_is_bridged_and_a_silent_robot_stops_the_loop(pump: Bundle, tmp_path: Path) -> None:
    bench = Bench(pump, log=tmp_path / "log.mcap")
    recv, lost = bench.bus.recv, {20}
    asked = [0]

    def lossy(timeout=None):
        reply = recv(timeout)
        asked[0] += reply is not None
        return None if asked[0] in lost and reply else reply

    bench.bus.recv = lossy
    with pytest.raises(StaleState, match=r"joint shoulder .motor 1. has not answered"), bench.loop.session():
        assert bench.loop.rollout(pump.fast, 20).outcome == "done"
        lost.update(range(asked[0] + 10, 10_000))
        bench.loop.rollout(pump.fast, 20)
    assert [r.outcome for r in bench.recording().rollouts()] == ["done", "stop"]


def test_leaving_the_limits_ends_the_rollout_and_the_session_goes_on(pump: Bundle) -> None:
    joint = replace(pump.spec.joints["shoulder"], position_limit=(-0.6, 0.6))
    bundle = replace(pump, spec=replace(pump.spec, joints={"shoulder": joint}))
    bench = Bench(bundle)
    with bench.loop.session():
        limited = bench.loop.rollout(np.array([0, 0, 1.5], np.float32), 200, np.random.default_rng(0))
        bench.loop.settle()
        again = bench.loop.rollout(np.array([0, 0, -1], np.float32), 10)
    assert limited.outcome == "limit" and "joint shoulder: position is" in limited.reason
    assert 0 < limited.steps < 200 and len(limited.observation) == limited.steps + 1
    assert abs(limited.observation[-1, 0]) > 0.6
    assert again.outcome == "done"


def test_what_is_not_finite_stops_the_session(pump: Bundle, tmp_path: Path) -> None:
    bench = Bench(pump, log=tmp_path / "log.mcap")
    with pytest.raises(NonFinite, match=r"input fast, \[2\]: got nan"), bench.loop.session():
        bench.loop.rollout(np.array([0, 0, np.nan], np.float32), 10)
    assert bench.ended_safely()
    events = [m.values for m in bench.recording().messages if m.topic == "/event"]
    assert events[-1]["event"] == "stop" and events[-1]["reason"].startswith("NonFinite: policy input fast")


def test_a_full_disk_stops_the_robot_damped_and_the_log_is_readable(pump: Bundle, tmp_path: Path) -> None:
    bench = Bench(pump, log=tmp_path / "log.mcap")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(RecordingError, match=r"log\.mcap: File too large"), bench.loop.session():
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
            bench.loop.rollout(pump.fast, 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
        bench.recorder.close()
    assert bench.ended_safely()
    (rollout,) = read_recording(tmp_path / "log.mcap").rollouts()
    assert rollout.outcome == "cut" and 5 < rollout.steps < 100


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_stops_damped_between_two_exchanges(pump: Bundle, number: int, error: type[BaseException]) -> None:
    bench = Bench(pump)
    before = signal.getsignal(number)
    answered = []

    def interrupt(count: int) -> None:
        if count == 60:
            os.kill(os.getpid(), number)
            answered.append(bench.clock.now())

    bench.on_frame = interrupt
    with pytest.raises(error), bench.loop.session():
        bench.loop.rollout(pump.fast, 100)
    assert len(answered) == 1 and bench.ended_safely()
    assert signal.getsignal(number) == before
    assert bench.frames[59][1] not in (ENTER, EXIT)  # the command in whose middle the signal came went out whole


def test_a_dry_run_enables_nothing_and_tells_what_it_would_send(pump: Bundle, tmp_path: Path) -> None:
    bench = Bench(pump, log=tmp_path / "dry.mcap", dry_run=True)
    bench.twin.reset(np.array([0.5]), np.array([0.0]))
    with bench.loop.session():
        rollout = bench.loop.rollout(pump.fast, 25)
    assert {payload for _, payload in bench.frames} == {EXIT}
    assert np.abs(rollout.sent).max() > 0.5 and np.ptp(rollout.observation[:, 0]) > 0.3
    assert np.abs(bench.recording().column("/command", "torque")).max() > 0.5


def test_what_is_recorded_is_what_was_run(pump: Bundle, tmp_path: Path) -> None:
    bench = Bench(pump, log=tmp_path / "log.mcap")
    with bench.loop.session():
        bench.loop.settle()
        run = [bench.loop.rollout(pump.fast, steps, np.random.default_rng(steps)) for steps in (12, 5)]
    recording = bench.recording()
    assert recording.complete and not recording.problems and recording.spec == pump.spec
    assert recording.metadata["task"] == pump.task
    for ours, read in zip(run, recording.rollouts(), strict=True):
        for name in ("observation", "asked", "sent", "noise", "fast_start", "fast_end", "latency", "late"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(read, name), err_msg=name)
        assert (ours.outcome, ours.reason, ours.missed) == (read.outcome, read.reason, read.missed)


def test_settling_waits_until_the_swing_has_died_down(pump: Bundle) -> None:
    bench = Bench(pump)
    bench.twin.reset(np.array([2.0]), np.array([0.0]))
    with bench.loop.session():
        begin = bench.clock.now()
        bench.loop.settle()
        assert bench.clock.now() - begin > 1.0
        assert abs(bench.twin.state().velocity[0]) < 0.2


def test_settling_brings_a_pendulum_that_friction_holds_upright_home(pump: Bundle) -> None:
    bench = Bench(pump, rest=np.zeros(1))
    bench.twin.reset(np.array([np.pi]), np.array([0.0]))
    with bench.loop.session():
        bench.loop.settle()
    assert abs(bench.twin.state().position[0]) < 0.3


def test_the_operator_is_asked_when_it_cannot_come_home(pump: Bundle) -> None:
    asked = []

    def lift(message: str) -> bool:
        asked.append(message)
        bench.twin.reset(np.zeros(1), np.zeros(1))
        return True

    bench = Bench(pump, HEAVY, rest=np.zeros(1), ask=lift)
    bench.twin.reset(np.array([2 * np.pi - 0.1]), np.array([0.0]))
    with bench.loop.session():
        bench.loop.settle()
        assert bench.loop.rollout(pump.fast, 5).outcome == "done"
    assert len(asked) == 1 and "joint shoulder is at" in asked[0]
    bench = Bench(pump, HEAVY, rest=np.zeros(1), ask=lambda message: False)
    bench.twin.reset(np.array([2 * np.pi - 0.1]), np.array([0.0]))
    with (
        pytest.raises(EnvelopeStop, match="nobody says to go on"),
        bench.loop.session(),
    ):
        bench.loop.settle()
    assert bench.ended_safely()


def test_the_robot_stays_damped_while_the_operator_thinks(pump: Bundle) -> None:
    safety = replace(pump.spec.safety, still_timeout=0.1, still_time=0.02, missed_deadlines=3000, stale_after=30.0)
    counts = []

    def think(message: str) -> bool:
        counts.append(len(bench.frames))
        end = time.monotonic() + PATIENCE
        while len(bench.frames) < counts[0] + 10 and time.monotonic() < end:
            time.sleep(0.01)
        counts.append(len(bench.frames))
        return False

    clock = MonotonicClock()
    bench = Bench(
        replace(pump, spec=replace(pump.spec, safety=safety)), HEAVY, clock=clock, rest=np.zeros(1), ask=think
    )
    bench.twin.reset(np.array([2 * np.pi - 0.1]), np.array([0.0]))
    with pytest.raises(EnvelopeStop, match="nobody says to go on"), bench.loop.session():
        bench.loop.settle()
    assert counts[1] - counts[0] >= 10
    codec = MotorCodec(pump.spec.joints["shoulder"].motor)
    held = [codec.decode(payload) for _, payload in bench.frames[counts[0] + 1 : counts[1]]]
    assert all(command.kd > 0 and abs(command.torque) < 0.01 for command in held)  # damped, not pulled home
    assert bench.ended_safely()


def test_a_pause_between_rollouts_is_no_fault(pump: Bundle) -> None:
    bench = Bench(pump)
    with bench.loop.session():
        bench.loop.rollout(pump.fast, 5)
        bench.clock.sleep_until(bench.clock.now() + 3.0)  # somebody computes an adaptation
        assert bench.loop.rollout(pump.fast, 5).outcome == "done"


def test_the_previous_reward_comes_from_the_task(pump: Bundle) -> None:
    channels = (*pump.spec.channels[:2], Channel("reward", "previous_reward"))
    bundle = replace(pump, spec=replace(pump.spec, channels=channels))
    with pytest.raises(ValueError, match="channel previous_reward; the loop needs the task's reward"):
        Bench(bundle)
    bench = Bench(bundle, reward=lambda before, action, after, last: 10 * action[0] + after[0] + last[0])
    with bench.loop.session():
        rollout = bench.loop.rollout(pump.fast, 10, np.random.default_rng(1))
    assert rollout.observation[0, 2] == 0.0
    before = np.concatenate([[0.0], rollout.asked[:-1, 0]])
    wanted = 10 * rollout.asked[:, 0] + rollout.observation[1:, 0] + before
    np.testing.assert_allclose(rollout.observation[1:, 2], wanted, rtol=1e-6)


def test_the_collector_rests_during_a_rollout_only(pump: Bundle) -> None:
    bench, seen = Bench(pump), []
    bench.on_frame = lambda count: seen.append(gc.isenabled())
    with bench.loop.session():
        bench.frames.clear()
        seen.clear()
        bench.loop.rollout(pump.fast, 3)
    assert not any(seen[:13]) and gc.isenabled() and gc.get_freeze_count() == 0


def test_a_missing_adapter_is_named(pump: Bundle) -> None:
    robot = make_driver("can_mit", pump.spec, MonotonicClock(), interface="slcan", channel="/dev/no-such-adapter")
    with (
        pytest.raises(DriverError, match="/dev/no-such-adapter"),
        ControlLoop(Policy(pump), robot, MonotonicClock()).session(),
    ):
        pass


def test_a_session_outside_the_main_thread_leaves_signals_alone(pump: Bundle) -> None:
    bench, done = Bench(pump), []

    def run() -> None:
        with bench.loop.session():
            done.append(bench.loop.rollout(pump.fast, 3).outcome)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert done == ["done"]
