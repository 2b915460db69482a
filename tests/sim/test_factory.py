"""Anybody's Gymnasium environments as a family: what they become, and what is said of those that cannot be used."""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.families import make_family
from sim.families.factory import FactoryFamily, TaskError
from tests.sim import gym_envs

GAIN = {"gain": {"train": [0.5, 1.0], "test": [0.25, 2.0]}}


def family(function: str, tasks: Any = GAIN, **settings: Any) -> FactoryFamily:
    made = make_family(f"tests.sim.gym_envs:{function}", settings, "mine.yaml", tasks)
    assert isinstance(made, FactoryFamily)
    return made


def test_a_continuous_environment_by_hand() -> None:
    made = family("cart", horizon=4)
    assert made.interface.observation == 1 and made.interface.limit == (0.5,) and not made.interface.discrete
    assert made.interface.bounds == ((0.5, 1.0),) and made.interface.nominal == (0.75,) and made.steps == 4
    block = made.block(2)
    block.set_dynamics(np.array([[0.5], [1.0]]))
    start = block.reset(np.random.default_rng(0))
    assert start.shape == (2, 1) and start.dtype == np.float32 and start[0] != start[1]
    moved = block.step(np.array([[0.2], [99.0]]))  # the second is clipped to the box, 0.25
    assert moved - start == pytest.approx(np.array([[0.1], [0.25]]), abs=1e-6)
    assert block.reward == pytest.approx(moved[:, 0] - 1)
    moved = block.step(np.array([[-99.0], [-99.0]])) - moved
    assert moved == pytest.approx(np.array([[-0.25], [-0.5]]), abs=1e-6)
    block.close()
    block.close()


def test_a_discrete_environment_by_hand() -> None:
    made = family("Rooms", {"room": [0, 4]}, horizon=5, feedback=True)
    assert made.interface.observation == 5 + 2 and made.interface.limit == (1.0,) * 3 and made.interface.discrete
    block = made.block(2)
    block.set_dynamics(np.array([[3.0], [0.0]]))
    first = block.reset(np.random.default_rng(0))
    assert first.tolist() == [[0, 0, 1, 0, 0, 0, 1]] * 2
    seen = block.step(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    assert seen.tolist() == [[0, 0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0]] and block.reward.tolist() == [1, 0]


def test_a_lane_that_has_terminated_waits_for_a_reset() -> None:
    block = family("cart", horizon=10, wind=1.5).block(2)
    block.set_dynamics(np.array([[0.5], [0.5]]))
    block.reset(np.random.default_rng(0))
    ended = [block.step(np.array([[0.0], [-0.5]])) for _ in range(2)][-1].copy()
    assert block.terminated.all() and (block.reward < 0).all()
    assert np.array_equal(block.step(np.zeros((2, 1))), ended) and not block.reward.any()
    block.reset(np.random.default_rng(0))
    assert not block.terminated.any()


def test_rollouts_repeat_with_their_seed_and_not_with_another() -> None:
    block = family("cart", horizon=4).block(3)
    same, again, other = (block.reset(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(same, again) and not np.array_equal(same, other)


def test_environments_of_the_last_trial_are_closed() -> None:
    block = family("cart", horizon=4).block(2)
    gym_envs.CLOSED.clear()
    for gains in ([0.5, 0.6], [0.7, 0.8]):
        block.set_dynamics(np.array(gains)[:, None])
        block.reset(np.random.default_rng(0))
        block.reset(np.random.default_rng(1))
    assert sorted(gym_envs.CLOSED) == [0.5, 0.6]
    block.close()
    assert sorted(gym_envs.CLOSED) == [0.5, 0.6, 0.7, 0.8]


def test_tasks_are_drawn_from_their_split() -> None:
    made = family("cart", {**GAIN, "other": [3, 4]}, horizon=4)
    train, test, outside = (made.sample(500, np.random.default_rng(0), s) for s in ("train", "test", "outside"))
    assert (train >= [0.5, 3]).all() and (train <= [1.0, 4]).all()
    assert test[:, 0].min() < 0.5 and test[:, 0].max() > 1.0 and test[:, 1].min() >= 3 and test[:, 1].max() <= 4
    assert ((outside[:, 0] < 0.5) | (outside[:, 0] > 1.0)).all()
    assert ((outside[:, 0] >= 0.25) & (outside[:, 0] <= 2.0)).all()
    with pytest.raises(ConfigError, match=r"mine\.yaml: split: got 'all'; allowed: one of train, test, outside"):
        made.sample(1, np.random.default_rng(0), "all")
    with pytest.raises(ConfigError, match="drawn from the range of training"):
        family("cart", {"gain": [0.5, 1]}, horizon=4).sample(1, np.random.default_rng(0), "outside")


def _rollout(family: FactoryFamily) -> list[float]:
    block = family.block(2)
    block.set_dynamics(family.sample(2, np.random.default_rng(3)))
    block.reset(np.random.default_rng(4))
    return block.step(np.full((2, family.interface.actions), 0.1)).ravel().tolist()


def test_a_family_travels_to_another_process() -> None:
    made = family("cart", horizon=4, wind=0.5)
    assert _rollout(pickle.loads(pickle.dumps(made))) == _rollout(made)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_rollout, (made,)) == _rollout(made)


def test_cart_poles_of_different_length() -> None:
    made = family("cart_pole", {"half_length": [0.25, 2.0], "mass": [0.05, 0.5]})
    assert made.steps == 500 and made.interface.observation == 4 and made.interface.discrete
    block = made.block(2)
    block.set_dynamics(np.array([[0.25, 0.1], [2.0, 0.1]]))
    block.reset(np.random.default_rng(0))
    lived = np.zeros(2)
    for _ in range(200):
        block.step(np.array([[1.0, 0.0], [1.0, 0.0]]))
        lived += block.reward
    assert block.terminated.all() and lived[0] < lived[1]  # a longer pole falls more slowly


def test_the_horizon_is_the_time_limit_unless_it_is_shorter() -> None:
    assert family("limited_cart").steps == 7 and family("limited_cart", horizon=5).steps == 5
    block = family("limited_cart").block(1)
    block.reset(np.random.default_rng(0))
    for _ in range(7):
        block.step(np.zeros((1, 1)))
    assert not block.terminated.any()


@pytest.mark.parametrize(
    ("function", "settings", "tasks", "words"),
    [
        ("cart", {}, GAIN, ["family.settings.horizon", "None", "no time limit"]),
        ("limited_cart", {"horizon": 8}, GAIN, ["family.settings.horizon", "8", "at most 7"]),
        ("cart", {"horizon": 0}, GAIN, ["family.settings.horizon", "at least 1"]),
        ("cart", {"horizon": 4, "rain": 1}, GAIN, ["family.settings.rain", "one of the keys horizon, feedback, wind"]),
        ("broken", {"horizon": 4}, GAIN, ["family.settings", "missing a required", "fault"]),
        ("boundless", {"horizon": 4}, GAIN, ["family.name", "finite bounds", "inf"]),
        ("nothing", {}, GAIN, ["family.name", "tests.sim.gym_envs has no such attribute"]),
        ("NOT_A_FUNCTION", {}, GAIN, ["family.name", "holds int there"]),
        ("cart", {"horizon": 4}, None, ["family.tasks", "a mapping of hidden parameters"]),
        ("cart", {"horizon": 4}, {}, ["family.tasks", "a mapping of hidden parameters"]),
        ("cart", {"horizon": 4}, {"gain": 3}, ["family.tasks.gain", "3", "train, test"]),
        ("cart", {"horizon": 4}, {"gain": [2, 1]}, ["family.tasks.gain.train", "low <= high"]),
        ("cart", {"horizon": 4}, {"gain": {"train": [0, 1], "test": [0, 0.5]}}, ["family.tasks.gain.test", "contains"]),
    ],
)
def test_what_the_file_gets_wrong_is_named(function: str, settings: dict, tasks: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        family(function, tasks, **settings)
    assert all(word in str(caught.value) for word in ["mine.yaml", *words]), str(caught.value)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("reward", ["its reward is [nan]", "finite"]),
        ("observation", ["its observation is [inf]", "finite"]),
        ("shape", ["its observation has 2 entries", "allowed: 1"]),
        ("truncates", ["truncates its rollout here", "set horizon to 2 or less"]),
        ("raises", ["RuntimeError: the door is stuck"]),
        ("old", ["ValueError", "4"]),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_an_environment_gets_wrong_is_named_with_task_and_step(fault: str, words: list[str]) -> None:
    block = family("broken", fault=fault, horizon=4).block(2)
    block.set_dynamics(np.array([[0.75], [1.5]]))
    block.reset(np.random.default_rng(0))
    block.step(np.zeros((2, 1)))
    with pytest.raises(TaskError) as caught:
        block.step(np.zeros((2, 1)))
    message = str(caught.value)
    assert all(word in message for word in ["mine.yaml: task 1 (gain=1.5): step 2:", *words]), message


def test_spaces_of_all_tasks_are_those_of_the_first() -> None:
    block = family("growing", horizon=4).block(2)
    block.set_dynamics(np.array([[0.75], [1.5]]))
    with pytest.raises(TaskError, match=r"task 1 \(gain=1.5\): its actions are Box.*1\.5.*allowed: Box.*1\.0"):
        block.reset(np.random.default_rng(0))


def test_a_factory_that_fails_is_named_with_its_task() -> None:
    block = family("fussy", horizon=4).block(2)
    for gain, words in ((1.5, "fussy raised ArithmeticError: no such gain"), (-1.0, "returned str; allowed: a gymn")):
        block.set_dynamics(np.array([[0.75], [gain]]))
        with pytest.raises(TaskError, match=rf"task 1 \(gain={gain:g}\): .*{words}"):
            block.reset(np.random.default_rng(0))
    with pytest.raises(TaskError, match=r"the middle of all ranges \(gain=2\): .*ArithmeticError"):
        family("fussy", {"gain": [1, 3]}, horizon=4)
