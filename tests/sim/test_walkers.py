"""What is particular to half-cheetahs and to ants: their bodies, and what they are paid for."""

import numpy as np
import pytest

from sim.bullet import pybullet
from sim.families import mjcf
from sim.families.ant import Ant
from sim.families.half_cheetah import HalfCheetah
from sim.families.locomotion import Walkers

LANES = 3


def make(kind, task, **settings):
    return kind.of({"task": task, **settings}, "test.yaml")


def test_half_cheetahs_are_as_heavy_as_their_file_says():
    model = mjcf.read("half_cheetah")
    assert sum(link.inertial()[0] for link in model.links) == pytest.approx(14.0)  # settotalmass
    assert model.base is None
    assert list(model.gear.values()) == [120, 90, 60, 120, 60, 30]
    front = model.links[model.joints.index("ffoot")]
    assert front.limits == (-3.1, -0.3)
    assert (front.damping, front.armature, front.stiffness) == (1.5, 0.1, 60.0)
    assert model.links[model.joints.index("ignorez")].stiffness == 0  # not that of the defaults, 8


def test_the_inertia_of_a_capsule_is_that_of_its_parts():
    capsule = mjcf.Capsule(np.zeros(3), np.eye(3), radius=0.1, length=0.6, density=500.0)
    rng = np.random.default_rng(0)
    points = rng.uniform([-0.1, -0.1, -0.4], [0.1, 0.1, 0.4], (400_000, 3))
    reach = np.linalg.norm(points - np.clip(points, [0, 0, -0.3], [0, 0, 0.3]), axis=1)
    inside = points[reach < 0.1]
    mass = 500.0 * 0.2 * 0.2 * 0.8 * len(inside) / len(points)
    assert capsule.mass == pytest.approx(mass, rel=0.01)
    square = (inside**2).mean(axis=0)
    expected = mass * np.diag([square[1] + square[2], square[0] + square[2], square[0] + square[1]])
    np.testing.assert_allclose(capsule.inertia, expected, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("damped", [False, True])
def test_in_free_flight_energy_is_lost_to_damping_alone(damped):
    """Kinetic energy of a half-cheetah without gravity, from its inertias as read: so Bullet has them too."""
    model = mjcf.read("half_cheetah")
    for link in model.links:
        link.limits, link.stiffness, link.armature = None, 0.0, 0.0  # an armature would turn with its link
        link.damping *= 0.05 * damped
    walkers = Walkers(model, 1, substeps=50)
    client, body, _ = walkers._worlds[0]
    pybullet.setGravity(0, 0, 0, physicsClientId=client)
    position, velocity = np.zeros((1, 9)), np.zeros((1, 9))
    position[:, 1], velocity[:, 3:] = 100.0, [2.0, -2.0, 3.0, -2.0, 1.0, 3.0]
    walkers.place(position, velocity, np.zeros((1, 13)))

    def energy():
        total = 0.0
        for index, link in enumerate(model.links):
            mass, _, inertia = link.inertial()
            state = pybullet.getLinkState(body, index, computeLinkVelocity=1, physicsClientId=client)
            moving, turning = np.array(state[6]), np.array(state[7])  # the axis of turning is the same in every frame
            total += 0.5 * mass * moving @ moving + 0.5 * turning @ inertia @ turning
        return total

    energies = [energy()]
    for _ in range(4):
        walkers.advance(np.zeros((1, 6)))
        energies.append(energy())
    assert energies[0] > 1.0
    if damped:
        assert (np.diff(energies) < 0).all()
        assert energies[-1] < 0.9 * energies[0]
    else:
        np.testing.assert_allclose(energies, energies[0], rtol=0.02)
    walkers.close()


def test_half_cheetahs_stand_on_their_springs():
    block = make(HalfCheetah, "direction").block(1)
    block.reset(np.random.default_rng(0))
    for _ in range(80):
        observation = block.step(np.zeros((1, 6)))[0]
    assert 0.5 < observation[0] < 0.7  # height, m
    np.testing.assert_allclose(observation[1:7], 0.0, atol=0.1)  # pitch and joints but the front foot, rad
    block.close()


def test_ants_are_made_of_water():
    family = make(Ant, "goal")
    assert family.model.base is not None
    weights = [link.inertial()[0] for link in (family.model.base, *family.model.links)]
    ball, thigh, foot = weights[0], weights[1], weights[2]
    np.testing.assert_allclose(ball, 65.45 + 4 * 7.83, atol=0.02)  # kg, as Bullet's importer has them
    np.testing.assert_allclose([thigh, foot], [7.83, 13.52], atol=0.01)
    assert family.interface.limit == (250.0,) * 8


def pushed(block, distance, share=0.0):
    """Rewards (n,) of a step that moves all robots along x by `distance` m under a share of their torques."""
    block.reset(np.random.default_rng(0))

    def advance(torque):
        if block.walkers.model.base is None:
            block.walkers.position[:, block.walkers.model.joints.index("ignorex")] += distance
        else:
            block.walkers.base[:, 0] += distance

    block.walkers.advance = advance
    block.step(np.full((len(block.reward), len(block.limit)), share) * block.limit)
    return block.reward.copy()


def test_half_cheetahs_are_paid_for_running_in_their_direction():
    block = make(HalfCheetah, "direction").block(2)
    block.set_dynamics(np.array([[1.0], [-1.0]]))
    np.testing.assert_allclose(pushed(block, 0.1), [2.0, -2.0])  # 0.1 m in 0.05 s
    np.testing.assert_allclose(pushed(block, -0.1), [-2.0, 2.0])
    np.testing.assert_allclose(pushed(block, 0.0, share=0.5), -0.05 * 6 * 0.25)
    np.testing.assert_allclose(pushed(block, 0.0, share=-3.0), -0.05 * 6)
    block.close()


def test_a_disabled_joint_gives_no_torque_and_the_others_do():
    family = make(HalfCheetah, "disabled_joint")
    block, command = family.block(3), np.tile(family.interface.limit, (3, 1))
    block.set_dynamics(np.array([[-1.0], [2.0], [2.0]]))
    block.reset(np.random.default_rng(0))
    block.walkers.place(*(np.tile(values, (3, 1)) for values in (block.standing[0], np.zeros(9), block.standing[1])))
    command[2, 2] = 0.0  # what the third is told of that joint makes no difference
    seen = block.step(command)
    assert np.array_equal(seen[1], seen[2]) and not np.allclose(seen[0], seen[1], atol=1e-3)
    assert block.reward[1] == block.reward[2]
    assert block.reward[0] == pytest.approx(block.walkers.position[0, block.x] / 0.05 - 0.05 * 6)
    command[1, 2] = np.nan
    block.step(command)
    assert block.terminated.tolist() == [False, True, False]
    block.close()


def test_training_never_disables_the_joint_that_is_kept_for_tests():
    family, rng = make(HalfCheetah, "disabled_joint"), np.random.default_rng(0)
    assert set(family.sample(300, rng)[:, 0]) == {-1, 0, 1, 2, 3, 5}
    assert set(family.sample(300, rng, "test")[:, 0]) == {-1, 0, 1, 2, 3, 4, 5}
    assert set(family.sample(9, rng, "outside")[:, 0]) == {4} and family.splits() == ("train", "outside")


def test_half_cheetahs_are_paid_for_running_at_their_velocity():
    block = make(HalfCheetah, "velocity").block(2)
    block.set_dynamics(np.array([[2.0], [0.5]]))
    np.testing.assert_allclose(pushed(block, 0.1), [0.0, -1.5])
    np.testing.assert_allclose(pushed(block, -0.05), [-3.0, -1.5])
    block.close()


def test_ants_are_paid_for_walking_in_their_direction_and_for_surviving():
    block = make(Ant, "direction").block(2)
    block.set_dynamics(np.array([[1.0], [-1.0]]))
    np.testing.assert_allclose(pushed(block, 0.1), [2.05, -1.95])  # 0.1 m in 0.05 s
    np.testing.assert_allclose(pushed(block, 0.0, share=0.5), 0.05 - 0.005 * 8 * 0.25)
    block.close()


def test_ants_are_paid_for_being_near_their_goal():
    block = make(Ant, "goal").block(2)
    block.set_dynamics(np.array([[1.0, -2.0], [0.1, 0.0]]))
    np.testing.assert_allclose(pushed(block, 0.1), [-2.9, 0.0], atol=1e-12)
    np.testing.assert_allclose(pushed(block, 0.0, share=0.5), [-3.0 - 0.2, -0.1 - 0.2])
    block.close()


def test_motors_do_not_drive_an_ant_through_the_limits_of_its_joints():
    block = make(Ant, "goal").block(1)
    block.reset(np.random.default_rng(0))
    ankles = [name.startswith("ankle") for name in block.walkers.model.joints]
    for _ in range(80):  # lift the feet, against the weight of the ant
        observation = block.step(-np.sign(block.standing[0]) * ankles * block.limit[None])
    assert observation[0, 2] > 0.35  # m
    np.testing.assert_allclose(np.abs(block.walkers.position[0, ankles]), np.radians(30), atol=0.02)
    block.close()


@pytest.mark.parametrize(("task", "ends"), [("direction", True), ("goal", False)])
def test_an_ant_whose_torso_lies_on_the_ground_has_fallen(task, ends):
    block = make(Ant, task).block(2)
    block.reset(np.random.default_rng(0))
    joints, base = block.standing
    base = base.copy()
    base[2], base[3:7] = 0.3, [1.0, 0.0, 0.0, 0.0]  # on its back
    block.walkers.rescue(1, joints, base)
    for _ in range(20):
        block.step(np.zeros((2, 8)))
    assert block.terminated.tolist() == [False, ends]
    assert block.lost == 0
    block.close()


def test_ants_see_where_they_are_only_if_there_is_a_goal():
    seen = []
    for task in ("direction", "goal"):
        block = make(Ant, task).block(1)
        block.reset(np.random.default_rng(0))
        block.walkers.base[0] = np.arange(13)
        seen.append(block.observe()[0])
        block.close()
    np.testing.assert_array_equal(seen[0][:5], [2, 6, 3, 4, 5])  # height and quaternion wxyz of base x y z, xyzw
    np.testing.assert_array_equal(seen[0][13:19], np.arange(7, 13))
    np.testing.assert_array_equal(seen[1], [0, 1, *seen[0]])
