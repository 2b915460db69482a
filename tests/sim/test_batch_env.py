"""Robots in one process: the same seed gives the same trajectory, and a rollout ends as it should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from sim.batch_env import BatchEnv
from sim.tasks import make_task

LANES = 6


@pytest.fixture
def env(pendulum: RobotSpec) -> Iterator[BatchEnv]:
    made = BatchEnv(pendulum, make_task("swing_up", pendulum), LANES)
    yield made
    made.close()


def trajectory(env: BatchEnv, seed: int, steps: int = 40) -> np.ndarray:
    """(steps+1, n, O+1) observations and rewards under random commands."""
    rng = np.random.default_rng(seed)
    env.set_dynamics(env.ranges.sample(env.lanes, rng))
    rows = [np.hstack([env.reset(rng, 0.5), env.reward[:, None]])]
    commands = np.random.default_rng(seed + 1000).uniform(-2, 2, (steps, env.lanes, 1))
    for command in commands:
        rows.append(np.hstack([env.step(command), env.reward[:, None]]))
    return np.array(rows)


def test_the_same_seed_gives_the_same_trajectory(env: BatchEnv, pendulum: RobotSpec) -> None:
    first = trajectory(env, 1)
    assert not np.array_equal(first, trajectory(env, 2))
    assert np.array_equal(first, trajectory(env, 1))  # whatever has happened before
    other = BatchEnv(pendulum, make_task("swing_up", pendulum), LANES)
    assert np.array_equal(first, trajectory(other, 1))
    other.close()


def test_observations_match_the_layout_of_the_spec(env: BatchEnv, pendulum: RobotSpec) -> None:
    seen = env.reset(np.random.default_rng(0)).copy()
    assert seen.shape == (LANES, pendulum.observation_size) and seen.dtype == np.float32
    start = pendulum.channel_slices()["rollout_start"]
    assert (seen[:, start] == 1).all() and (env.step(np.zeros((LANES, 1)))[:, start] == 0).all()


def test_rewards_are_the_tasks_on_what_was_sensed(env: BatchEnv) -> None:
    before = env.reset(np.random.default_rng(0), 1.0).copy()
    command = np.full((LANES, 1), 1.5)
    after = env.step(command).copy()
    going = ~env.task.terminated(before)
    assert env.reward[going] == pytest.approx(env.task.reward(before, command, after, np.zeros_like(command))[going])


def test_a_rollout_that_ended_goes_on_without_torque_or_reward(env: BatchEnv) -> None:
    env.reset(np.random.default_rng(0))
    env.velocity[0] = 21.0  # rad/s, beyond the limit of 20
    env.world.set_state(env.position, env.velocity)
    env.step(np.zeros((LANES, 1)))
    assert env.terminated.tolist() == [True] + [False] * (LANES - 1) and env.reward[0] > -1
    for _ in range(8):
        env.step(np.full((LANES, 1), 2.0))
    assert env.terminated[0] and env.reward[0] == 0 and abs(env.torque[0, 0]) < 0.01
    assert (np.abs(env.torque[1:, 0]) > 1.9).all()
    env.reset(np.random.default_rng(1))
    assert not env.terminated.any()


def test_a_rollout_starts_with_motors_at_rest(env: BatchEnv) -> None:
    env.set_dynamics(np.tile(env.ranges.bounds("test")[:, 1], (LANES, 1)))
    env.reset(np.random.default_rng(0))
    env.step(np.full((LANES, 1), 2.0))
    env.reset(np.random.default_rng(0))
    assert not env.torque.any() and not env.reward.any()


def test_finer_substeps_change_little(pendulum: RobotSpec) -> None:
    ends = []
    for substeps in (5, 50):
        env = BatchEnv(pendulum, make_task("swing_up", pendulum), 1, substeps)
        env.set_dynamics(env.ranges.nominal[None])
        env.reset(np.random.default_rng(0))
        for _ in range(25):
            env.step(np.array([[1.5]]))
        ends.append(env.position[0, 0])
        env.close()
    assert ends[0] == pytest.approx(ends[1], abs=0.03)  # rad after 1 s


def test_position_commands_are_refused(pendulum: RobotSpec) -> None:
    with pytest.raises(ConfigError, match=r"command.*'position'.*torque"):
        BatchEnv(replace(pendulum, command="position"), make_task("swing_up", pendulum), 1)


def test_closing_twice_is_fine(pendulum: RobotSpec) -> None:
    env = BatchEnv(pendulum, make_task("swing_up", pendulum), 1)
    env.close()
    env.close()
