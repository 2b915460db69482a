"""VariBAD on a grid with a hidden goal: what four episodes pay, and where it expects the goal (section 5.1).

Zintgraf et al. 2020, https://arxiv.org/abs/1910.08348. Its figures tell of returns near a Bayes-optimal player's, and
of a belief that gives up the cells that were visited and expects the goal all the more in the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from adapt.rollout import begin_trial, rollout
from adapt.run_folder import Run
from adapt.train import one_thread
from benchmarks.reproduce.belief import Beliefs, beliefs, drawing
from benchmarks.reproduce.result import LOWER, Aim, Row, estimate
from benchmarks.reproduce.session import Session, Trained, row_of, trainings
from benchmarks.reproduce.table import number
from benchmarks.reproduce.variants import GRID_WORLD, GRID_WORLD_QUICK
from hardware_io.config import write_atomically
from hardware_io.state import Array
from sim.families.grid_world import GridWorld
from sim.families.grid_world_references import PLAYERS
from sim.vector_env import VectorEnv

TASKS, QUICK_TASKS = 1024, 64
SEARCHES = 128  # of which the belief is looked at
SEED = 34_000
SHARE = 0.05  # of the best search's return, by which VariBAD's may lie below it
GIVEN_UP = 0.05  # what may be expected of a cell that was visited
EARLY, LATE = 4, 12  # cells that were visited in vain: at most so many, and at least so many


def rows(session: Session) -> Iterator[Row]:
    """Every learner and player, then the belief."""
    tasks = session.robots or (QUICK_TASKS if session.quick else TASKS)
    family = GridWorld.of({}, "varibad")
    goals = family.sample(tasks, np.random.default_rng(SEED), "test")
    played = {name: play(goals, np.random.default_rng(SEED), family.settings) for name, play in PLAYERS.items()}
    best = Aim.within(float(played["best search"].sum(axis=1).mean()), SHARE)
    trained = {}
    for name, variant in GRID_WORLD.items():
        chosen = variant.on(GRID_WORLD_QUICK) if session.quick else variant
        trained[name] = trainings(session, chosen)
        yield _learner_row(name, trained[name], tasks, best if name == "varibad" else None)
    for name, paid in played.items():
        yield Row(f"{name}: four episodes", estimate([paid.sum(axis=1)]), note=_each([paid]))
    yield from _belief_rows(session, trained["varibad"])


def _learner_row(name: str, trained: list[Trained], tasks: int, aim: Aim | None) -> Row:
    """With actions drawn or greedy, whichever pays more."""
    ways = {way: [returns(one.run, tasks, way == "drawn") for one in trained] for way in ("drawn", "greedy")}
    totals = {way: estimate([paid.sum(axis=1) for paid in scores]) for way, scores in ways.items()}
    way, other = sorted(totals, key=lambda one: -totals[one].mean)
    note = f"{_each(ways[way])}; {way} actions; {other}: {number(totals[other].mean)}"
    source = "best search" if aim else ""
    return row_of(f"{name}: four episodes", [paid.sum(axis=1) for paid in ways[way]], trained, note, aim, source)


def _each(paid: list[Array]) -> str:
    """Means of the episodes one by one, from the returns (tasks, E) of each seed."""
    return "one by one: " + "; ".join(number(mean) for mean in np.concatenate(paid).mean(axis=0))


def returns(run: Run, tasks: int, explore: bool) -> Array:
    """What each episode pays on each grid, (tasks, E)."""
    assert isinstance(run.family, GridWorld)
    with one_thread(), VectorEnv(run.family, tasks, workers=0, groups=1) as envs:
        fast = begin_trial(envs, run.learner, 1, np.random.default_rng(SEED), "test")
        reward = rollout(envs, run.learner, fast, 1, (SEED, 1), explore).reward
    each: Array = reward.view(tasks, run.family.settings.episodes, -1).sum(-1).double().numpy()
    return each


def _belief_rows(session: Session, trained: list[Trained]) -> Iterator[Row]:
    """What is expected while the goal is not found: in cells that were visited, in the others as there are fewer."""
    each = [beliefs(one.run, QUICK_TASKS if session.quick else SEARCHES) for one in trained]
    write_atomically(session.folder / "varibad_belief.svg", drawing(each[0]))
    counts = [one.visited.sum(axis=-1) for one in each]
    visited = estimate([_mean(one, one.visited, ~one.found) for one in each])
    pairs = list(zip(each, counts, strict=True))
    early = estimate([_mean(one, one.others, ~one.found & (count <= EARLY)) for one, count in pairs])
    late = estimate([_mean(one, one.others, ~one.found & (count >= LATE)) for one, count in pairs])
    yield Row("reward expected in a cell visited in vain", visited, Aim(0.0, GIVEN_UP, LOWER), "the truth")
    yield Row(f"in any other cell, at most {EARLY} visited", early)
    yield Row(f"in any other cell, at least {LATE} visited", late, Aim(early.mean, 0.0), f"at most {EARLY} visited")


def _mean(beliefs: Beliefs, cells: NDArray[np.bool_], when: NDArray[np.bool_]) -> Array:
    """What each rollout expects on average of those cells (B, T, S) in the steps `when` (B, T), if there are any."""
    chosen = cells & when[..., None]
    some = chosen.any(axis=(1, 2))
    mean: Array = (beliefs.expected * chosen).sum(axis=(1, 2))[some] / chosen.sum(axis=(1, 2))[some]
    return mean
