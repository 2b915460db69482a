"""Half-cheetahs and ants as families of tasks."""

import pickle

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.families.ant import Ant
from sim.families.half_cheetah import HalfCheetah
from sim.families.locomotion import FASTEST

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
