"""The grid with a hidden goal: steps worked out by hand, and players whose returns the blocks themselves pay."""

from __future__ import annotations

import numpy as np

from sim.families import grid_world_references
from sim.families.grid_world import MOVES, GridWorld, GridWorldSettings

STAY, UP, RIGHT, DOWN, LEFT = np.eye(5)
SMALL = GridWorldSettings(size=3, steps=4, episodes=2)


def test_a_walk_by_hand() -> None:
    family = GridWorld(SMALL)
    block = family.block(2)
    block.set_dynamics(np.array([[2.0, 0.0], [0.0, 2.0]]))
    seen, paid = [block.reset(np.random.default_rng(0))], []
    for action in (DOWN, RIGHT, RIGHT, STAY, UP, UP, LEFT, UP):
        assert not block.terminated.any()
        seen.append(block.step(np.tile(action, (2, 1))))
        paid.append(block.reward.copy())
    cells = [row[:9].argmax() for row in np.array(seen)[:, 0]]
    assert cells == [0, 0, 1, 2, 0, 3, 6, 6, 0]  # the edge holds; back in the corner after every fourth step
    assert np.allclose(np.array(paid).T[0], [-0.1, -0.1, 1, 1, -0.1, -0.1, -0.1, -0.1])
    assert np.allclose(np.array(paid).T[1], [-0.1, -0.1, -0.1, -0.1, -0.1, 1, 1, 1])
    assert np.allclose(np.array(seen)[1:, :, 9], paid), "what was paid is seen, across the end of an episode, too"
    assert [row[0, 10] for row in seen] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert block.terminated.all() and family.steps == 8


def test_goals_are_everywhere_but_around_the_corner() -> None:
    family = GridWorld(GridWorldSettings())
    assert len(family.goals()) == 21
    drawn = family.sample(2000, np.random.default_rng(0))
    assert {tuple(goal) for goal in drawn} == {tuple(goal) for goal in family.goals()}
    assert tuple(family.interface.nominal) in {tuple(goal) for goal in family.goals()}


def test_the_best_search_pays_what_its_way_pays() -> None:
    family = GridWorld(SMALL)
    goals = family.goals()
    way = grid_world_references.best_way(SMALL)
    block, found = family.block(len(goals)), np.zeros(len(goals), bool)
    block.set_dynamics(goals)
    block.reset(np.random.default_rng(0))
    place, paid = np.zeros_like(goals), []
    for step in range(family.steps):
        target = np.where(found[:, None], goals, way[step])
        ahead = target - place
        ahead[:, 1] *= ahead[:, 0] == 0  # columns first
        choice = (np.sign(ahead)[:, None] == MOVES).all(axis=-1).argmax(axis=1)
        block.step(np.eye(5)[choice])
        paid.append(block.reward.copy())
        found |= block.reward > 0
        place = (place + MOVES[choice]) * ((step + 1) % SMALL.steps != 0)
    expected = grid_world_references.best_search(goals, np.random.default_rng(0), SMALL)
    assert np.allclose(np.array(paid).reshape(2, 4, -1).sum(axis=1).T, expected)


def test_players_are_ranked() -> None:
    settings = GridWorldSettings()
    goals = np.repeat(GridWorld(settings).goals(), 5, axis=0)
    rng = np.random.default_rng(0)
    means = {name: play(goals, rng, settings).mean(0) for name, play in grid_world_references.PLAYERS.items()}
    assert list(means) == sorted(means, key=lambda name: means[name].sum())
    assert np.allclose(means["told the goal"], 15 - (goals.sum(axis=1).mean() - 1) * 1.1)
    assert np.allclose(means["best search"][2:], means["told the goal"][2:]), "two episodes show every cell"
