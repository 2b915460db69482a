"""Planar bodies, batched, against the textbook and against themselves: energy stays."""

from __future__ import annotations

import numpy as np
import pytest

from sim.kinematics import energy, gravity_torque, mass_matrix
from sim.model import RigidModel
from sim.planar import PlanarModel, acceleration, motion
from sim.robots import load_robot


@pytest.fixture(params=["pendubot", "simple_pendulum"])
def model(request: pytest.FixtureRequest) -> RigidModel:
    return RigidModel(load_robot(request.param))


def without_rotors(model: RigidModel, count: int) -> np.ndarray:
    dynamics = model.ranges.sample(count, np.random.default_rng(1))
    rotors = [p.apply == "motor_inertia" for p in model.ranges.parameters.values()]
    dynamics[:, rotors] = 0.0
    return dynamics


def test_inertia_and_gravity_are_those_of_the_textbook(model: RigidModel) -> None:
    dynamics, joints = without_rotors(model, 3), len(model.spec.joints)
    q = np.random.default_rng(2).normal(size=(joints, 3, 4))
    matrix, bias = motion(PlanarModel(model).bodies(dynamics), q, np.zeros_like(q))
    for n in range(3):
        bodies = model.bodies(dynamics[n : n + 1])
        for w in range(4):
            found = [[np.broadcast_to(cell, (3, 4))[n, w] for cell in row] for row in matrix]
            np.testing.assert_allclose(found, mass_matrix(bodies, q[:, n, w]), rtol=1e-9)
            np.testing.assert_allclose([b[n, w] for b in bias], gravity_torque(bodies, q[:, n, w]), rtol=1e-9)


def test_energy_stays_without_torque(model: RigidModel) -> None:
    dynamics, joints = without_rotors(model, 1), len(model.spec.joints)
    planar, bodies = PlanarModel(model).bodies(dynamics), model.bodies(dynamics)
    q, v = np.full((joints, 1, 1), 1.2), np.full((joints, 1, 1), -2.0)
    before, zero = energy(bodies, q[:, 0, 0], v[:, 0, 0]), np.zeros_like(q)
    for _ in range(4000):  # midpoint rule, 0.25 ms
        half = v + 1.25e-4 * acceleration(planar, q, v, zero)
        middle = q + 1.25e-4 * v
        q, v = q + 2.5e-4 * half, v + 2.5e-4 * acceleration(planar, middle, half, zero)
    assert energy(bodies, q[:, 0, 0], v[:, 0, 0]) == pytest.approx(before, abs=1e-3)


def test_a_rotor_resists_its_own_joint_alone() -> None:
    model = RigidModel(load_robot("pendubot"))
    dynamics = without_rotors(model, 1)
    turning = dynamics.copy()
    turning[:, model.ranges.names.index("elbow_rotor")] = 0.003
    q = np.full((2, 1, 1), 0.4)
    (light, _), (heavy, _) = (motion(PlanarModel(model).bodies(d), q, 0 * q) for d in (dynamics, turning))
    added = np.array(
        [[np.ravel(h - o)[0] for h, o in zip(*rows, strict=True)] for rows in zip(heavy, light, strict=True)]
    )
    np.testing.assert_allclose(added, [[0, 0], [0, 0.003]], atol=1e-12)
