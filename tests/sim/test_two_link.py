"""The closed form of two-link robots moves as the equations of planar robots say, and as Bullet does."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.model import RigidModel
from sim.planar import PlanarModel, acceleration
from sim.robots import load_robot
from sim.two_link import TwoLinkWorld
from sim.world import BulletWorld

LANES = 6


@pytest.fixture(scope="module")
def model() -> RigidModel:
    return RigidModel(load_robot("double_pendulum/pendubot_lab"))


def dynamics(model: RigidModel) -> np.ndarray:
    return model.ranges.sample(LANES, np.random.default_rng(0), "test")


def test_it_accelerates_as_the_equations_of_planar_robots_say(model: RigidModel) -> None:
    rng, step = np.random.default_rng(1), 1e-6
    shape = PlanarModel(model)
    q, v = rng.uniform(-3, 3, (LANES, 2)), rng.uniform(-5, 5, (LANES, 2))
    torque, none = rng.uniform(-2, 2, (LANES, 2)), np.zeros((LANES, 2))
    world = TwoLinkWorld(model, LANES, step)
    world.build(shape.bodies(dynamics(model)), none, none)
    world.set_state(q, v)
    after_q, after_v = q.copy(), v.copy()
    world.advance(torque[None], after_q, after_v)
    expected = acceleration(shape.bodies(dynamics(model)), *(x.T[..., None] for x in (q, v, torque)))[..., 0].T
    np.testing.assert_allclose((after_v - v) / step, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(after_q, q + step * after_v, rtol=0, atol=1e-12)


def test_it_falls_as_bullet_does_with_friction_and_torque(model: RigidModel) -> None:
    values = dynamics(model)
    for rotor in ("shoulder_rotor", "elbow_rotor"):  # Bullet's rotors belong to links
        values[:, model.ranges.names.index(rotor)] = 0.0
    viscous, coulomb = np.full((LANES, 2), 0.01), np.tile([0.2, 0.15], (LANES, 1))
    start = np.random.default_rng(2).uniform(-1, 1, (LANES, 2))
    torque = np.tile([1.0, -0.3], (100, LANES, 1))
    ends = []
    for world, bodies in (
        (TwoLinkWorld(model, LANES, 0.001), PlanarModel(model).bodies(values)),
        (BulletWorld(model, LANES, 0.001), model.bodies(values)),
    ):
        world.build(bodies, viscous, coulomb)
        world.set_state(start, 0 * start)
        position, velocity = start.copy(), 0 * start
        for _ in range(3):
            world.advance(torque, position, velocity)
        ends.append(position)
        world.close()
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=0.02)
    assert np.abs(ends[0] - start).max() > 0.3


def test_dry_friction_holds_what_weighs_less(model: RigidModel) -> None:
    world, none = TwoLinkWorld(model, LANES, 0.002), np.zeros((LANES, 2))
    world.build(PlanarModel(model).bodies(dynamics(model)), none, np.tile([0.5, 0.5], (LANES, 1)))
    start = np.tile([np.pi + 0.05, -0.04], (LANES, 1))
    world.set_state(start, none)
    position, velocity = start.copy(), none.copy()
    world.advance(np.zeros((200, LANES, 2)), position, velocity)
    np.testing.assert_allclose(position, start, rtol=0, atol=1e-3)


def test_a_robot_of_another_shape_is_refused() -> None:
    single = RigidModel(load_robot("simple_pendulum"))
    with pytest.raises(ConfigError, match=r"physics\.engine.*bullet for the joints"):
        TwoLinkWorld(single, 1, 0.01)
