"""Navigation, bandits and random MDPs: steps worked out by hand, and players that do as well as their paper says."""

from __future__ import annotations

import itertools
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.families import FAMILIES, bandit_references, make_family, tabular_references
from sim.families.bandits import Bandits, BanditSettings
from sim.families.feedback import feedback_block, feedback_interface
from sim.families.navigation import Navigation, NavigationBlock, NavigationSettings
from sim.families.tabular import Tabular, TabularSettings, unpack
from sim.family import Family

PLAIN = ("navigation", "point_robot", "bandits", "tabular", "cartpole", "cartpole_swing", "grid_world")
UNCHANCED = ("navigation", "point_robot", "grid_world")  # nothing is random but the goal


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("feedback", [False, True])
def test_blocks_fit_their_interface(name: str, feedback: bool) -> None:
    family = pickle.loads(pickle.dumps(make_family(name, {"feedback": feedback}, "x.yaml")))
    interface, rng = family.interface, np.random.default_rng(0)
    parameters = family.sample(4, rng)
    assert parameters.shape == (4, len(interface.bounds)) == (4, len(interface.nominal))
    block = family.block(4)
    for tasks in (np.tile(interface.nominal, (4, 1)), parameters):
        block.set_dynamics(tasks)
        seen = block.reset(rng)
        assert seen.shape == (4, interface.observation) and seen.dtype == np.float32
        seen = block.step(rng.normal(size=(4, interface.actions)))
        assert seen.shape == (4, interface.observation) and seen.dtype == np.float32
        assert block.reward.shape == block.terminated.shape == (4,)
    block.close()


@pytest.mark.parametrize("name", PLAIN)
def test_blocks_repeat_with_their_seed(name: str) -> None:
    family = make_family(name, {}, "x.yaml")
    parameters, block = family.sample(8, np.random.default_rng(1)), family.block(8)
    commands = np.random.default_rng(2).normal(size=(12, 8, family.interface.actions))

    def rollout(seed: int) -> np.ndarray:
        block.set_dynamics(parameters)
        first = block.reset(np.random.default_rng(seed))
        return np.concatenate([first, *(np.append(block.step(c), block.reward[:, None], axis=1) for c in commands)], 1)

    assert np.array_equal(rollout(3), rollout(3))
    assert np.array_equal(rollout(3), rollout(4)) == (name in UNCHANCED)


@pytest.mark.parametrize("name", PLAIN)
def test_splits(name: str) -> None:
    family, rng = make_family(name, {}, "x.yaml"), np.random.default_rng(0)
    assert family.sample(2, rng, "test").shape == family.sample(2, rng).shape
    with pytest.raises(ConfigError, match="split: got 'outside'; allowed: one of train, test: its tests"):
        family.sample(2, rng, "outside")
    with pytest.raises(ConfigError, match=r"split: got 'some'; allowed: one of train, test$"):
        family.sample(2, rng, "some")


@pytest.mark.parametrize("reward", ["sparse", "dense"])
def test_point_robots_by_hand(reward: str) -> None:
    family = make_family("point_robot", {"reward": reward, "feedback": True, "limit": 0.5}, "x.yaml")
    block = family.block(2)
    block.set_dynamics(np.array([[0.0], [np.pi / 2]]))
    assert block.reset(np.random.default_rng(0)).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]
    block.step(np.array([[5.0, 0.1], [0.0, 0.4]]))
    seen = block.step(np.array([[0.5, -0.1], [0.0, 0.3]]))
    assert seen == pytest.approx(np.array([[1, 0, 1, 0], [0, 0.7, 0, 0]]))
    assert block.reward == pytest.approx([1, 0] if reward == "sparse" else [0, -0.3])
    seen = block.step(np.array([[0.0, 0.1], [0.0, 0.2]]))
    assert seen == pytest.approx(np.array([[1, 0.1, 0.9, 0], [0, 0.9, 0.9, 0]]), abs=1e-6)
    assert family.success(np.stack([seen, seen * 0], 1), np.ones((2, 1), bool)).tolist() == [False, False]
    assert family.success(np.stack([seen * 0, seen], 1), np.ones((2, 1), bool)).tolist() == [True, True]
    assert not block.terminated.any()


def test_navigation_by_hand() -> None:
    block = NavigationBlock(NavigationSettings(), 2)
    block.set_dynamics(np.array([[0.1, 0.05], [-0.3, 0.4]]))
    assert block.reset(np.random.default_rng(0)).tolist() == [[0, 0], [0, 0]]
    seen = block.step(np.array([[5.0, 0.05], [0.1, -0.2]]))
    assert seen == pytest.approx(np.array([[0.1, 0.05], [0.1, -0.1]]))
    assert block.reward == pytest.approx([0, -np.hypot(0.4, 0.5)]) and block.terminated.tolist() == [True, False]
    seen = block.step(np.array([[0.1, 0.1], [-0.1, 0.1]]))
    assert seen == pytest.approx(np.array([[0.1, 0.05], [0, 0]])) and block.reward == pytest.approx([0, -0.5])
    assert not block.reset(np.random.default_rng(0)).any() and not block.terminated.any()


def test_navigation_starts_anywhere_when_asked() -> None:
    block = NavigationBlock(NavigationSettings(), 2000)
    start = block.reset(np.random.default_rng(0), anywhere=0.25)
    away = start.any(axis=1)
    assert away.mean() == pytest.approx(0.25, abs=0.05) and 0.45 < np.abs(start).max() <= 0.5


def test_navigation_succeeds_where_a_rollout_ended_early() -> None:
    valid = np.array([[True, True, False], [True, True, True]])
    assert Navigation(NavigationSettings(horizon=3)).success(np.zeros((2, 4, 2)), valid).tolist() == [True, False]


def test_a_bandit_pays_as_often_as_its_arm_says() -> None:
    block = Bandits(BanditSettings(arms=3, feedback=False)).block(2)
    block.set_dynamics(np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.3]]))
    assert block.reset(np.random.default_rng(0)).tolist() == [[1], [1]]
    block.step(np.array([[0, 1, 0], [0, 1, 0]]))
    assert block.reward.tolist() == [1, 0] and not block.terminated.any()
    paid = sum(block.step(np.array([[0, 0, 1], [0, 0, 1]])) * block.reward[:, None] for _ in range(2000)) / 2000
    assert paid == pytest.approx(0.3, abs=0.04)


def test_a_process_goes_where_its_table_says() -> None:
    settings = TabularSettings(states=3, actions=2, steps=3, episodes=2)
    transitions, rewards = np.zeros((1, 3, 2, 3)), np.arange(6.0).reshape(1, 3, 2) * 100
    for state, action in itertools.product(range(3), range(2)):
        transitions[0, state, action, (state + 1 + action) % 3] = 1
    parameters = np.concatenate([transitions.reshape(1, -1), rewards.reshape(1, -1)], axis=1)
    assert all(np.array_equal(a, b) for a, b in zip(unpack(parameters, settings), (transitions, rewards), strict=True))
    family = Tabular(settings)
    assert family.steps == 6 and parameters.shape == (1, len(family.interface.bounds))
    block = family.block(1)
    block.set_dynamics(parameters)
    seen, paid = [block.reset(np.random.default_rng(0))[0]], []
    for action in (0, 1, 0, 1, 1, 0):
        seen.append(block.step(np.eye(2)[[action]])[0])
        paid.append(block.reward[0])
    states = [int(row[:3].argmax()) for row in seen]
    assert states == [0, 1, 0, 0, 2, 1, 0]  # back in state 0 after every third step
    assert paid == pytest.approx([0, 300, 0, 100, 500, 200], abs=5)  # mean of the action taken, deviation 1
    assert [row[3] for row in seen] == pytest.approx([0, *paid])  # seen across the end of an episode
    assert [row[4] for row in seen] == [1, 0, 0, 1, 0, 0, 1]


def test_processes_are_drawn_as_the_paper_says() -> None:
    family = Tabular(TabularSettings())
    transitions, rewards = unpack(family.sample(300, np.random.default_rng(0)), family.settings)
    assert transitions.sum(axis=-1) == pytest.approx(np.ones((300, 10, 5)))
    assert (transitions**2).mean() == pytest.approx(2 / 110, rel=0.02)  # of Beta(1, 9)
    assert rewards.mean() == pytest.approx(1, abs=0.05) and rewards.std() == pytest.approx(1, abs=0.05)


def test_transitions_come_as_often_as_their_probability() -> None:
    family = Tabular(TabularSettings(states=3, actions=2, steps=10, episodes=1, feedback=False))
    block = family.block(6000)
    block.set_dynamics(np.tile(family.sample(1, np.random.default_rng(5)), (6000, 1)))
    block.reset(np.random.default_rng(0))
    seen = block.step(np.tile([0.0, 1.0], (6000, 1))).mean(axis=0)
    expected = unpack(family.sample(1, np.random.default_rng(5)), family.settings)[0][0, 0, 1]
    assert seen == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("name", ["bandits", "tabular"])
def test_regret_is_what_the_best_policy_gets_more(name: str) -> None:
    """The performance difference lemma: of any policy, here one that draws actions unevenly, on average over luck."""
    family = make_family(name, {}, "x.yaml")
    tasks = np.repeat(family.sample(4, np.random.default_rng(0)), 4000, axis=0)
    block, rng = family.block(len(tasks)), np.random.default_rng(1)
    block.set_dynamics(tasks)
    seen, asked, reward = [block.reset(rng)], [], np.zeros(len(tasks))
    for _ in range(family.steps):
        asked.append(np.eye(5)[rng.choice(5, len(tasks), p=[0.4, 0.3, 0.1, 0.1, 0.1])])
        seen.append(block.step(asked[-1]))
        reward += block.reward
    regret = family.regret(tasks, np.stack(seen, axis=1)[:, None], np.stack(asked, axis=1)[:, None])
    assert regret is not None and regret.shape == (len(tasks), 1, family.steps) and regret.min() >= 0
    if isinstance(family, Tabular):
        best = tabular_references.optimal(tasks, np.random.default_rng(2), family.settings)
    else:
        best = family.steps * tasks.max(axis=1)
    given_away = (best - reward).reshape(4, -1)
    error = given_away.std(axis=1) / np.sqrt(given_away.shape[1])
    assert np.abs(regret.sum(axis=(1, 2)).reshape(4, -1).mean(axis=1) - given_away.mean(axis=1)).max() < 4 * error.max()


def test_regret_looks_ahead() -> None:
    """Two states, two steps: staying pays 1 now, going pays nothing now and 5 in the other state."""
    family = Tabular(TabularSettings(states=2, actions=2, steps=2, episodes=1))
    there, here = [0.0, 1.0], [1.0, 0.0]
    task = np.concatenate([np.ravel([here, there, here, there]), [1.0, 0.0, 1.0, 5.0]])[None]
    seen = np.zeros((1, 1, 3, 4))
    seen[0, 0, :, 0] = 1  # stays in the first state
    stay = np.tile([1.0, 0.0], (1, 1, 2, 1))
    assert np.allclose(family.regret(task, seen, stay), [[[5.0 - 2.0, 0.0]]])


def test_families_that_do_not_know_their_best_policy_know_no_regret() -> None:
    family = make_family("navigation", {}, "x.yaml")
    assert not family.knows_regret and make_family("bandits", {}, "x.yaml").knows_regret
    with pytest.raises(NotImplementedError, match="regret of navigation is not known"):
        family.regret(np.zeros((1, 2)), np.zeros((1, 1, 2, 4)), np.zeros((1, 1, 1, 2)))


def test_feedback_is_appended_to_any_block() -> None:
    plain = NavigationBlock(NavigationSettings(), 2)
    block = feedback_block(plain)
    block.set_dynamics(np.array([[0.0, 0.5], [0.05, 0.0]]))
    assert block.reset(np.random.default_rng(0)).tolist() == [[0, 0, 0, 1]] * 2
    move = np.array([[0.0, 0.1], [0.05, 0.0]])
    assert block.step(move) == pytest.approx(np.array([[0, 0.1, -0.4, 0], [0.05, 0, 0, 0]]), abs=1e-6)
    assert block.reward == pytest.approx([-0.4, 0]) and block.terminated.tolist() == [False, True]
    assert block.step(move)[:, 2] == pytest.approx([-0.3, 0], abs=1e-6)
    block.reset(np.random.default_rng(0))
    assert not block.terminated.any()
    interface = Navigation(NavigationSettings()).interface
    assert feedback_interface(interface).observation == interface.observation + 2


# What table 1 of Duan et al. 2016 reports, and how far the mean of so few bandits may be from it.
@pytest.mark.parametrize(
    ("player", "pulls", "arms", "paper", "within"),
    [
        ("random", 10, 5, 5.0, 0.15),
        ("random", 100, 50, 49.8, 0.7),
        ("gittins", 10, 5, 6.6, 0.2),
        ("gittins", 100, 5, 78.3, 2.0),
        ("gittins", 100, 50, 85.2, 1.0),
    ],
)
def test_bandit_players_do_as_well_as_the_paper_says(
    player: str, pulls: int, arms: int, paper: float, within: float
) -> None:
    settings, rng = BanditSettings(arms=arms, pulls=pulls), np.random.default_rng(0)
    total = bandit_references.PLAYERS[player](rng.uniform(size=(1000, arms)), rng, settings)
    assert total.shape == (1000,) and total.mean() == pytest.approx(paper, abs=within)


def test_bandit_players_are_ranked() -> None:
    settings, chances = BanditSettings(arms=5, pulls=100), np.random.default_rng(0).uniform(size=(500, 5))
    order = ("random", "ucb1", "thompson", "gittins")
    means = [bandit_references.PLAYERS[p](chances, np.random.default_rng(1), settings).mean() for p in order]
    assert means == sorted(means)


def test_gittins_indices_of_a_known_table() -> None:
    """For a discount of 0.9 and a uniform prior, Gittins (1979) gives 0.7029 before and 0.8001 after a first win."""
    table = bandit_references.gittins_indices(10)
    assert table[0, 0] == pytest.approx(0.7029, abs=0.01) and table[1, 0] == pytest.approx(0.8001, abs=0.01)
    assert table[0, 1] == pytest.approx(0.5001, abs=0.01)


@pytest.mark.parametrize(("player", "paper", "within"), [("random", 100.1, 4), ("psrl", 138.1, 5)])
def test_players_of_processes_do_as_well_as_the_paper_says(player: str, paper: float, within: float) -> None:
    family, rng = Tabular(TabularSettings(episodes=10)), np.random.default_rng(0)
    total = tabular_references.PLAYERS[player](family.sample(300, rng), rng, family.settings)
    assert total.shape == (300,) and total.mean() == pytest.approx(paper, abs=within)


def test_the_best_policy_looks_ahead() -> None:
    """Action 1 costs 1 in state 0 and leads to state 1, where every step pays 3; action 0 pays 0 and stays."""
    transitions, rewards = np.zeros((1, 2, 2, 2)), np.array([[[0.0, -1.0], [3.0, 3.0]]])
    transitions[0, 0, 0, 0] = transitions[0, 0, 1, 1] = 1
    transitions[0, 1, :, 1] = 1
    policy = tabular_references.best_policy(transitions, rewards, 3)
    assert policy[0, :, 0].tolist() == [1, 1, 0]


def test_knowing_the_process_is_best() -> None:
    family = Tabular(TabularSettings(episodes=5))
    parameters = family.sample(100, np.random.default_rng(0))
    means = [
        tabular_references.PLAYERS[player](parameters, np.random.default_rng(1), family.settings).mean()
        for player in ("random", "psrl", "optimal")
    ]
    assert means == sorted(means)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("chess", {}, ["family.name", "'chess'", *FAMILIES, "module:attribute"]),
        ("no_such_module:make", {}, ["family.name", "ModuleNotFoundError", "no_such_module"]),
        ("navigation", {"speed": 1}, ["family.settings.speed", "one of the keys horizon"]),
        ("bandits", {"arms": 1}, ["family.settings.arms", "at least 2"]),
        ("tabular", {"episodes": "many"}, ["family.settings.episodes", "a whole number"]),
    ],
)
def test_what_the_file_gets_wrong_is_named(name: str, settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_family(name, settings, "x.yaml")
    assert all(word in str(caught.value) for word in ["x.yaml", *words]), str(caught.value)


def test_shipped_families_draw_their_own_tasks() -> None:
    with pytest.raises(ConfigError, match=r"family\.tasks: .*nothing: navigation draws its own"):
        make_family("navigation", {}, "x.yaml", {"goal": [0, 1]})


def test_a_module_that_fails_to_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clumsy_envs.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError, match=r"family\.name: got 'clumsy_envs:make'.*clumsy_envs raised ZeroDivisionError"
    ):
        make_family("clumsy_envs:make", {}, "x.yaml", {"mass": [0, 1]})


def test_code_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nearby_envs.py").write_text("from tests.sim.gym_envs import limited_cart as make\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    assert make_family("nearby_envs:make", {}, "x.yaml", {"gain": [0, 1]}).steps == 7


class Farther(Navigation):
    """A family of one's own."""

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Farther:
        return cls(NavigationSettings(goal=2.0, **settings))


class Bare(Family):
    """A family that cannot be made from a file."""


def test_a_family_class_of_ones_own_is_found_by_its_path() -> None:
    family = make_family("tests.sim.test_families:Farther", {"horizon": 7}, "x.yaml")
    assert family.interface.bounds == ((-2.0, 2.0),) * 2 and family.steps == 7
    with pytest.raises(ConfigError, match=r"family\.name: .*a Family with a classmethod of"):
        make_family("tests.sim.test_families:Bare", {}, "x.yaml")
