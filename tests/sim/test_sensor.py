"""What sensors do to true states: the very codes of the bus, noise of the stated size, channels in their order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hardware_io.mit_protocol import MotorCodec
from hardware_io.spec import Channel, RobotSpec
from sim.dynamics import DynamicsRange
from sim.sensor import Sensor

LANES = 4000


def observe(spec: RobotSpec, position: float, velocity: float, torque: float = 0.0, **noise: float) -> np.ndarray:
    """(LANES, O) observations of one true state, without noise but for `noise`."""
    ranges = DynamicsRange.of(spec)
    dynamics = np.tile(ranges.nominal, (LANES, 1))
    for name in ("position_noise", "velocity_noise"):
        dynamics[:, ranges.names.index(name)] = noise.get(name, 0.0)
    sensor = Sensor(spec, ranges, LANES)
    sensor.set_dynamics(dynamics)
    out = np.zeros((LANES, spec.observation_size), np.float32)
    state = [np.full((LANES, len(spec.joints)), value) for value in (position, velocity, torque)]
    sensor.observe(*state, np.full(LANES, 0.25), True, np.random.default_rng(1), out)
    return out


@pytest.mark.parametrize(("sign", "offset"), [(1, 0.0), (-1, 0.0), (1, 0.3), (-1, -1.234)])
def test_values_are_those_that_the_bus_carries(pendulum: RobotSpec, sign: int, offset: float) -> None:
    joint = pendulum.joints["shoulder"]
    motor = replace(joint.motor, sign=sign, offset=offset)
    channels = (*pendulum.channels, Channel("torque", "joint_torque"))
    spec = replace(pendulum, joints={"shoulder": replace(joint, motor=motor)}, channels=channels)
    codec, rng = MotorCodec(motor), np.random.default_rng(2)
    ranges = DynamicsRange.of(spec)
    states = np.concatenate([np.zeros((1, 3)), rng.uniform(-1, 1, (500, 3)) * [14, 25, 13]])
    sensor = Sensor(spec, ranges, len(states))
    sensor.set_dynamics(np.zeros((len(states), len(ranges))))
    out = np.zeros((len(states), spec.observation_size), np.float32)
    columns = [column[:, None] for column in states.T]
    sensor.observe(*columns, np.zeros(len(states)), False, rng, out)
    for (position, velocity, torque), seen in zip(states.tolist(), out, strict=True):
        payload = codec.encode_reply(sign * (position - offset), sign * velocity, sign * torque)
        reply = codec.decode_reply(payload)
        expected = [sign * reply.position + offset, sign * reply.velocity, 0.0, sign * reply.torque]
        assert np.array_equal(seen, np.array(expected, np.float32))


def test_zero_is_not_on_the_grid(pendulum: RobotSpec) -> None:
    seen = observe(pendulum, 0.0, 0.0)[0]
    assert seen[0] == pytest.approx(12.5 / 65535) and seen[1] == pytest.approx(22.5 / 4095)


def test_noise_has_the_stated_size(pendulum: RobotSpec) -> None:
    seen = observe(pendulum, 0.4, 1.0, position_noise=0.004, velocity_noise=0.2)
    assert seen[:, 0].std() == pytest.approx(0.004, rel=0.05) and seen[:, 0].mean() == pytest.approx(0.4, abs=3e-4)
    assert seen[:, 1].std() == pytest.approx(0.2, rel=0.05) and seen[:, 1].mean() == pytest.approx(1.0, abs=0.015)
    assert abs(np.corrcoef(seen[:, 0], seen[:, 1])[0, 1]) < 0.05


def test_noise_is_drawn_before_the_codes(pendulum: RobotSpec) -> None:
    codes = (observe(pendulum, 0.4, 1.0, velocity_noise=0.2)[:, 1].astype(float) + 22.5) * 4095 / 45
    assert np.abs(codes - np.round(codes)).max() < 1e-3 and len(np.unique(np.round(codes))) > 50


def test_beyond_its_range_a_motor_reports_the_end_of_it(pendulum: RobotSpec) -> None:
    seen = observe(pendulum, 20.0, -40.0)[0]
    assert seen[:2].tolist() == [12.5, -22.5]


def test_channels_come_in_the_order_of_the_spec(pendulum: RobotSpec) -> None:
    joint = pendulum.joints["shoulder"]
    spec = replace(
        pendulum,
        joints={"shoulder": joint, "elbow": replace(joint, motor=replace(joint.motor, id=2))},
        poses={},
        channels=(
            Channel("gained", "previous_reward"),
            Channel("velocity", "joint_velocity", ("elbow",)),
            Channel("begun", "rollout_start"),
            Channel("position", "joint_position"),
        ),
    )
    sensor = Sensor(spec, DynamicsRange.of(spec), 1)
    sensor.noise[...] = 0
    out = np.zeros((1, 5), np.float32)
    sensor.observe(
        np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.zeros((1, 2)), np.array([0.5]), True,
        np.random.default_rng(0), out,
    )  # fmt: skip
    assert out[0] == pytest.approx([0.5, 4.0, 1.0, 1.0, 2.0], abs=0.006)
    assert out[0, 0] == 0.5 and out[0, 2] == 1.0  # exact: they do not travel over the bus
