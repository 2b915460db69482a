"""Raw sensor channels to one observation vector: a plain concatenation, everything else lies in the graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware_io.spec import RobotSpec
from hardware_io.state import JointState


def assemble(
    spec: RobotSpec, state: JointState, rollout_start: bool, previous_reward: float = 0.0
) -> NDArray[np.float32]:
    """The observation, (O,) float32 in SI units, in the order of `spec.channels`.

    `rollout_start` is true at the first observation of a rollout; `previous_reward` belongs to the step before.
    """
    order = list(spec.joints)
    sources = {
        "joint_position": state.position,
        "joint_velocity": state.velocity,
        "joint_torque": state.torque,
        "previous_reward": np.array([previous_reward]),
        "rollout_start": np.array([float(rollout_start)]),
    }
    parts = []
    for channel in spec.channels:
        values = sources[channel.source]
        parts.append(values[[order.index(name) for name in channel.joints]] if channel.joints else values)
    return np.concatenate(parts).astype(np.float32)


def channel_of(spec: RobotSpec, index: int) -> str:
    """Which channel (and unit) a value of the observation belongs to: `velocity[0] (rad/s)`."""
    slices = spec.channel_slices()
    for channel in spec.channels:
        part = slices[channel.name]
        if part.start <= index < part.stop:
            return f"{channel.name}[{index - part.start}] ({channel.unit})"
    raise IndexError(f"observation of {spec.name} has {spec.observation_size} values, asked for {index}")
