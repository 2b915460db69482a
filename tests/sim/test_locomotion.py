"""Half-cheetahs as families of tasks. The robots are PyBullet's own MJCF files, so weights are those of the files."""

import pickle

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.families import mjcf
from sim.families.half_cheetah import HalfCheetah
from sim.families.locomotion import FASTEST

FAMILIES = [(HalfCheetah, "direction"), (HalfCheetah, "velocity")]
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
def test_a_robot_that_is_lost_ends_alone_and_shows_nothing_infinite(kind, task):
    family = make(kind, task)
    block, beside = family.block(LANES), family.block(LANES)
    for each in (block, beside):
        each.reset(np.random.default_rng(0))
    command = np.zeros((LANES, len(family.interface.limit)))
    broken = command.copy()
    broken[1] = np.nan
    observation, undisturbed = block.step(broken), beside.step(command)
    assert block.terminated.tolist() == [False, True, False]
    assert block.reward[1] == 0
    assert block.lost == 1
    for _ in range(2):
        observation, undisturbed = block.step(command), beside.step(command)
        assert np.isfinite(observation).all()
        assert np.isfinite(block.reward).all()
    np.testing.assert_array_equal(observation[[0, 2]], undisturbed[[0, 2]])
    assert block.lost == 1
    block.reset(np.random.default_rng(0))
    assert not block.terminated.any()
    block.close()
    beside.close()


@families
def test_a_robot_at_an_absurd_speed_is_lost(kind, task):
    block = make(kind, task).block(1)
    block.reset(np.random.default_rng(0))
    advance = block.walkers.advance

    def burst(torque):
        advance(torque)
        block.walkers.velocity[0, -1] = FASTEST + 1

    block.walkers.advance = burst
    observation = block.step(np.zeros((1, len(block.limit))))
    assert (block.lost, block.terminated.tolist(), block.reward.tolist()) == (1, [True], [0.0])
    assert np.abs(observation).max() < 10
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
    assert (front.damping, front.armature) == (1.5, 0.1)


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
    assert (observation[:, 0] > 0.15).all()  # height of the torso, m
    assert (observation[:, 0] < 0.7).all()
    np.testing.assert_allclose(block.walkers.velocity, 0.0, atol=0.1)
    block.close()


def pushed(block, distance, share=0.0):
    """Rewards (n,) of a step that moves all robots forward by `distance` m under a share of their torques."""
    block.reset(np.random.default_rng(0))

    def advance(torque):
        block.walkers.position[:, block.walkers.model.joints.index("ignorex")] += distance

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


def test_half_cheetahs_are_paid_for_running_at_their_velocity():
    block = make(HalfCheetah, "velocity").block(2)
    block.set_dynamics(np.array([[2.0], [0.5]]))
    np.testing.assert_allclose(pushed(block, 0.1), [0.0, -1.5])
    np.testing.assert_allclose(pushed(block, -0.05), [-3.0, -1.5])
    block.close()


def test_directions_are_as_often_forward_as_backward():
    family = make(HalfCheetah, "direction")
    directions = family.sample(1000, np.random.default_rng(0), "test")
    assert set(directions.ravel()) == {-1.0, 1.0}
    assert abs(directions.mean()) < 0.1
    with pytest.raises(ConfigError, match="split"):
        family.sample(1, np.random.default_rng(0), "outside")


def test_velocities_beyond_those_of_training_are_held_out():
    family = make(HalfCheetah, "velocity")
    draws = {split: family.sample(1000, np.random.default_rng(0), split) for split in ("train", "test", "outside")}
    assert draws["train"].min() >= 0
    assert 1.9 < draws["train"].max() <= 2
    assert 2.9 < draws["test"].max() <= 3
    assert draws["outside"].min() > 2
