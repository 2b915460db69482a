"""Total reward of a memory on tasks that it has never seen, and of players that know the kind of task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from adapt.rollout import begin_trial, progress
from adapt.run_folder import Run
from adapt.train import one_thread
from benchmarks.reproduce.result import Aim, Row, estimate
from benchmarks.reproduce.session import Session, Variant, row_of, trainings
from hardware_io.state import Array
from sim.vector_env import VectorEnv

TASKS, QUICK_TASKS = 4096, 256
STEPS = 1_000_000  # at least, of an evaluation: more of short tasks, whose returns differ more from each other
AT_ONCE = 256  # tasks side by side, which bounds the memory of 500 steps
SEED = 30_000  # far from the seeds of training and of `acclimate evaluate`
SHARE = 0.01  # of the reference, by which a mean may lie below it
SOURCE = "Duan et al. 2016"

LABELS = {"rl2": "RL²", "linear_transformer": "linear transformer"}

Player = Callable[[Array, np.random.Generator, Any], Array]


def returns(run: Run, tasks: int, explore: bool) -> Array:
    """Total reward of one rollout of each held-out task, (tasks,); with `explore` actions are drawn."""
    scores = []
    with one_thread(), VectorEnv(run.family, min(tasks, AT_ONCE), workers=0, groups=1) as envs:
        for index in range(tasks // envs.lanes):
            fast = begin_trial(envs, run.learner, 1, _generator(index), "test")
            scores.append(progress(envs, run.learner, fast, 0, 1, (SEED, 1, index), explore)[0][:, 0].numpy())
    return np.concatenate(scores)


def played(run: Run, tasks: int, player: Player, settings: Any) -> Array:
    """The same of a player, on the same tasks."""
    lanes = min(tasks, AT_ONCE)
    return np.concatenate(
        [
            player(
                run.family.sample(lanes, _generator(index), "test"), np.random.default_rng((SEED, 2, index)), settings
            )
            for index in range(tasks // lanes)
        ]
    )


def _generator(index: int) -> np.random.Generator:
    return np.random.default_rng((SEED, 0, index))


def compare(
    session: Session, variant: Variant, label: str, players: Mapping[str, Player], published: Mapping[str, float]
) -> Iterator[Row]:
    """RL² and every player on one size of a task, beside what the paper says of them."""
    trained = trainings(session, variant)
    run = trained[0].run
    enough = max(TASKS, STEPS // run.family.steps // AT_ONCE * AT_ONCE)
    tasks = session.robots or (QUICK_TASKS if session.quick else enough)
    ways = {way: [returns(one.run, tasks, way == "drawn") for one in trained] for way in ("drawn", "greedy")}
    means = {way: estimate(scores) for way, scores in ways.items()}
    best = max(means, key=lambda way: means[way].mean)
    other = "greedy" if best == "drawn" else "drawn"
    note = f"{best} actions; {other}: {means[other].mean:.2f}"
    what = f"{label}: {LABELS[run.config.learner.name]}"
    yield row_of(what, ways[best], trained, note, _aim(published.get("rl2")), SOURCE)
    family: Any = run.family  # one with settings, which its players share
    for name, player in players.items():
        scores = played(run, tasks, player, family.settings)
        reference = published.get(name)
        aim = None if reference is None else Aim.within(reference, SHARE, "same")
        yield Row(f"{label}: {name}", estimate([scores]), aim, SOURCE if aim else "")


def _aim(reference: float | None) -> Aim | None:
    return None if reference is None else Aim.within(reference, SHARE)
