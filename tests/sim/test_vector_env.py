"""Worker processes: the same robots as in one process, in any number, and a clear error when one of them dies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from sim.batch_env import BatchEnv
from sim.family import RobotFamily
from sim.tasks import make_task
from sim.vector_env import VectorEnv, WorkerError

LANES, STEPS = 8, 12


@pytest.fixture(scope="module")
def shared(pendulum: RobotSpec) -> Iterator[VectorEnv]:
    with VectorEnv(RobotFamily(pendulum, "swing_up"), LANES, workers=2, groups=2) as envs:
        yield envs


def commands(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, (STEPS, LANES, 1)).astype(np.float32)


def rollout(envs: VectorEnv, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Observations (STEPS+1, N, O) and rewards (STEPS, N) of one rollout on the robots of that seed."""
    envs.begin_trial(envs.family.sample(LANES, np.random.default_rng(seed)))
    seen, gained = [envs.begin_rollout((*seed, 0), 0.5).copy()], []
    for command in commands():
        observation, reward, _ = envs.step(command)
        seen.append(observation.copy())
        gained.append(reward.copy())
    return np.array(seen), np.array(gained)


def test_two_runs_with_one_seed_are_identical(shared: VectorEnv, pendulum: RobotSpec) -> None:
    first = rollout(shared, (5,))
    assert not np.array_equal(first[0], rollout(shared, (6,))[0])
    again = rollout(shared, (5,))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    with VectorEnv(RobotFamily(pendulum, "swing_up"), LANES, workers=2, groups=2) as other:
        assert np.array_equal(first[0], rollout(other, (5,))[0])


def test_every_lane_is_the_one_that_a_batch_in_this_process_gives(shared: VectorEnv, pendulum: RobotSpec) -> None:
    seen, gained = rollout(shared, (5,))
    dynamics = shared.family.sample(LANES, np.random.default_rng((5,)))
    for first in range(0, LANES, 2):  # blocks of two lanes: groups x workers
        where = slice(first, first + 2)
        env = BatchEnv(pendulum, make_task("swing_up", pendulum), 2)
        env.set_dynamics(dynamics[where])
        assert np.array_equal(env.reset(np.random.default_rng((5, 0, first)), 0.5), seen[0, where])
        for t, command in enumerate(commands()):
            assert np.array_equal(env.step(command[where].astype(np.float64)), seen[t + 1, where])
            assert np.array_equal(env.reward.astype(np.float32), gained[t, where])
        env.close()


def test_groups_can_be_in_flight_together_and_come_back_in_order(shared: VectorEnv) -> None:
    seen, gained = rollout(shared, (5,))
    shared.begin_trial(shared.family.sample(LANES, np.random.default_rng((5,))))
    shared.begin_rollout((5, 0), 0.5)
    order = commands()
    shared.send(0, order[0][shared.slices[0]])
    for t in range(STEPS):
        shared.send(1, order[t][shared.slices[1]])
        observation, reward, _ = shared.wait(0)
        assert np.array_equal(observation, seen[t + 1, shared.slices[0]])
        assert np.array_equal(reward, gained[t, shared.slices[0]])
        if t + 1 < STEPS:
            shared.send(0, order[t + 1][shared.slices[0]])
        assert np.array_equal(shared.wait(1)[0], seen[t + 1, shared.slices[1]])


def test_a_rollout_that_ends_is_reported_and_a_new_one_begins(shared: VectorEnv) -> None:
    dynamics = np.tile(shared.family.interface.nominal, (LANES, 1))
    shared.begin_trial(dynamics)
    shared.begin_rollout((1,), 0.0)
    ended = np.zeros(LANES, bool)
    for t in range(125):  # pump until the joint turns beyond its limit
        velocity = shared.shared.observation[:, 1]
        _, _, over = shared.step(np.where(velocity[:, None] >= 0, 2.0, -2.0).astype(np.float32))
        assert (over | ~ended).all(), t  # once ended, it stays so
        ended = over.copy()
    assert ended.all()
    shared.begin_rollout((2,), 0.0)
    assert not shared.shared.terminated.any()


@pytest.mark.parametrize("how", ["step", "begin_rollout", "begin_trial"])
def test_a_worker_that_dies_is_named(pendulum: RobotSpec, how: str) -> None:
    with VectorEnv(RobotFamily(pendulum, "swing_up"), 4, workers=2, groups=1) as envs:
        envs.begin_rollout((0,))
        envs._processes[1].kill()
        envs._processes[1].join()
        call = {
            "step": lambda: envs.step(np.zeros((4, 1), np.float32)),
            "begin_rollout": lambda: envs.begin_rollout((1,)),
            "begin_trial": lambda: envs.begin_trial(envs.dynamics),
        }[how]
        with pytest.raises(WorkerError, match=r"worker 1 died \(exit code -9\)"):
            call()
        with pytest.raises(WorkerError, match="closed"):
            envs.send(0, np.zeros((4, 1), np.float32))


def test_an_error_in_a_worker_arrives_with_its_traceback(pendulum: RobotSpec) -> None:
    with (
        VectorEnv(RobotFamily(pendulum, "swing_up"), 2, workers=1, groups=1) as envs,
        pytest.raises(WorkerError, match=r"(?s)worker 0 failed.*Traceback.*set_dynamics"),
    ):
        envs.begin_trial(np.zeros((2, 3)))


def test_lanes_must_divide(pendulum: RobotSpec) -> None:
    with pytest.raises(ConfigError, match=r"lanes: got 9; allowed: a multiple of workers x groups = 4"):
        VectorEnv(RobotFamily(pendulum, "swing_up"), 9, workers=2, groups=2)


def test_closing_ends_the_workers_and_can_be_done_twice(pendulum: RobotSpec) -> None:
    envs = VectorEnv(RobotFamily(pendulum, "swing_up"), 2, workers=1, groups=1)
    process = envs._processes[0]
    envs.close()
    envs.close()
    process.join(timeout=5)
    assert not process.is_alive()
