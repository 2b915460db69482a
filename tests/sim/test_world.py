"""Bullet against closed forms and against the textbook equations of a double pendulum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from hardware_io.spec import RobotSpec
from sim.model import RigidModel, rotation_about
from sim.robots import load_robot
from sim.world import GRAVITY, ROBOTS_PER_WORLD, BulletWorld, quaternion

M, L1, R, I0 = (0.52346, 0.62557), 0.2, (0.2, 0.25569), (0.031887, 0.050870)  # kg, m, m, kg·m² about the joint


def parameters(model: RigidModel, lanes: int = 1, **values: object) -> np.ndarray:
    """Nominal hidden parameters but for `values`, (lanes, P)."""
    dynamics = np.tile(model.ranges.nominal, (lanes, 1))
    for name, value in values.items():
        dynamics[:, model.ranges.names.index(name)] = value
    return dynamics


@contextmanager
def bullet(
    spec: RobotSpec, substep: float, viscous: float = 0.0, coulomb: float = 0.0, lanes: int = 1, **values: object
) -> Iterator[BulletWorld]:
    model = RigidModel(spec)
    world = BulletWorld(model, lanes, substep)
    shape = (lanes, len(spec.joints))
    world.build(model.bodies(parameters(model, lanes, **values)), np.full(shape, viscous), np.full(shape, coulomb))
    try:
        yield world
    finally:
        world.close()


def fall(
    world: BulletWorld, position: list[float], steps: int, substeps: int, torque: float = 0.0, speed: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (steps+1, J) of lane 0 under a constant torque on the acting joints."""
    q, v = np.tile(position, (world.lanes, 1)).astype(float), np.full((world.lanes, world.joints), speed)
    world.set_state(q, v)
    qs, vs = [q[0].copy()], [v[0].copy()]
    for _ in range(steps):
        world.advance(np.full((substeps, world.lanes, 1), torque), q, v)
        qs.append(q[0].copy())
        vs.append(v[0].copy())
    return np.array(qs), np.array(vs)


def manipulator(q: np.ndarray, v: np.ndarray, torque: np.ndarray, viscous: float) -> np.ndarray:
    """Accelerations of two links, from M(q) a + c(q, v) + g(q) = torque - viscous · v."""
    coupling = M[1] * L1 * R[1]
    cos2, sin2 = np.cos(q[1]), np.sin(q[1])
    mass = np.array(
        [
            [I0[0] + I0[1] + M[1] * L1**2 + 2 * coupling * cos2, I0[1] + coupling * cos2],
            [I0[1] + coupling * cos2, I0[1]],
        ]
    )
    speeds = coupling * sin2 * np.array([-2 * v[0] * v[1] - v[1] ** 2, v[0] ** 2])
    lower = M[1] * R[1] * np.sin(q[0] + q[1])
    weight = GRAVITY * np.array([(M[0] * R[0] + M[1] * L1) * np.sin(q[0]) + lower, lower])
    return np.linalg.solve(mass, torque - viscous * v - speeds - weight)


def runge_kutta(q: list[float], torque: list[float], viscous: float, steps: int, h: float, every: int) -> np.ndarray:
    state, out, u = np.array([*q, 0.0, 0.0]), [np.array(q)], np.array(torque)

    def rate(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x[2:], manipulator(x[:2], x[2:], u, viscous)])

    for k in range(steps):
        k1 = rate(state)
        k2 = rate(state + h / 2 * k1)
        k3 = rate(state + h / 2 * k2)
        k4 = rate(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if (k + 1) % every == 0:
            out.append(state[:2].copy())
    return np.array(out)


@pytest.mark.parametrize(
    ("robot", "start", "torque", "viscous"),
    [
        ("acrobot", [1.0, 0.5], 0.0, 0.0),
        ("acrobot", [2.5, -1.0], 0.0, 0.02),
        ("acrobot", [0.3, 0.0], 0.5, 0.02),
        ("pendubot", [0.3, 1.0], -1.0, 0.02),
    ],
)
def test_a_double_pendulum_follows_the_manipulator_equations(
    robot: str, start: list[float], torque: float, viscous: float
) -> None:
    spec = load_robot(f"double_pendulum/{robot}")
    both = [0.0, 0.0]
    both[spec.acting[0]] = torque
    exact = runge_kutta(start, both, viscous, steps=1000, h=1e-3, every=20)
    errors = []
    for substeps in (10, 40):  # 2 ms, 0.5 ms
        with bullet(spec, 0.02 / substeps, viscous, shoulder_rotor=0.0, elbow_rotor=0.0) as world:
            errors.append(np.abs(fall(world, start, 50, substeps, torque)[0] - exact).max())
    assert errors[0] < 0.02  # rad, anywhere within 1 s at the robot's own substep
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.15)  # first order


def test_a_rotor_at_the_base_adds_its_inertia_to_the_joint(pendulum: RobotSpec) -> None:
    spec = load_robot("double_pendulum/pendubot")
    with bullet(spec, 1e-4, shoulder_rotor=0.5, elbow_rotor=0.0) as world:
        _, velocity = fall(world, [0.0, 0.0], 1, 1, torque=1.0)
    mass = np.array([[I0[0] + I0[1] + M[1] * L1**2 + 2 * M[1] * L1 * R[1] + 0.5, I0[1] + M[1] * L1 * R[1]], [0, I0[1]]])
    mass[1, 0] = mass[0, 1]
    assert velocity[1] / 1e-4 == pytest.approx(np.linalg.solve(mass, [1.0, 0.0]), rel=1e-3)


def test_a_tilted_base_moves_the_equilibrium(pendulum: RobotSpec) -> None:
    with bullet(pendulum, 0.002, viscous=0.5, base_tilt=0.2) as world:
        position, velocity = fall(world, [0.0], 300, 10)
    assert position[-1, 0] == pytest.approx(-0.2, abs=1e-4) and abs(velocity[-1, 0]) < 1e-3


@pytest.mark.parametrize("payload", [0.0, 1.0, 2.0])
def test_the_period_follows_the_payload(pendulum: RobotSpec, payload: float) -> None:
    with bullet(pendulum, 0.001, payload=payload) as world:
        position, _ = fall(world, [0.05], 3000, 1)
    crossings = np.flatnonzero((position[:-1, 0] > 0) & (position[1:, 0] <= 0))
    period = np.diff(crossings).mean() * 0.001
    weight = 0.25 * payload
    inertia = 0.006 + 0.32 * 0.3**2 + 0.0001 * payload + weight * 0.5**2
    expected = 2 * np.pi * np.sqrt(inertia / (GRAVITY * (0.32 * 0.3 + weight * 0.5)))
    assert period == pytest.approx(expected, rel=2e-3)


def test_dry_friction_sticks_and_then_takes_its_torque_away(pendulum: RobotSpec) -> None:
    inertia = 0.006 + 0.32 * 0.3**2 + 0.0001 + 0.25 * 0.5**2
    with bullet(pendulum, 0.001, coulomb=0.2) as world:
        stuck, _ = fall(world, [0.0], 100, 10, torque=0.15)
        _, velocity = fall(world, [0.0], 1, 10, torque=0.5)
    assert np.abs(stuck).max() < 1e-3
    assert velocity[-1, 0] == pytest.approx((0.5 - 0.2) / inertia * 0.01, rel=0.01)


def test_viscous_friction_decays_exponentially(pendulum: RobotSpec) -> None:
    inertia = 0.006 + 0.32 * 0.3**2 + 0.0001 + 0.25 * 0.5**2
    with bullet(pendulum, 0.0005, viscous=0.5) as world:
        _, velocity = fall(world, [0.0], 10, 1, speed=0.1)  # too short for gravity to matter
    assert velocity[-1, 0] == pytest.approx(0.1 * np.exp(-0.5 / inertia * 0.005), rel=2e-3)


def test_nothing_else_takes_energy_or_limits_speed(pendulum: RobotSpec) -> None:
    with bullet(pendulum, 0.0005) as world:
        _, velocity = fall(world, [0.0], 1, 1, speed=150.0)
    assert velocity[-1, 0] == pytest.approx(150.0, rel=1e-4)


def test_robots_that_share_a_world_do_not_touch(pendulum: RobotSpec) -> None:
    lanes = 2 * ROBOTS_PER_WORLD + 1
    payloads = np.linspace(0, 2, lanes)
    with bullet(pendulum, 0.004, lanes=lanes, payload=payloads) as world:
        q, v = np.full((lanes, 1), 1.0), np.zeros((lanes, 1))
        world.set_state(q, v)
        for _ in range(20):
            world.advance(np.full((10, lanes, 1), 0.1), q, v)
    for lane in (0, ROBOTS_PER_WORLD, lanes - 1):
        with bullet(pendulum, 0.004, payload=payloads[lane]) as alone:
            position, _ = fall(alone, [1.0], 20, 10, torque=0.1)
        assert q[lane, 0] == pytest.approx(position[-1, 0], abs=1e-9)


def test_rebuilding_replaces_the_robots(pendulum: RobotSpec) -> None:
    model = RigidModel(pendulum)
    with bullet(pendulum, 0.004, payload=2.0) as world:
        world.build(model.bodies(parameters(model, payload=0.5)), np.zeros((1, 1)), np.zeros((1, 1)))
        rebuilt, _ = fall(world, [1.0], 20, 10)
    with bullet(pendulum, 0.004, payload=0.5) as world:
        assert np.array_equal(fall(world, [1.0], 20, 10)[0], rebuilt)


def test_quaternions_turn_as_their_matrices() -> None:
    rng = np.random.default_rng(3)
    axes = rng.normal(size=(40, 3))
    angles = np.concatenate([rng.uniform(-np.pi, np.pi, 36), [0.0, np.pi, -np.pi, np.pi / 2]])
    for axis, angle in zip(axes, angles, strict=True):
        expected = np.append(np.sin(angle / 2) * axis / np.linalg.norm(axis), np.cos(angle / 2))
        found = quaternion(rotation_about(axis, np.array([angle])))[0]
        assert abs(found @ expected) == pytest.approx(1.0, abs=1e-12)
