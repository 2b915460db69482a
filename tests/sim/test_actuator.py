"""Motors against closed forms, and the prepared matrices against a loop in small steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hardware_io.mit_protocol import MotorCodec, MotorCommand
from hardware_io.spec import RobotSpec
from sim.actuator import Actuator
from sim.dynamics import DynamicsRange

SUBSTEPS = 5


def actuator(spec: RobotSpec, substeps: int = SUBSTEPS, lanes: int = 1, **values: float | list[float]) -> Actuator:
    """Motors without lag, delay or gain error, but for `values`."""
    ranges = DynamicsRange.of(spec)
    dynamics = np.tile(ranges.nominal, (lanes, 1))
    for name, value in {"latency": 0.0, "torque_response": 0.0, "torque_constant": 1.0, **values}.items():
        dynamics[:, ranges.names.index(name)] = value
    made = Actuator(spec, ranges, lanes, substeps)
    made.set_dynamics(dynamics)
    return made


def run(motors: Actuator, command: float, periods: int) -> np.ndarray:
    """Mean torques of all substeps under one held command, (periods·S,)."""
    return np.concatenate([motors.torques(np.array([[command]]))[:, 0, 0] for _ in range(periods)])


def sent(spec: RobotSpec, torque: float) -> float:
    """What the bus makes of a torque command."""
    motor = next(iter(spec.joints.values())).motor
    return MotorCodec(motor).encode(MotorCommand(0.0, 0.0, 0.0, 0.0, torque))[1].torque


@pytest.mark.parametrize("torque", [0.0, 1.0, -1.0, 1.2345, -0.0029, 0.0029])
def test_a_command_is_coded_as_on_the_bus(pendulum: RobotSpec, torque: float) -> None:
    assert run(actuator(pendulum), torque, 2)[-1] == pytest.approx(sent(pendulum, torque), abs=1e-12)


def test_a_command_saturates_at_the_limit_of_the_joint(pendulum: RobotSpec) -> None:
    limit = float(pendulum.action_limit[0])
    assert run(actuator(pendulum), 50.0, 2)[-1] == pytest.approx(sent(pendulum, limit), abs=1e-9)
    assert run(actuator(pendulum), -50.0, 2)[-1] == pytest.approx(sent(pendulum, -limit), abs=1e-9)


def test_the_torque_constant_scales_what_acts_but_not_what_the_motor_believes(pendulum: RobotSpec) -> None:
    motors = actuator(pendulum, torque_constant=0.6)
    assert run(motors, 1.0, 2)[-1] == pytest.approx(0.6 * sent(pendulum, 1.0), abs=1e-9)
    assert motors.torque[0, 0] == pytest.approx(sent(pendulum, 1.0), abs=1e-9)


@pytest.mark.parametrize("latency", [0.0, 0.003, 0.008, 0.0212, 0.04, 0.055, 0.06])
def test_the_impulse_lost_to_a_delay_is_exact_between_substeps(pendulum: RobotSpec, latency: float) -> None:
    torques = run(actuator(pendulum, latency=latency), 1.0, 4)
    h = pendulum.period.policy / SUBSTEPS
    whole, part = divmod(latency / h + 1e-9, 1)
    assert np.abs(torques[: int(whole)]).max(initial=0) < 1e-9
    assert torques[int(whole)] == pytest.approx((1 - part) * sent(pendulum, 1.0), rel=1e-3)
    assert torques[int(whole) + 1 :] == pytest.approx(sent(pendulum, 1.0), rel=1e-9)


def test_the_lag_is_one_minus_an_exponential(pendulum: RobotSpec) -> None:
    lag, h = 0.02, pendulum.period.policy / 50
    torques = run(actuator(pendulum, substeps=50, torque_response=lag), 1.0, 3)
    middle = (np.arange(150) + 0.5) * h
    assert torques == pytest.approx((1 - np.exp(-middle / lag)) * sent(pendulum, 1.0), abs=1e-4)


def test_the_reported_torque_is_that_at_the_end_of_the_period(pendulum: RobotSpec) -> None:
    motors = actuator(pendulum, torque_response=0.02, latency=0.01)
    run(motors, 1.0, 2)
    assert motors.torque[0, 0] == pytest.approx((1 - np.exp(-(0.08 - 0.01) / 0.02)) * sent(pendulum, 1.0), rel=1e-9)


def test_the_matrices_agree_with_a_loop_in_small_steps(pendulum: RobotSpec) -> None:
    rng = np.random.default_rng(4)
    lanes, periods, fine = 6, 8, 4000
    dynamics = {
        "latency": rng.uniform(0, 0.06, lanes),
        "torque_response": rng.uniform(0.002, 0.03, lanes),
        "torque_constant": rng.uniform(0.5, 1.5, lanes),
    }
    motors = actuator(pendulum, lanes=lanes, **{name: list(values) for name, values in dynamics.items()})
    limit = float(pendulum.action_limit[0])
    commands = rng.uniform(-1.5 * limit, 1.5 * limit, (periods, lanes))
    actual = np.concatenate([motors.torques(c[:, None])[..., 0] for c in commands])  # (periods·S, lanes)
    for lane in range(lanes):
        latency, lag, gain = (dynamics[name][lane] for name in ("latency", "torque_response", "torque_constant"))
        coded = np.array([sent(pendulum, float(np.clip(c, -limit, limit))) for c in commands[:, lane]])
        period = pendulum.period.policy
        torque, expected = 0.0, []
        for k in range(periods * fine):
            due = np.floor(((k + 0.5) * period / fine - latency) / period)
            target = coded[int(due)] if due >= 0 else 0.0
            after = target + (torque - target) * np.exp(-period / fine / lag)
            expected.append((torque + after) / 2)
            torque = after
        means = gain * np.array(expected).reshape(-1, fine // SUBSTEPS).mean(axis=1)
        assert actual[:, lane] == pytest.approx(means, abs=2e-3)


def test_a_reset_forgets_torque_and_commands_under_way(pendulum: RobotSpec) -> None:
    motors = actuator(pendulum, latency=0.05, torque_response=0.02)
    first = run(motors, 1.0, 3)
    motors.reset()
    assert np.array_equal(run(motors, 1.0, 3), first)


def test_only_joints_that_act_have_a_column(pendulum: RobotSpec) -> None:
    joint = pendulum.joints["shoulder"]
    passive = replace(joint, acts=False, motor=replace(joint.motor, id=2))
    spec = replace(pendulum, joints={"shoulder": joint, "elbow": passive}, poses={})
    motors = Actuator(spec, DynamicsRange.of(spec), 3, SUBSTEPS)
    assert motors.torques(np.ones((3, 1))).shape == (SUBSTEPS, 3, 1)


def test_the_age_of_the_state_adds_to_the_latency(pendulum: RobotSpec) -> None:
    ranges = DynamicsRange.of(pendulum)
    dynamics = np.zeros((1, len(ranges)))
    dynamics[:, ranges.names.index("torque_constant")] = 1.0
    older = Actuator(pendulum, ranges, 1, SUBSTEPS, state_age=0.012)
    older.set_dynamics(dynamics)
    assert run(older, 1.0, 3) == pytest.approx(run(actuator(pendulum, latency=0.012), 1.0, 3), abs=1e-12)
