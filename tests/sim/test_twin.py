"""The twin against closed forms: what a pendulum, a motor and a delay line must do, worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_io.clock import VirtualClock
from hardware_io.config import ConfigError
from hardware_io.drivers.can_mit import CanMit
from hardware_io.mit_protocol import ENTER, EXIT, ZERO, MotorCodec, MotorCommand
from hardware_io.spec import Motor, RobotSpec
from hardware_io.state import Array, DriverError, JointCommand
from sim.dynamics import DynamicsRange
from sim.twin import LockstepBus, Twin, draw_dynamics, main
from sim.twin_bus import SerialAdapter
from tests.conftest import PATIENCE
from tests.sim.two_joints import two_joints

pytest.importorskip("mujoco")
ROOT = Path(__file__).parent.parent.parent
PLAIN = {"payload": 1.0, "torque_constant": 1.0}  # everything else 0
GRAVITY = 9.81  # m/s²


def make(spec: RobotSpec, seed: int = 0, **hidden: float) -> Twin:
    """An enabled pendulum with no friction, noise, lag, latency or tilt but what is given."""
    values = [{**PLAIN, **hidden}.get(name, 0.0) for name in DynamicsRange.of(spec).names]
    twin = Twin(spec, np.array(values), seed, record=True)
    twin.handle(1, ENTER)
    return twin


def send(twin: Twin, *command: float, can_id: int = 1) -> None:
    twin.handle(can_id, codec().encode(MotorCommand(*command))[0])


def codec() -> MotorCodec:
    return MotorCodec(Motor(id=1))


def hold(twin: Twin, duration: float, *command: float, can_id: int = 1) -> None:
    """Send a command every 10 ms."""
    start = twin.time
    for k in range(round(duration / 0.01)):
        send(twin, *command, can_id=can_id)
        twin.advance_to(start + (k + 1) * 0.01)


def moments(payload: float = 1.0, shift: float = 0.0) -> tuple[float, float]:
    """Inertia about the axis, kg·m², and weight times lever, N·m, from the numbers in the URDF."""
    inertia = 0.006 + 0.32 * (0.3 + shift) ** 2 + payload * (1e-4 + 0.25 * 0.5**2)
    return inertia, GRAVITY * (0.32 * (0.3 + shift) + payload * 0.25 * 0.5)


def trace(twin: Twin) -> Array:
    """Time, position, velocity and torque of the first joint, (4, n)."""
    assert twin.trace is not None
    return np.array([(time, position[0], velocity[0], torque[0]) for time, position, velocity, torque in twin.trace]).T


def period(twin: Twin) -> float:
    """Mean time between upward crossings of the mean, s."""
    time, position, _, _ = trace(twin)
    up = np.flatnonzero((position[:-1] < 0) & (position[1:] >= 0))
    crossing = time[up] - position[up] * (time[up + 1] - time[up]) / (position[up + 1] - position[up])
    return float(np.diff(crossing).mean())


@pytest.mark.parametrize(("payload", "shift"), [(0.0, 0.0), (1.0, 0.0), (2.3, 0.0), (1.0, 0.05), (0.0, -0.05)])
def test_small_oscillations_have_the_period_of_the_payload(pendulum: RobotSpec, payload: float, shift: float) -> None:
    twin = make(pendulum, payload=payload, centre_of_mass=shift)
    twin.reset(np.array([0.1]), np.zeros(1))
    twin.advance_to(6.0)
    inertia, lever = moments(payload, shift)
    assert period(twin) == pytest.approx(2 * np.pi * np.sqrt(inertia / lever) * (1 + 0.1**2 / 16), rel=1e-3)


def test_energy_stays_without_friction(pendulum: RobotSpec) -> None:
    twin = make(pendulum)
    twin.reset(np.array([2.5]), np.zeros(1))
    twin.advance_to(5.0)
    _, position, velocity, torque = trace(twin)
    inertia, lever = moments()
    energy = inertia * velocity**2 / 2 + lever * (1 - np.cos(position))
    np.testing.assert_allclose(energy, lever * (1 - np.cos(2.5)), rtol=4e-3)
    assert not torque.any()


def test_viscous_friction_takes_its_share(pendulum: RobotSpec) -> None:
    twin = make(pendulum, viscous_friction=0.03)
    twin.reset(np.array([0.1]), np.zeros(1))
    twin.advance_to(4.0)
    time, position, velocity, _ = trace(twin)
    inertia, lever = moments()
    amplitude = np.sqrt(position**2 + inertia * velocity**2 / lever)
    rate = -np.polyfit(time, np.log(amplitude), 1)[0]
    assert rate == pytest.approx(0.03 / (2 * inertia), rel=0.02)


def test_coulomb_friction_takes_its_share(pendulum: RobotSpec) -> None:
    twin = make(pendulum, coulomb_friction=0.02)
    twin.reset(np.array([0.2]), np.zeros(1))
    twin.advance_to(period_of_small() * 1.5)
    position = trace(twin)[1]
    # Every half swing loses twice the friction over the stiffness.
    assert position.min() == pytest.approx(-(0.2 - 2 * 0.02 / moments()[1]), rel=0.01)
    late = position[len(position) // 2 :]
    assert late.max() == pytest.approx(0.2 - 4 * 0.02 / moments()[1], rel=0.015)


def period_of_small() -> float:
    inertia, lever = moments()
    return float(2 * np.pi * np.sqrt(inertia / lever))


def test_coulomb_friction_sticks(pendulum: RobotSpec) -> None:
    twin = make(pendulum, coulomb_friction=0.1)
    hold(twin, 1.0, 0, 0, 0, 0, 0.08)
    assert abs(twin.state().position[0]) < 1e-4
    hold(twin, 0.3, 0, 0, 0, 0, 0.2)
    assert twin.state().position[0] > 0.02


def test_a_tilted_base_needs_a_torque_to_hold_the_arm(pendulum: RobotSpec) -> None:
    twin = make(pendulum, base_tilt=0.2)
    hold(twin, 3.0, 0, 0, 20, 1.5, 0)
    state = twin.state()
    # Turned by +q about +y, the arm is pulled back by its weight as from +q in the world: tilt and angle add.
    assert state.torque[0] == pytest.approx(moments()[1] * np.sin(state.position[0] + 0.2), rel=1e-3)
    assert state.torque[0] > 0.3 and state.position[0] < 0
    free = make(pendulum, base_tilt=0.2, viscous_friction=0.5)
    free.advance_to(6.0)
    assert free.state().position[0] == pytest.approx(-0.2, abs=1e-3)


def test_the_watchdog_cuts_the_torque_after_25_ms(pendulum: RobotSpec) -> None:
    twin = make(pendulum, latency=0.01)
    hold(twin, 0.1, 0, 0, 0, 0, 1.0)
    send(twin, 0, 0, 0, 0, 1.0)
    twin.advance_to(0.2)
    time, _, _, torque = trace(twin)
    acting = (time > 0.0111) & (time < 0.1251)
    assert (torque[acting] > 0.9).all() and not torque[time > 0.1261].any()
    send(twin, 0, 0, 0, 0, 1.0)
    twin.advance_to(0.2105)
    assert twin.state().torque[0] > 0.9  # a new command ends it


def test_latency_delays_each_command_by_itself(pendulum: RobotSpec) -> None:
    twin = make(pendulum, latency=0.0234)
    for k, torque in enumerate((1.0, -1.0, 0.5, 0.5, 0.5, 0.5)):
        send(twin, 0, 0, 0, 0, torque)
        twin.advance_to((k + 1) * 0.0103)
    time, _, _, torque = trace(twin)
    begin = [time[np.flatnonzero(np.abs(torque - level) < 0.01)[0] - 1] for level in (1.0, -1.0, 0.5)]
    np.testing.assert_allclose(begin, [0.0234, 0.0337, 0.044], atol=1e-9)


def test_torque_follows_as_a_first_order_lag_and_is_scaled(pendulum: RobotSpec) -> None:
    twin = make(pendulum, torque_response=0.02, torque_constant=0.5)
    for k in range(10):
        send(twin, 0, 0, 0, 0, 2.0)
        twin.advance_to((k + 1) * 0.005)
    time, _, _, torque = trace(twin)
    sent = codec().encode(MotorCommand(0, 0, 0, 0, 2.0))[1].torque
    begin = np.concatenate([[0.0], time[:-1]])
    mean = 1 - 0.02 * (np.exp(-begin / 0.02) - np.exp(-time / 0.02)) / (time - begin)
    np.testing.assert_allclose(torque, 0.5 * sent * mean, rtol=1e-9)
    reply = codec().decode_reply(twin.handle(1, EXIT) or b"")
    assert reply.torque == pytest.approx(0.0, abs=0.01)  # no lag in switching off


def test_the_motor_reports_what_it_believes_its_torque_is(pendulum: RobotSpec) -> None:
    twin = make(pendulum, torque_constant=0.5)
    hold(twin, 0.05, 0, 0, 0, 0, 2.0)
    reply = codec().decode_reply(twin.handle(1, codec().encode(MotorCommand(0, 0, 0, 0, 2.0))[0]) or b"")
    assert reply.torque == pytest.approx(2.0, abs=0.01) and twin.state().torque[0] == pytest.approx(1.0, abs=0.01)


def test_feedback_runs_in_the_motor_and_saturates(pendulum: RobotSpec) -> None:
    twin = make(pendulum)
    hold(twin, 2.0, 1.0, 0, 400, 5, 0)
    assert twin.state().position[0] == pytest.approx(1.0 - moments()[1] * np.sin(1.0) / 400, abs=2e-3)
    assert np.abs(trace(twin)[3]).max() == pytest.approx(12.0)


def test_sensor_noise_is_in_the_replies_and_not_in_the_state(pendulum: RobotSpec) -> None:
    twin = make(pendulum, position_noise=0.01, velocity_noise=0.2)
    replies = [codec().decode_reply(twin.handle(1, EXIT) or b"") for _ in range(2000)]
    assert np.std([reply.position for reply in replies]) == pytest.approx(0.01, rel=0.06)
    assert np.std([reply.velocity for reply in replies]) == pytest.approx(0.2, rel=0.06)
    assert np.mean([reply.position for reply in replies]) == pytest.approx(0.0, abs=1e-3)
    assert twin.state().position[0] == 0.0


def test_only_an_enabled_motor_acts(pendulum: RobotSpec) -> None:
    twin = make(pendulum)
    twin.handle(1, EXIT)
    hold(twin, 0.1, 0, 0, 0, 0, 1.0)
    assert not twin.state().torque.any() and not twin.state().position.any()
    assert twin.handle(9, EXIT) is None and twin.handle(1, b"\x00") is None


def test_the_all_zero_frame_is_a_command_at_full_torque(pendulum: RobotSpec) -> None:
    twin = make(pendulum)
    twin.handle(1, bytes(8))
    twin.advance_to(0.02)
    assert twin.state().torque[0] == pytest.approx(-12.0)


def test_the_zero_frame_moves_the_motors_zero(pendulum: RobotSpec) -> None:
    twin = make(pendulum)
    twin.reset(np.array([0.7]), np.zeros(1))
    assert codec().decode_reply(twin.handle(1, EXIT) or b"").position == pytest.approx(0.7, abs=1e-3)
    assert codec().decode_reply(twin.handle(1, ZERO) or b"").position == pytest.approx(0.0, abs=1e-3)
    assert twin.state().position[0] == pytest.approx(0.7)


def rollout(spec: RobotSpec, seed: int) -> Array:
    """What a driver reads over 100 ticks in lockstep, (100, 3)."""
    clock = VirtualClock()
    driver = CanMit(spec, clock, bus=LockstepBus(Twin(spec, draw_dynamics(spec, seed, "test"), seed), clock))
    driver.open()
    driver.enable()
    rows = []
    for k in range(100):
        driver.write(JointCommand.of_torque(np.array([np.sin(k / 7)])))
        state = driver.read(0.01)
        rows.append(np.concatenate([state.position, state.velocity, state.torque]))
        clock.sleep_until((k + 1) * 0.01)
    driver.stop()
    return np.array(rows)


def test_a_seed_is_a_robot(pendulum: RobotSpec) -> None:
    first = rollout(pendulum, 5)
    np.testing.assert_array_equal(first, rollout(pendulum, 5))
    assert np.abs(first - rollout(pendulum, 6)).max() > 0.01
    fixed = draw_dynamics(pendulum, 5, "test", {"latency": 0.03})
    assert dict(zip(DynamicsRange.of(pendulum).names, fixed, strict=True))["latency"] == 0.03
    with pytest.raises(ConfigError, match=r"latncy: got 0\.1; allowed: one of payload"):
        draw_dynamics(pendulum, 5, fixed={"latncy": 0.1})


@pytest.mark.parametrize("order", [("shoulder", "elbow"), ("elbow", "shoulder")])
def test_a_tree_of_fixed_and_moving_links_keeps_its_masses(tmp_path: Path, order: tuple[str, ...]) -> None:
    spec = two_joints(tmp_path, order)
    twin = Twin(spec, np.zeros(0))
    shoulder, elbow = order.index("shoulder"), order.index("elbow")
    for can_id in (7, 2):
        twin.handle(can_id, ENTER)
    twin.reset(np.where(np.arange(2) == shoulder, 0.5, 0.3), np.zeros(2))
    motors = [MotorCodec(joint.motor) for joint in spec.joints.values()]
    for k in range(300):  # hold both joints, each on its motor's side
        for i, motor in enumerate(motors):
            target = 0.5 if i == shoulder else -(0.3 - 0.4)
            twin.handle([7, 2][i == elbow], motor.encode(MotorCommand(target, 0, 200, 4, 0))[0])
        twin.advance_to((k + 1) * 0.01)
    state = twin.state()
    assert np.abs(state.velocity).max() < 1e-3
    upper = state.position[shoulder]
    lower = upper + state.position[elbow]
    about_elbow = GRAVITY * (0.4 * 0.15 + 0.1 * 0.3) * np.sin(lower)
    about_shoulder = GRAVITY * (0.5 * 0.1 + 0.5 * 0.25) * np.sin(upper) + about_elbow
    assert state.torque[elbow] == pytest.approx(about_elbow, rel=2e-3)
    assert state.torque[shoulder] == pytest.approx(about_shoulder, rel=2e-3)


def test_every_mechanism_on_a_tree(tmp_path: Path) -> None:
    def parameter(unit: str, apply: str, value: float, **target: Any) -> dict[str, Any]:
        return {"unit": unit, "nominal": value, "train": [value] * 2, "test": [value] * 2, "apply": apply, **target}

    spec = two_joints(
        tmp_path,
        mass=parameter("1", "mass_scale", 3.0, link="tip"),
        inertia=parameter("1", "inertia_scale", 2.0, link="lower"),
        rotor=parameter("kg·m²", "motor_inertia", 0.004, joint="elbow"),
        tilt=parameter("rad", "base_tilt", np.pi / 2, axis=[0, 1, 0]),
        noise=parameter("rad/s", "sensor_noise", 0.1, channel="elbow_velocity"),
    )
    twin = Twin(spec, DynamicsRange.of(spec).nominal, record=True)
    twin.reset(np.array([-np.pi / 2, 0.05]), np.zeros(2))  # hanging straight down beside the fallen stand
    twin.handle(7, ENTER)
    command = MotorCodec(spec.joints["shoulder"].motor).encode(MotorCommand(-np.pi / 2, 0, 500, 5, 0))[0]
    for k in range(300):
        twin.handle(7, command)
        twin.advance_to((k + 1) * 0.01)
    assert twin.trace is not None
    time, position = np.array([row[0] for row in twin.trace]), np.array([row[1][1] for row in twin.trace])
    ups = time[np.flatnonzero((position[:-1] < 0) & (position[1:] >= 0))]
    inertia = 2 * 0.002 + 0.4 * 0.15**2 + 3 * (0.002 + 0.1 * 0.3**2) + 0.004
    expected = 2 * np.pi * np.sqrt(inertia / (GRAVITY * (0.4 * 0.15 + 0.3 * 0.3)))
    assert np.diff(ups).mean() == pytest.approx(expected, rel=0.02)
    elbow = MotorCodec(spec.joints["elbow"].motor)
    velocities = [elbow.decode_reply(twin.handle(2, EXIT) or b"").velocity for _ in range(99)]
    assert np.std(velocities) == pytest.approx(0.1, rel=0.3)


def test_names_that_are_not_in_the_urdf(tmp_path: Path) -> None:
    mass = {"unit": "1", "nominal": 1.0, "train": [1.0, 1.0], "test": [1.0, 1.0], "apply": "mass_scale", "link": "hand"}
    spec = two_joints(tmp_path, mass=mass)
    with pytest.raises(ConfigError, match=r"dynamics\.mass\.link: got 'hand'; allowed: one of .*tip"):
        Twin(spec, np.ones(1))
    spec = two_joints(tmp_path)
    (tmp_path / "two_joints.urdf").write_text((tmp_path / "two_joints.urdf").read_text().replace('"elbow"', '"wrist"'))
    with pytest.raises(ConfigError, match=r"joints\.elbow: got 'elbow'.*shoulder, wrist"):
        Twin(spec, np.zeros(0))
    (tmp_path / "two_joints.urdf").write_text("<robot><link></robot>")
    with pytest.raises(ConfigError, match=r"two_joints\.urdf: .*MuJoCo"):
        Twin(spec, np.zeros(0))


def test_the_serial_adapter_answers_as_one(pendulum: RobotSpec) -> None:
    twin = make(pendulum)
    adapter = SerialAdapter(twin.handle)
    assert adapter.receive(b"t0018FFFFFFFFFFFFFFFD\r") == b"\a"  # the bus is closed
    assert adapter.receive(b"\rC\rS8\r\rO\rO\r") == b"\r\r\r\r\r\a"
    assert adapter.receive(b"t0018FFFFFFFFFF") == b""
    assert adapter.receive(b"FFFFFD\r") == b"z\rt0006018000800800\r"
    assert adapter.receive(b"t0098FFFFFFFFFFFFFFFD\r") == b"z\r"  # nobody has this address
    assert adapter.receive(b"T000000018FFFFFFFFFFFFFFFD\r") == b"Z\r"
    for noise in (b"t00180000\r", b"t00x8\r", b"t\r", b"hello\r", b"t001\xff\r", b"x" * 99 + b"\r"):
        assert adapter.receive(noise) == b"\a"


def test_a_process_plays_the_robot_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "-m", "sim.twin", "--robot", "simple_pendulum", "--set", "latency=0.01", "--reveal"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert '"latency": 0.01' in process.stdout.readline()
        assert process.stdout.readline().startswith("ready slcan /dev/")
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--robot", "simple_pendulun"], "allowed: a YAML file or one of .*simple_pendulum"),
        (["--robot", "simple_pendulum", "--set", "latency=fast"], "latency: got 'fast'; allowed: NAME=VALUE"),
        (["--robot", "simple_pendulum", "--set", "gravity=1"], "gravity: got 1.0; allowed: one of payload"),
        (["--robot", "simple_pendulum", "--transport", "socketcan", "--channel", "nocan9"], "nocan9"),
    ],
)
def test_bad_arguments(arguments: list[str], expected: str) -> None:
    with pytest.raises((ConfigError, DriverError), match=expected):
        main(arguments)
