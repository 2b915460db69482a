"""A robot linearised at rest in its goal, in the simulator that it is trained in. `J` joints, `A` action."""

from __future__ import annotations

import numpy as np

from hardware_io.config import ConfigError
from hardware_io.interface import Linear
from hardware_io.spec import RobotSpec
from sim.model import RigidModel
from sim.world import BulletWorld

STEPS = (1e-3, 1e-2, 5e-2)  # rad, rad/s and N·m to either side
AT_REST = 1e-2  # rad and rad/s, of what a pose may move by within a period
SUBSTEPS = 20  # of a policy period; finer than in training, because it is done once


def linearise(spec: RobotSpec, pose: str = "upright") -> Linear:
    """One policy period of the nominal robot without friction, by central differences.

    Raises ConfigError for a pose that has to be held: a regulator would have to know the torque for that.
    """
    joints, actions = len(spec.joints), spec.action_size
    goal, states = np.array(spec.poses[pose]), 2 * len(spec.joints)
    model = RigidModel(spec)
    size = np.repeat(STEPS, [joints, joints, actions])
    off = np.concatenate([np.diag(size), -np.diag(size)])  # (2 (2J + A), 2J + A)
    world = BulletWorld(model, len(off), spec.period.policy / SUBSTEPS)
    try:
        none = np.zeros((len(off), joints))
        world.build(model.bodies(np.tile(model.ranges.nominal, (len(off), 1))), none, none)
        position, velocity = goal + off[:, :joints], off[:, joints:states].copy()
        world.set_state(position, velocity)
        world.advance(np.tile(off[:, states:], (SUBSTEPS, 1, 1)), position, velocity)
    finally:
        world.close()
    after = np.concatenate([position - goal, velocity], axis=1)
    if np.abs(after.mean(0)).max() > AT_REST:
        allowed = "for a regulator, a pose in which the robot stays without torque"
        raise ConfigError(spec.source, f"poses.{pose}", goal.tolist(), allowed)
    slopes = ((after[: len(size)] - after[len(size) :]) / (2 * size[:, None])).T  # (2J, 2J + A)
    return Linear(
        goal=tuple(map(float, goal)),
        period=spec.period.policy,
        state=tuple(tuple(map(float, row)) for row in slopes[:, :states]),
        action=tuple(tuple(map(float, row)) for row in slopes[:, states:]),
    )
