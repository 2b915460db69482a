"""Players of grid worlds that know how grids work, to measure learners against. `n` grids, `E` episodes, `T` steps.

Each takes goals (n, 2), a generator and the settings, and gives what each grid paid in each episode, (n, E). All go
straight to a goal that was found, so they differ only in the way they search, which is the same on every grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware_io.state import Array
from sim.families.grid_world import MOVES, GridWorld, GridWorldSettings

WIDTH = 4000  # ways that the search for the best one goes on with; ten times as many find none better


def known(goals: Array, rng: np.random.Generator, settings: GridWorldSettings) -> Array:
    """Told the goal: the most that could be had."""
    return paid(goals, goals.sum(axis=1).astype(np.intp) - 1, settings)


def best_search(goals: Array, rng: np.random.Generator, settings: GridWorldSettings) -> Array:
    """The way of searching that pays most on average over goals: what a Bayes-optimal player does."""
    way = best_way(settings)
    return paid(goals, first_visits(np.broadcast_to(way, (len(goals), *way.shape)), goals), settings)


def posterior_sampling(goals: Array, rng: np.random.Generator, settings: GridWorldSettings) -> Array:
    """In each episode to a goal drawn from what is still possible, there to stay (Strens 2000, Osband et al. 2013)."""
    possible = GridWorld(settings).goals().astype(np.intp)
    ways = np.zeros((len(goals), settings.episodes * settings.steps, 2), np.intp)
    for way in ways:
        seen: set[tuple[int, ...]] = set()
        for episode in way.reshape(settings.episodes, settings.steps, 2):
            left = [cell for cell in possible if tuple(cell) not in seen]
            target = left[rng.integers(len(left))] if left else np.zeros(2, np.intp)
            columns_first = bool(rng.integers(2))
            for step in range(settings.steps):
                gone = np.minimum(step + 1, target.sum())
                along = min(gone, target[0]) if columns_first else max(gone - target[1], 0)
                episode[step] = along, gone - along
            seen |= {tuple(cell) for cell in episode.tolist()}
    return paid(goals, first_visits(ways, goals), settings)


def first_visits(ways: NDArray[np.intp], goals: Array) -> NDArray[np.intp]:
    """The step (n,) after which each way (n, T, 2) is first on its goal, T where it never is."""
    there = (ways == goals[:, None]).all(axis=-1)
    return np.where(there.any(axis=1), there.argmax(axis=1), ways.shape[1])


def paid(goals: Array, first: NDArray[np.intp], settings: GridWorldSettings) -> Array:
    """What each episode pays, (n, E), who finds the goal with step `first` (n,) and then goes straight to it."""
    start = np.arange(settings.episodes) * settings.steps
    straight = goals.sum(axis=1)[:, None] - 1  # steps of an episode before the one that reaches the goal
    before = np.where(first[:, None] < start, straight, first[:, None] - start).clip(0, settings.steps)
    return before * settings.step_reward + (settings.steps - before) * settings.goal_reward


def best_way(settings: GridWorldSettings) -> NDArray[np.intp]:
    """Where the best search is after each step, (T, 2): a search over ways, of which the best `WIDTH` go on.

    Of ways that are in the same place and have seen the same cells only the best one is kept. What was seen is one
    integer, which holds grids of up to 7 × 7 cells.
    """
    steps, cells = settings.episodes * settings.steps, GridWorld(settings).goals()
    index = np.full((settings.size,) * 2, -1)
    index[tuple(cells.astype(np.intp).T)] = np.arange(len(cells))
    worth = np.stack([paid(cells, np.full(len(cells), step), settings).sum(axis=1) for step in range(steps + 1)])
    worth -= worth[-1]  # what finding a goal with each step is worth, (T+1, ·)
    place, seen, total = np.zeros((1, 2), np.intp), np.zeros(1, np.int64), np.zeros(1)
    history = list[tuple[NDArray[np.intp], NDArray[np.intp]]]()
    for step in range(steps):
        parent = np.repeat(np.arange(len(place)), len(MOVES))
        reached = np.clip((place[:, None] + MOVES).reshape(-1, 2), 0, settings.size - 1)
        cell = index[reached[:, 0], reached[:, 1]]
        bit = np.where(cell >= 0, np.int64(1) << cell.clip(0), 0)
        gain = np.where((seen[parent] & bit == 0) & (cell >= 0), worth[step, cell], 0.0)
        score, mask = total[parent] + gain, seen[parent] | bit
        order = np.argsort(-score, kind="stable")
        at = reached * ((step + 1) % settings.steps != 0)  # where the next step begins
        key = (mask * settings.size + at[:, 0]) * settings.size + at[:, 1]
        kept = order[np.sort(np.unique(key[order], return_index=True)[1])[:WIDTH]]
        place, seen, total = at[kept], mask[kept], score[kept]
        history.append((parent[kept], reached[kept]))
    way, current = np.zeros((steps, 2), np.intp), 0
    for step in reversed(range(steps)):
        before, reached = history[step]
        way[step], current = reached[current], before[current]
    return way


PLAYERS = {"posterior sampling": posterior_sampling, "best search": best_search, "told the goal": known}
