from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hardware_io.observation import assemble, channel_of
from hardware_io.spec import Channel, RobotSpec
from hardware_io.state import JointState


@pytest.fixture
def two_joints(pendulum: RobotSpec) -> RobotSpec:
    shoulder = pendulum.joints["shoulder"]
    channels = (
        Channel("elbow_velocity", "joint_velocity", ("elbow",)),
        Channel("reward", "previous_reward"),
        Channel("position", "joint_position"),
        Channel("torque", "joint_torque", ("elbow", "shoulder")),
        Channel("start", "rollout_start"),
    )
    return replace(pendulum, joints={"shoulder": shoulder, "elbow": shoulder}, channels=channels, poses={})


def test_channels_lie_in_the_order_of_the_spec(two_joints: RobotSpec) -> None:
    state = JointState(0.0, np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0]))
    observation = assemble(two_joints, state, True, -0.5)
    assert observation.tolist() == [4.0, -0.5, 1.0, 2.0, 6.0, 5.0, 1.0]
    assert observation.dtype == np.float32
    assert assemble(two_joints, state, False)[[1, 6]].tolist() == [0.0, 0.0]


def test_a_value_is_named_by_channel_and_unit(two_joints: RobotSpec) -> None:
    names = [channel_of(two_joints, i) for i in range(7)]
    assert names[0] == "elbow_velocity[0] (rad/s)"
    assert names[3] == "position[1] (rad)"
    assert names[6] == "start[0] (1)"
    with pytest.raises(IndexError, match="has 7 values, asked for 7"):
        channel_of(two_joints, 7)
