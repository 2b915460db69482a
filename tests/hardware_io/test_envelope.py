from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hardware_io.envelope import Envelope, EnvelopeStop, LimitReached
from hardware_io.spec import RobotSpec
from hardware_io.state import JointState


def state(position: object, velocity: object = 0.0, time: float = 0.0) -> JointState:
    position = np.atleast_1d(np.array(position, float))
    velocity = np.broadcast_to(np.array(velocity, float), position.shape)
    return JointState(time, position, velocity, np.zeros_like(position))


def arm(pendulum: RobotSpec, command: str = "torque", rate: float = 100.0) -> RobotSpec:
    """Two joints ± 1 rad (margin 0.1 rad), 5 rad/s, 2 N·m, 1 N·m a tick; the elbow is passive."""
    joint = replace(
        pendulum.joints["shoulder"],
        position_limit=(-1.0, 1.0),
        velocity_limit=5.0,
        torque_rate_limit=rate,
        kp=10.0,
        kd=1.0,
    )
    joints = {"shoulder": joint, "elbow": replace(joint, acts=False)}
    return replace(pendulum, joints=joints, command=command, poses={})


def test_a_torque_inside_the_limits_passes_unchanged(pendulum: RobotSpec) -> None:
    command = Envelope(arm(pendulum)).limit(state([0.0, 0.0]), np.array([0.7]))
    assert command.torque.tolist() == [0.7, 0.0]
    assert not command.kp.any() and not command.kd.any() and not command.position.any()


def test_torque_moves_by_the_rate_limit_and_stops_at_the_torque_limit(pendulum: RobotSpec) -> None:
    envelope = Envelope(arm(pendulum))
    sent = [envelope.limit(state([0.0, 0.0]), np.array([50.0])).torque[0] for _ in range(3)]
    assert sent == [1.0, 2.0, 2.0]
    assert envelope.limit(state([0.0, 0.0]), np.array([-50.0])).torque[0] == 1.0
    envelope.damped()
    assert envelope.limit(state([0.0, 0.0]), np.array([-50.0])).torque[0] == -1.0


@pytest.mark.parametrize("position, action, sent", [(0.95, 1, 0.5), (1.0, 1, 0), (0.95, -1, -1), (-0.975, -1, -0.25)])
def test_torque_towards_a_limit_fades_away(pendulum: RobotSpec, position: float, action: float, sent: float) -> None:
    command = Envelope(arm(pendulum)).limit(state([position, 0.0]), np.array([float(action)]))
    assert command.torque[0] == pytest.approx(sent)


@pytest.mark.parametrize(
    "position, velocity, said",
    [
        ([1.01, 0.0], 0.0, "joint shoulder: position is 1.010 rad; limit: -1.0 to 1.0 rad"),
        ([0.0, -1.2], 0.0, "joint elbow: position is -1.200 rad"),
        ([0.0, 0.0], [0.0, 5.5], "joint elbow: velocity is 5.500 rad/s; limit: ±5.0 rad/s"),
    ],
)
def test_a_joint_beyond_its_limits_ends_the_rollout(pendulum: RobotSpec, position, velocity, said: str) -> None:
    with pytest.raises(LimitReached, match=said):
        Envelope(arm(pendulum)).limit(state(position, velocity), np.array([0.0]))


def test_what_is_not_finite_ends_the_session(pendulum: RobotSpec) -> None:
    envelope = Envelope(arm(pendulum))
    for position, velocity, action, said in (
        ([0.0, np.nan], 0.0, 0.0, "joint elbow: position is nan rad"),
        ([0.0, 0.0], [-np.inf, 0.0], 0.0, "joint shoulder: velocity is -inf rad/s"),
        ([0.0, 0.0], 0.0, np.nan, "joint shoulder: action is nan N·m; allowed: finite numbers"),
    ):
        with pytest.raises(EnvelopeStop, match=said) as error:
            envelope.limit(state(position, velocity), np.array([action]))
        assert not isinstance(error.value, LimitReached)


def motor_torque(command, now: JointState) -> np.ndarray:
    spring = command.kp * (command.position - now.position) + command.kd * (command.velocity - now.velocity)
    return spring + command.torque


def test_a_position_command_is_a_spring_whose_torque_is_bounded(pendulum: RobotSpec) -> None:
    envelope = Envelope(arm(pendulum, "position", rate=1e4))
    now = state([0.2, 0.0], [0.5, 0.0])
    command = envelope.limit(now, np.array([0.3]))
    assert command.position.tolist() == [0.3, 0.0] and command.kp.tolist() == [10.0, 0.0]
    assert command.torque[0] == pytest.approx(0.0)  # 10 · 0.1 − 1 · 0.5 = 0.5 N·m needs no bound
    assert motor_torque(command, now)[0] == pytest.approx(0.5)
    command = envelope.limit(now, np.array([9.0]))  # clipped to 1.0 rad: 10 · 0.8 − 0.5 = 7.5 N·m
    assert command.position[0] == 1.0 and command.torque[0] == 0.0
    assert command.kp[0] == pytest.approx(10 * 2 / 7.5) and command.kd[0] == pytest.approx(1 * 2 / 7.5)
    assert motor_torque(command, now).tolist() == pytest.approx([2.0, 0.0])


def test_a_position_command_that_turns_too_fast_becomes_a_torque(pendulum: RobotSpec) -> None:
    envelope = Envelope(arm(pendulum, "position", rate=100.0))
    assert motor_torque(envelope.limit(state([0.0, 0.0]), np.array([0.5])), state([0.0, 0.0]))[0] == 1.0
    command = envelope.limit(state([0.0, 0.0]), np.array([-0.5]))  # wants −5 N·m, 1 N·m away from +1 is 0
    assert command.torque[0] == 0.0 and command.kp[0] == 0.0
    envelope.limit(state([0.0, 0.0]), np.array([0.5]))
    envelope.limit(state([0.0, 0.0]), np.array([0.5]))
    command = envelope.limit(state([0.0, 0.0]), np.array([-0.5]))
    assert (command.torque[0], command.kp[0], command.kd[0]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("mode", ["torque", "position"])
def test_whatever_goes_in_what_comes_out_is_inside_the_limits_or_a_stop(pendulum: RobotSpec, mode: str) -> None:
    spec = arm(pendulum, mode)
    envelope, rng = Envelope(spec), np.random.default_rng(0)
    strange = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0, -0.0, 5e-324])
    last, sent = np.zeros(2), 0
    for _ in range(5000):
        now = state(rng.normal(0, 0.5, 2), rng.normal(0, 2, 2))
        action = rng.normal(0, 10, 1) if rng.random() < 0.8 else rng.choice(strange, 1)
        if rng.random() < 0.05:
            now.position[rng.integers(2)] = rng.choice(strange)
        try:
            command = envelope.limit(now, action)
        except EnvelopeStop:
            continue
        torque, sent = motor_torque(command, now), sent + 1
        assert np.isfinite(torque).all() and torque[1] == 0.0
        assert abs(torque[0]) <= 2.0 + 1e-9
        assert abs(torque[0]) <= max(abs(last[0] + 1.0), abs(last[0] - 1.0)) + 1e-9
        assert not (now.position[0] > 0.9 and torque[0] > 2.0 * (1.0 - now.position[0]) / 0.1 + 1e-9)
        last = torque
    assert sent > 2000


def test_homing_pulls_what_is_far_and_acts_and_damps_everything(pendulum: RobotSpec) -> None:
    envelope = Envelope(arm(pendulum))
    for position, wanted in (([3.0, 3.0], [-2.0, 0.0]), ([-1.5, 0.0], [2.0, 0.0]), ([0.9, 5.0], [0.0, 0.0])):
        command = envelope.homing(state(position), np.zeros(2))
        assert command.torque.tolist() == wanted
        assert command.kd.tolist() == [0.3, 0.3] and not command.kp.any()
    assert envelope.homing(state([np.nan, 0.0]), np.zeros(2)).torque.tolist() == [0.0, 0.0]


def test_the_watchdogs(pendulum: RobotSpec) -> None:
    envelope = Envelope(pendulum)  # 10 ms I/O, stale after 30 ms, stop at 5 missed
    envelope.check(state(0.0, time=1.0), due=1.03, missed=0)
    with pytest.raises(EnvelopeStop, match=r"the newest state is 0.031 s old; allowed: at most 0.03 s"):
        envelope.check(state(0.0, time=1.0), due=1.031, missed=0)
    envelope.check(state(0.0, time=1.0), due=1.05, missed=4)  # our own pause, not the robot's
    with pytest.raises(EnvelopeStop, match=r"5 deadlines of 0.01 s missed in a row; allowed: fewer than 5"):
        envelope.check(state(0.0, time=1.0), due=1.06, missed=1)
    envelope = Envelope(pendulum)
    for _ in range(10):
        envelope.check(state(0.0, time=1.0), due=1.03, missed=2)
        envelope.check(state(0.0, time=1.0), due=1.03, missed=0)
