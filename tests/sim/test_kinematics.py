"""The yardstick for Bullet, itself held against the double pendulum's equations."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_io.spec import RobotSpec
from sim.kinematics import energy, gravity_torque, mass_matrix
from sim.model import Bodies, RigidModel
from sim.robots import load_robot

M, L1, R, INERTIA = (0.52346, 0.62557), 0.2, (0.2, 0.25569), (0.031887, 0.050870)


@pytest.fixture(scope="module")
def acrobot() -> Bodies:
    model = RigidModel(load_robot("double_pendulum/acrobot"))
    dynamics = model.ranges.nominal[None].copy()
    for name in ("shoulder_rotor", "elbow_rotor"):
        dynamics[:, model.ranges.names.index(name)] = 0.0
    return model.bodies(dynamics)


@pytest.mark.parametrize("pose", [[0.0, 0.0], [1.0, 0.5], [np.pi, -2.0]])
def test_inertia_and_weight_of_two_links(acrobot: Bodies, pose: list[float]) -> None:
    q1, q2 = pose
    coupling = M[1] * L1 * R[1] * np.cos(q2)
    m12 = INERTIA[1] + coupling
    expected = [[INERTIA[0] + M[1] * L1**2 + 2 * coupling + INERTIA[1], m12], [m12, INERTIA[1]]]
    assert mass_matrix(acrobot, np.array(pose)) == pytest.approx(np.array(expected), abs=2e-6)
    lower = 9.81 * M[1] * R[1] * np.sin(q1 + q2)
    weight = [9.81 * (M[0] * R[0] + M[1] * L1) * np.sin(q1) + lower, lower]
    assert gravity_torque(acrobot, np.array(pose)) == pytest.approx(weight, abs=1e-12)


def test_energy_of_two_links(acrobot: Bodies) -> None:
    still = np.zeros(2)
    rise = energy(acrobot, np.array([np.pi, 0.0]), still) - energy(acrobot, still, still)
    assert rise == pytest.approx(2 * 9.81 * (M[0] * R[0] + M[1] * (L1 + R[1])))
    turning = energy(acrobot, still, np.array([2.0, 0.0])) - energy(acrobot, still, still)
    assert turning == pytest.approx(2 * mass_matrix(acrobot, still)[0, 0])


def test_a_tilted_base_tilts_the_weight(pendulum: RobotSpec) -> None:
    model = RigidModel(pendulum)
    dynamics = model.ranges.nominal[None].copy()
    dynamics[:, model.ranges.names.index("base_tilt")] = 0.2
    bodies = model.bodies(dynamics)
    assert gravity_torque(bodies, np.array([-0.2])) == pytest.approx(0.0, abs=1e-12)
    assert gravity_torque(bodies, np.array([np.pi / 2 - 0.2])) == pytest.approx(9.81 * (0.32 * 0.3 + 0.25 * 0.5))
