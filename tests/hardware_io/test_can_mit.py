"""The CAN driver against motors: in lockstep on a virtual clock, and over a pseudo-terminal to a twin's process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_io.clock import MonotonicClock, VirtualClock
from hardware_io.config import ConfigError
from hardware_io.drivers import make_driver
from hardware_io.drivers.can_mit import CanMit
from hardware_io.mit_protocol import EXIT, MotorCodec
from hardware_io.spec import RobotSpec
from hardware_io.state import DriverError, JointCommand, StaleState
from sim.twin import LockstepBus, Reply, Twin, draw_dynamics
from tests.conftest import in_real_time
from tests.hardware_io.driver_contract import PATIENCE, DriverContract, Rig
from tests.sim.two_joints import two_joints

pytest.importorskip("mujoco")
ROOT = Path(__file__).parent.parent.parent


class Wire(LockstepBus):
    """A lockstep bus that can be cut, whose traffic can be seen and into which frames can be put."""

    cut = False

    def __init__(self, twin: Twin, clock: VirtualClock) -> None:
        super().__init__(twin, clock)
        self.sent: list[tuple[int, bytes]] = []

    def send(self, msg: Any, timeout: float | None = None) -> None:
        self.sent.append((msg.arbitration_id, bytes(msg.data)))
        if not self.cut:
            super().send(msg, timeout)

    def inject(self, data: bytes) -> None:
        self._replies.append(Reply(0, data))


def lockstep(spec: RobotSpec) -> tuple[CanMit, Wire, VirtualClock]:
    clock = VirtualClock(5.0)
    wire = Wire(Twin(spec, draw_dynamics(spec, 3), 3), clock)
    return CanMit(spec, clock, bus=wire), wire, clock


class TestInLockstep(DriverContract):
    @pytest.fixture
    def rig(self, pendulum: RobotSpec) -> Rig:
        driver, wire, clock = lockstep(pendulum)
        return Rig(driver, pendulum, clock, kill=lambda: setattr(wire, "cut", True))


class TwinProcess:
    """A twin in a process of its own, started anew when it is dead."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def channel(self) -> str:
        if self.process is None:
            command = [sys.executable, "-m", "sim.twin", "--robot", "simple_pendulum", "--seed", "3"]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert self.process.stdout is not None
            ready, interface, self.name = self.process.stdout.readline().split()
            assert (ready, interface) == ("ready", "slcan")
        return self.name

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    twin = TwinProcess()
    yield twin
    twin.kill()


@in_real_time
class TestOverAPseudoTerminal(DriverContract):
    @pytest.fixture
    def rig(self, twin: TwinProcess, pendulum: RobotSpec) -> Iterator[Rig]:
        clock = MonotonicClock()
        driver = make_driver("can_mit", pendulum, clock, interface="slcan", channel=twin.channel())
        yield Rig(driver, pendulum, clock, twin.kill)
        driver.stop()


def test_a_stop_damps_then_disables(pendulum: RobotSpec) -> None:
    driver, wire, clock = lockstep(pendulum)
    driver.open()
    driver.enable()
    wire.sent.clear()
    start = clock.now()
    driver.stop()
    payloads = [payload for _, payload in wire.sent]
    damped = JointCommand.damped(pendulum.joint_values("stop_damping"))
    codec = MotorCodec(pendulum.joints["shoulder"].motor)
    assert payloads[-1] == EXIT and len(payloads) == 11
    assert clock.now() - start == pytest.approx(0.1, abs=1e-3)
    assert all(codec.decode(p).kd == pytest.approx(damped.kd[0], abs=1e-3) for p in payloads[:-1])
    assert all(abs(codec.decode(p).torque) < 0.01 for p in payloads[:-1])


def test_a_robot_that_was_only_read_is_sent_nothing_but_exit_frames(pendulum: RobotSpec) -> None:
    driver, wire, _ = lockstep(pendulum)
    driver.open()
    for _ in range(3):
        driver.poll()
        driver.read(PATIENCE)
    driver.stop()
    assert {payload for _, payload in wire.sent} == {EXIT}


def test_silence_names_the_joint_and_how_long(pendulum: RobotSpec) -> None:
    driver, wire, clock = lockstep(pendulum)
    driver.open()
    driver.enable()
    clock.sleep_until(clock.now() + 0.01)
    wire.cut = True
    driver.write(JointCommand.of_torque(np.zeros(1)))
    start = clock.now()
    with pytest.raises(StaleState, match=r"joint shoulder \(motor 1\) has not answered for 0\.030 s"):
        driver.read(0.02)
    assert clock.now() - start == pytest.approx(0.02)


@in_real_time
def test_a_robot_that_hangs_is_noticed_and_its_late_answers_are_dropped(pendulum: RobotSpec, twin: TwinProcess) -> None:
    driver = CanMit(pendulum, MonotonicClock(), channel=twin.channel())
    assert twin.process is not None
    with contextlib.ExitStack() as stack:  # a failed attempt leaves the next one a free port
        driver.open()
        stack.callback(driver.stop)
        driver.poll()
        driver.read(PATIENCE)
        twin.process.send_signal(signal.SIGSTOP)
        stack.callback(twin.process.send_signal, signal.SIGCONT)
        for _ in range(3):
            driver.poll()
            with pytest.raises(StaleState):
                driver.read(0.01)
        twin.process.send_signal(signal.SIGCONT)
        time.sleep(1.0)  # it answers all three
        driver.poll()
        driver.read(PATIENCE)
        assert driver.ignored == {"stale": 3}


class BusyAdapter(Wire):
    """A wire before whose every frame a whole wait goes by, as when an adapter's acknowledgement is slow to be read."""

    waited = False

    def recv(self, timeout: float | None = None) -> Reply | None:
        self.waited = bool(self._replies) and not self.waited
        if self.waited:
            self._clock.sleep_until(self._clock.now() + (timeout or 0.0))
            return None
        return super().recv(timeout)


def test_late_answers_behind_slow_acknowledgements_are_dropped(pendulum: RobotSpec) -> None:
    clock = VirtualClock(5.0)
    wire = BusyAdapter(Twin(pendulum, draw_dynamics(pendulum, 3), 3), clock)
    driver = CanMit(pendulum, clock, bus=wire)
    driver.open()
    for _ in range(4):
        driver.poll()
        clock.sleep_until(clock.now() + 0.01)
    driver.read(0.01)
    assert driver.ignored == {"stale": 3}


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal, as file descriptors: what a computer writes into the second, the first reads."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_a_pause_of_this_process_while_it_sends_is_no_blocked_bus(
    pendulum: RobotSpec, terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = pytest.importorskip("serial")
    adapter, computer = terminal
    driver = CanMit(pendulum, VirtualClock(), channel=os.ttyname(computer))
    driver.open()
    clock = VirtualClock()  # of the serial port's time-outs, on which every look takes 0.1 ms

    def look() -> float:
        clock.sleep_until(clock.now() + 1e-4)
        return clock.now()

    class PausedOnceWritten:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, file: int, data: bytes) -> int:
            count = os.write(file, data)
            clock.sleep_until(clock.now() + 0.1)
            return count

    monkeypatch.setattr(serial.serialutil.Timeout, "TIME", staticmethod(look))
    monkeypatch.setattr(serial.serialposix, "os", PausedOnceWritten())
    driver.poll()
    assert clock.now() > 0.1
    driver.stop()
    seen = b""
    while f"t0018{EXIT.hex().upper()}\r".encode() not in seen:  # the kernel takes its time to hand it over
        seen += os.read(adapter, 4096)


def test_a_blocked_bus_is_an_error(pendulum: RobotSpec, terminal: tuple[int, int]) -> None:
    pytest.importorskip("serial")
    computer = terminal[1]
    driver = CanMit(pendulum, MonotonicClock(), channel=os.ttyname(computer))
    driver.open()
    os.set_blocking(computer, False)

    def fill() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:  # nobody reads at the other end
                os.write(computer, b"\r" * 4096)

    with pytest.raises(DriverError, match=r"joint shoulder \(motor 1\) cannot be sent to: .*check the adapter"):
        while True:  # until the kernel has handed over all that it will
            fill()
            driver.poll()
    driver.stop()


def test_frames_of_no_use_are_counted_and_ignored(pendulum: RobotSpec) -> None:
    driver, wire, _ = lockstep(pendulum)
    driver.open()
    wire.cut = True
    driver.poll()
    for data in (b"", b"\x01\x02", b"\x09" * 6, b"\x01" * 7, EXIT, b"\x01\x80\x00\x80\x08\x00"):
        wire.inject(data)
    assert driver.read(PATIENCE).position[0] == pytest.approx(0.0, abs=1e-3)
    assert driver.ignored == {"malformed": 3, "unknown": 1, "echo": 1}


def test_an_answer_that_came_too_late_is_dropped(pendulum: RobotSpec) -> None:
    driver, wire, _ = lockstep(pendulum)
    driver.open()
    wire.cut = True
    driver.poll()
    with pytest.raises(StaleState):
        driver.read(0.01)
    wire.inject(b"\x01\xff\xff\x80\x08\x00")  # at 12.5 rad
    wire.cut = False
    driver.poll()
    assert abs(driver.read(0.01).position[0]) < 1.0
    assert driver.ignored == {"stale": 1}


def test_a_motor_fault_is_an_error(pendulum: RobotSpec) -> None:
    driver, wire, _ = lockstep(pendulum)
    driver.open()
    driver.poll()
    wire._replies.clear()
    wire.inject(b"\x01\x80\x00\x80\x08\x00\x1e\x02")
    with pytest.raises(DriverError, match="joint shoulder: motor 1 reports fault 2"):
        driver.read(0.01)


def changed(spec: RobotSpec, acts: bool = True, **motor: Any) -> RobotSpec:
    joint = spec.joints["shoulder"]
    joint = dataclasses.replace(joint, acts=acts, motor=dataclasses.replace(joint.motor, **motor))
    return dataclasses.replace(spec, joints={**spec.joints, "shoulder": joint})


def test_sign_and_offset_lie_between_joint_and_motor(pendulum: RobotSpec) -> None:
    spec = changed(pendulum, sign=-1, offset=0.5)
    driver, wire, clock = lockstep(spec)
    driver.open()
    driver.enable()
    state = driver.read(PATIENCE)
    assert state.position[0] == pytest.approx(0.0, abs=0.02)  # the joint hangs, although its motor reads 0.5 rad
    sent = driver.write(JointCommand(*np.array([[0.2], [0.3], [4.0], [0.2], [1.0]])))
    motor = MotorCodec(spec.joints["shoulder"].motor).decode(wire.sent[-1][1])
    assert motor == pytest.approx((0.3, -0.3, 4.0, 0.2, -1.0), abs=0.07)
    values = [sent.position[0], sent.velocity[0], sent.kp[0], sent.kd[0], sent.torque[0]]
    assert values == pytest.approx([0.2, 0.3, 4.0, 0.2, 1.0], abs=0.07)
    driver.read(PATIENCE)
    for _ in range(20):
        clock.sleep_until(clock.now() + 0.01)
        driver.write(JointCommand.of_torque(np.ones(1)))
        state = driver.read(PATIENCE)
    assert state.torque[0] == pytest.approx(1.0, abs=0.1) and state.position[0] > 0.05


def test_a_passive_joint_is_read_and_only_damped(tmp_path: Path) -> None:
    spec = two_joints(tmp_path)
    driver, wire, _ = lockstep(spec)
    driver.open()
    driver.enable()
    assert [can_id for can_id, _ in wire.sent] == [7, 2, 7, 2]
    sent = driver.write(JointCommand(*np.array([[0.2], [0.3], [4.0], [0.2], [1.0]]).repeat(2, axis=1)))
    for values, passive, acting in (
        (sent.velocity, 0.0, 0.3),
        (sent.kp, 0.0, 4.0),
        (sent.kd, 0.2, 0.2),
        (sent.torque, 0.0, 1.0),
    ):
        np.testing.assert_allclose(values, [passive, acting], atol=0.07)
    assert MotorCodec(spec.joints["shoulder"].motor).decode(wire.sent[-2][1]).kp == 0.0
    np.testing.assert_allclose(driver.read(PATIENCE).position, 0.0, atol=1e-3)


def test_one_silent_joint_of_two_is_named(tmp_path: Path) -> None:
    driver, wire, _ = lockstep(two_joints(tmp_path))
    driver.open()
    wire.cut = True
    driver.poll()
    wire.inject(b"\x07\x80\x00\x80\x08\x00")
    with pytest.raises(StaleState, match=r"^can_mit: joint elbow \(motor 2\) has not answered for 0\.010 s$"):
        driver.read(0.01)


def test_motors_must_differ_in_the_low_byte_of_their_ids(tmp_path: Path) -> None:
    spec = two_joints(tmp_path)
    elbow = spec.joints["elbow"]
    twin_id = dataclasses.replace(elbow, motor=dataclasses.replace(elbow.motor, id=0x107))
    with pytest.raises(ConfigError, match=r"joints\.\*\.motor\.id: got \[7, 263\]"):
        CanMit(dataclasses.replace(spec, joints={**spec.joints, "elbow": twin_id}), VirtualClock())


@pytest.mark.parametrize(
    ("interface", "channel", "expected"),
    [
        ("slcan", "/dev/ttyNOBODY", "serial port"),
        ("slcan", None, "serial port"),
        ("socketcan", "can9", "ip link"),
        ("udp_multicast", "not-an-address", "multicast"),
        ("telepathy", "1", "allowed interfaces: .*slcan"),
    ],
)
def test_a_bus_that_is_not_there(pendulum: RobotSpec, interface: str, channel: str | None, expected: str) -> None:
    driver = CanMit(pendulum, MonotonicClock(), interface=interface, channel=channel)
    with pytest.raises(DriverError, match=f"interface '{interface}', channel {channel!r}: .*{expected}"):
        driver.open()
    driver.stop()


def test_drivers_are_made_by_name(pendulum: RobotSpec) -> None:
    with pytest.raises(ConfigError, match="'can_mitt'; allowed: one of can_mit"):
        make_driver("can_mitt", pendulum, VirtualClock())
