"""Half-cheetahs and ants as families of tasks."""

import pickle

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.bullet import pybullet
from sim.families import mjcf
from sim.families.ant import Ant
from sim.families.half_cheetah import HalfCheetah
from sim.families.locomotion import FASTEST, Walkers

FAMILIES = [
    (HalfCheetah, "direction"),
    (HalfCheetah, "velocity"),
    (HalfCheetah, "disabled_joint"),
    (Ant, "direction"),
    (Ant, "goal"),
]
families = pytest.mark.parametrize(("kind", "task"), FAMILIES)
LANES = 3


def make(kind, task, **settings):
    return kind.of({"task": task, **settings}, "test.yaml")


def rollout(family, block, seed, steps=12):
    """Observations (T+1, n, O) and rewards (T, n) under random torques."""
    rng = np.random.default_rng(seed)
    limit = np.array(family.interface.limit)
    observations, rewards = [block.reset(rng)], []
    for _ in range(steps):
        observations.append(block.step(rng.uniform(-1, 1, (LANES, len(limit))) * limit).copy())
        rewards.append(block.reward.copy())
    return np.stack(observations), np.stack(rewards)


@families
def test_blocks_keep_to_the_interface_of_their_family(kind, task):
    family = pickle.loads(pickle.dumps(make(kind, task)))
    assert family.steps == 200
    block = family.block(LANES)
    parameters = family.sample(LANES, np.random.default_rng(0))
    assert parameters.shape == (LANES, len(family.interface.nominal))
    block.set_dynamics(parameters)
    observations, rewards = rollout(family, block, 0)
    assert observations.shape == (13, LANES, family.interface.observation)
    assert observations.dtype == np.float32
    assert rewards.shape == (12, LANES)
    assert block.terminated.dtype == bool
    block.close()
    block.close()


@families
def test_rollouts_repeat_themselves_in_a_used_block_and_in_a_new_one(kind, task):
    family = make(kind, task)
    block, fresh = family.block(LANES), family.block(LANES)
    first = rollout(family, block, 1)
    rollout(family, block, 2)
    for again in (rollout(family, block, 1), rollout(family, fresh, 1)):
        for before, after in zip(first, again, strict=True):
            np.testing.assert_array_equal(before, after)
    block.close()
    fresh.close()


@families
def test_torques_are_clipped_to_what_the_motors_give(kind, task):
    family = make(kind, task)
    block = family.block(LANES)
    limit = np.tile(family.interface.limit, (LANES, 1))
    seen = []
    for scale in (1.0, 50.0):
        block.reset(np.random.default_rng(0))
        seen.append([block.step(scale * limit).copy() for _ in range(3)] + [block.reward.copy()])
    for at_limit, beyond in zip(*seen, strict=True):
        np.testing.assert_array_equal(at_limit, beyond)
    block.close()


@families
def test_a_command_that_is_not_finite_ends_that_rollout_alone(kind, task):
    family = make(kind, task)
    block, beside = family.block(LANES), family.block(LANES)
    for each in (block, beside):
        each.reset(np.random.default_rng(0))
    command = np.zeros((LANES, len(family.interface.limit)))
    broken = command.copy()
    broken[1, 0] = np.nan
    for given in (broken, command):
        np.testing.assert_array_equal(block.step(given), beside.step(command))
        assert block.terminated.tolist() == [False, True, False]
        assert block.reward[1] == 0
        np.testing.assert_array_equal(block.reward[[0, 2]], beside.reward[[0, 2]])
    assert block.lost == 1
    block.reset(np.random.default_rng(0))
    assert not block.terminated.any()
    block.close()
    beside.close()


@families
@pytest.mark.parametrize("speed", [np.nan, FASTEST + 1])
def test_a_robot_that_broke_out_of_the_simulation_is_put_back(kind, task, speed):
    family = make(kind, task)
    block, beside = family.block(LANES), family.block(LANES)
    for each in (block, beside):
        each.reset(np.random.default_rng(0))
    command = np.zeros((LANES, len(family.interface.limit)))
    advance = block.walkers.advance

    def burst(torque):
        advance(torque)
        block.walkers.velocity[1, -1] = speed

    block.walkers.advance = burst
    observation = block.step(command)
    block.walkers.advance = advance
    assert (block.lost, block.terminated.tolist(), block.reward[1]) == (1, [False, True, False], 0.0)
    assert np.abs(observation).max() < 10
    beside.step(command)
    for _ in range(5):
        observation, undisturbed = block.step(command), beside.step(command)
    np.testing.assert_array_equal(observation[[0, 2]], undisturbed[[0, 2]])
    assert block.lost == 1
    for before, after in zip(rollout(family, block, 1), rollout(family, beside, 1), strict=True):
        np.testing.assert_array_equal(before, after)
    block.close()
    beside.close()


@families
def test_a_robot_whose_position_is_not_a_number_stands_on_the_ground_again(kind, task):
    family = make(kind, task)
    block = family.block(2)
    block.reset(np.random.default_rng(0))
    block.walkers.position[1], block.walkers.base[1] = np.nan, np.nan
    block.walkers._put(1)
    for _ in range(40):
        observation = block.step(np.zeros((2, len(family.interface.limit))))
    assert block.terminated.tolist() == [False, True]
    assert np.isfinite(observation).all()
    assert (observation[:, 2 if task == "goal" else 0] > 0.15).all()
    block.close()


@families
def test_feedback_is_appended(kind, task):
    family = make(kind, task, feedback=True)
    plain = make(kind, task)
    assert family.interface.observation == plain.interface.observation + 2
    block = family.block(LANES)
    observations, rewards = rollout(family, block, 3)
    np.testing.assert_array_equal(observations[1:, :, -2], rewards.astype(np.float32))
    assert observations[:, 0, -1].tolist() == [1.0] + [0.0] * 12
    block.close()


@families
def test_unknown_settings_and_splits_are_named(kind, task):
    with pytest.raises(ConfigError, match=r"family\.settings\.task"):
        make(kind, "sideways")
    with pytest.raises(ConfigError, match="split"):
        make(kind, task).sample(1, np.random.default_rng(0), "everything")


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


@families
def test_without_torque_robots_settle_on_the_ground(kind, task):
    family = make(kind, task)
    block = family.block(LANES)
    block.reset(np.random.default_rng(0))
    for _ in range(80):
        observation = block.step(np.zeros((LANES, len(family.interface.limit))))
    height = observation[:, 2 if task == "goal" else 0]  # of the torso, m
    assert (height > 0.15).all()
    assert (height < 0.7).all()
    assert not block.terminated.any()
    np.testing.assert_allclose(block.walkers.velocity, 0.0, atol=0.5)  # a foot may tremble at the end of its range
    block.close()


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


@pytest.mark.parametrize("kind", [HalfCheetah, Ant])
def test_directions_are_as_often_forward_as_backward(kind):
    family = make(kind, "direction")
    directions = family.sample(1000, np.random.default_rng(0), "test")
    assert set(directions.ravel()) == {-1.0, 1.0}
    assert abs(directions.mean()) < 0.1
    with pytest.raises(ConfigError, match="split"):
        family.sample(1, np.random.default_rng(0), "outside")


def test_goals_beyond_those_of_training_are_held_out():
    family = make(Ant, "goal")
    distance = {
        split: np.linalg.norm(family.sample(1000, np.random.default_rng(0), split), axis=1)
        for split in ("train", "test", "outside")
    }
    assert 2.9 < distance["train"].max() <= 3
    assert np.mean(distance["train"] < 3 / np.sqrt(2)) == pytest.approx(0.5, abs=0.05)  # uniform in area
    assert distance["test"].min() < 3 < distance["test"].max() <= 4
    assert distance["outside"].min() >= 3


def test_velocities_beyond_those_of_training_are_held_out():
    family = make(HalfCheetah, "velocity")
    draws = {split: family.sample(1000, np.random.default_rng(0), split) for split in ("train", "test", "outside")}
    assert draws["train"].min() >= 0
    assert 1.9 < draws["train"].max() <= 2
    assert 2.9 < draws["test"].max() <= 3
    assert draws["outside"].min() > 2
