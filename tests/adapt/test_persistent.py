"""The loop that takes a twin up again: pauses on a virtual clock stop it as they stop every loop, and it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapt.methods import InGraph
from adapt.online import adapt_on_robot
from adapt.persistent import ATTEMPTS, PersistentLoop
from adapt.session import Plan, Session
from hardware_io.bundle import Bundle
from hardware_io.clock import VirtualClock
from hardware_io.drivers import make_driver
from hardware_io.envelope import EnvelopeStop
from hardware_io.mit_protocol import ENTER, EXIT
from hardware_io.recorder import Recorder
from hardware_io.recording import read_recording
from hardware_io.runtime import NonFinite, Policy
from hardware_io.state import DriverError, StaleState
from tests.conftest import pump_graph

twin = pytest.importorskip("sim.twin")
pytest.importorskip("mujoco")
QUIET = {"latency": 0.01, "base_tilt": 0.0, "payload": 1.0}
PAUSE = 0.1  # s, of which five deadlines are missed


class Machine(twin.LockstepBus):
    """A bus to a twin in lockstep, on a machine that pauses when the frames in `pauses` are sent, by their number."""

    def __init__(self, bundle: Bundle, log: Path | None = None, **options: Any) -> None:
        clock = VirtualClock(100.0)
        super().__init__(twin.Twin(bundle.spec, twin.draw_dynamics(bundle.spec, 0, fixed=QUIET)), clock)
        self.frames: list[bytes] = []
        self.pauses: Callable[[int], bool] = lambda number: False
        self.recorder = Recorder(log, bundle.spec, clock, task=bundle.task) if log else None
        robot = make_driver("can_mit", bundle.spec, clock, bus=self)
        self.loop = PersistentLoop(Policy(bundle), robot, clock, self.recorder, **options)

    def send(self, msg: Any, timeout: float | None = None) -> None:
        self.frames.append(bytes(msg.data))
        if self.pauses(len(self.frames)):
            self._clock.sleep_until(self._clock.now() + PAUSE)
        super().send(msg, timeout)

    def within(self, *numbers: int) -> None:
        """Pause at these frames, counted from now on."""
        begin = len(self.frames)
        self.pauses = lambda number: number - begin in numbers


def test_what_a_pause_stopped_is_repeated_from_the_same_fast_state_and_told(
    pump: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(pump, tmp_path / "log.mcap")
    with machine.loop.session():
        machine.loop.settle()
        machine.within(30)
        rollout = machine.loop.rollout(np.array([0, 0, 1.5], np.float32), 20)
    assert rollout.outcome == "done" and rollout.steps == 20 and rollout.fast_start.tolist() == [0, 0, 1.5]
    (stop,) = machine.loop.stops
    assert "deadlines of 0.01 s missed in a row" in stop
    assert capsys.readouterr().out == f"stopped: {stop}; once more\n"
    inside = machine.frames[machine.frames.index(EXIT) : -1]
    assert inside[1] == ENTER and inside.count(EXIT) >= 1  # disabled, and enabled anew
    machine.recorder.close()
    recording = read_recording(tmp_path / "log.mcap")
    assert recording.complete and [one.outcome for one in recording.rollouts()] == ["stop", "done"]
    assert recording.rollouts()[0].reason == f"EnvelopeStop: {stop}"


def test_adaptation_goes_on_with_what_it_had_learned(pump: Bundle, tmp_path: Path) -> None:
    task = {"name": "swing_up", "duration": 0.8, "hold": 0.2}  # 20 steps
    leaning = pump_graph(learning=0.02, bias=99.0)  # with a torque that grows, and is what is kept
    machine = Machine(replace(pump, graph=leaning, task=task, fast=np.zeros(3, np.float32)))
    bundle = machine.loop.policy.bundle
    with Session(tmp_path, bundle, "digest", Plan(rollouts=2, judge=1), VirtualClock()) as session:
        session.loop = machine.loop
        machine.loop.record(session.recorder)
        with machine.loop.session():
            machine.within(100, 350)
            result = adapt_on_robot(session, InGraph(), bundle.fast)
    assert len(machine.loop.stops) == 2
    assert [one.rollout.outcome for one in result.rollouts] == ["done"] * 4
    starts = [one.rollout.fast_start.tolist() for one in result.of("teaching")]
    assert starts == [[0, 0, 0], [0, 0, pytest.approx(0.4)]]
    assert [one.rollout.fast_start.tolist() for one in result.of("adapted")] == [[0, 0, pytest.approx(0.8)]]


def test_enabling_and_settling_are_tried_again_too(pump: Bundle) -> None:
    machine = Machine(pump)
    recv = machine.recv
    lost = iter([True] * 5)  # the first two by looks for answers from before
    machine.recv = lambda timeout=None: recv(timeout) if not next(lost, False) else machine._replies.clear()
    with machine.loop.session():
        machine.within(5)
        machine.loop.settle()
        assert machine.loop.rollout(pump.fast, 5).outcome == "done"
    assert len(machine.loop.stops) == 2 and "nothing is enabled" in machine.loop.stops[0]


def test_a_machine_that_never_lets_it_finish_is_told_after_some_attempts(pump: Bundle) -> None:
    machine = Machine(pump)
    with pytest.raises(EnvelopeStop, match="missed in a row"), machine.loop.session():
        machine.pauses = lambda number: number % 60 == 0
        machine.loop.rollout(pump.fast, 50)
    assert len(machine.loop.stops) == ATTEMPTS - 1
    assert machine.frames[-1] == EXIT


def test_a_robot_that_is_gone_is_told(pump: Bundle) -> None:
    machine = Machine(pump)
    with pytest.raises((StaleState, DriverError), match="joint shoulder"), machine.loop.session():
        machine.loop.settle()
        machine.recv = lambda timeout=None: machine._clock.sleep_until(machine._clock.now() + (timeout or 0.0))
        machine.loop.rollout(pump.fast, 50)
    assert len(machine.loop.stops) == ATTEMPTS - 1


def test_a_policy_that_is_not_finite_is_no_pause(pump: Bundle) -> None:
    machine = Machine(pump)
    with pytest.raises(NonFinite), machine.loop.session():
        machine.loop.rollout(np.array([0, 0, np.nan], np.float32), 10)
    assert machine.loop.stops == []
