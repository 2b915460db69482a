"""Knocks: their shape, and that a robot feels them."""

import numpy as np
import pytest

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from sim.bumps import COUNT, Bumps
from sim.dynamics import DynamicsRange
from sim.family import RobotFamily
from sim.robots import load_robot


def knocked(joint: str = "shoulder") -> RobotSpec:
    data = load_robot("double_pendulum/pendubot").to_dict()
    bumps = {
        "unit": "N·m",
        "nominal": 0.0,
        "train": [0.0, 5.0],
        "test": [0.0, 5.0],
        "apply": "torque_bumps",
        "joint": joint,
    }
    source = load_robot("double_pendulum/pendubot").source
    return RobotSpec.from_dict({**data, "dynamics": {**data["dynamics"], "bumps": bumps}}, source)


def test_a_rollout_has_three_bells_up_to_the_height_of_its_robot() -> None:
    spec = knocked()
    ranges, steps, substeps = DynamicsRange.of(spec), 200, 5
    bumps = Bumps(spec, ranges, lanes=400, steps=steps, substeps=substeps)
    dynamics = np.tile(ranges.nominal, (400, 1))
    dynamics[:200, ranges.names.index("bumps")] = 4.0
    bumps.set_dynamics(dynamics)
    bumps.reset(np.random.default_rng(0))
    torque = np.concatenate([bumps.torques(step) for step in range(steps)])[..., 0]  # (T·S, n)
    assert torque.shape == (steps * substeps, 400) and not torque[:, 200:].any()
    peak = np.abs(torque[:, :200]).max(0)
    assert peak.min() > 0.3 and 3.5 < peak.max() <= COUNT * 4.0
    # A bell of height h and width w holds h · w · √(2π); all of them lie within the rollout but for their ends.
    held = np.abs(torque[:, :200]).sum(0).mean() * spec.period.policy / substeps
    assert held == pytest.approx(COUNT * 0.55 * 4.0 * 0.075 * np.sqrt(2 * np.pi), rel=0.15)
    before = torque.copy()
    bumps.reset(np.random.default_rng(1))
    assert np.abs(np.concatenate([bumps.torques(step) for step in range(steps)])[..., 0] - before).max() > 1


def test_a_robot_is_moved_by_them() -> None:
    family = RobotFamily(knocked(), "swing_up")
    block, where = family.block(2), list(DynamicsRange.of(family.spec).names).index("bumps")
    dynamics = np.tile(family.interface.nominal, (2, 1))
    dynamics[1, where] = 5.0
    block.set_dynamics(dynamics)
    block.reset(np.random.default_rng(0))
    moved = np.zeros(2)
    for _ in range(family.steps):
        block.step(np.zeros((2, 1)))
        moved = np.maximum(moved, np.abs(block.position[:, 0]))
    assert moved[0] < 0.1 < moved[1]
    block.close()


def test_only_joints_that_act_are_knocked() -> None:
    with pytest.raises(ConfigError, match=r"dynamics.bumps.joint: got 'elbow'; allowed: a joint that acts"):
        DynamicsRange.of(knocked("elbow"))
