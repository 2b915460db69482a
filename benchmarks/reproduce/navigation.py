"""MAML on 2-D navigation: return after 0 to 3 gradient steps (Finn et al. 2017, section 5.3 and appendix C).

https://arxiv.org/abs/1703.03400. 40 goals and 40 trajectories a step as there, in which the policy explores as in
training; the first step is of length 0.5 and the later ones of 0.25. Straight to the goal is the most to be had.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adapt.rollout import begin_trial, progress
from adapt.run_folder import Run
from adapt.train import one_thread
from benchmarks.reproduce.result import Aim, Row, estimate
from benchmarks.reproduce.session import Session, row_of, trainings
from benchmarks.reproduce.variants import NAVIGATION, NAVIGATION_QUICK
from hardware_io.state import Array
from sim.families.navigation import Navigation
from sim.vector_env import VectorEnv

ROUNDS = 3  # gradient steps
GOALS, TRAJECTORIES = 40, 40
REPEATS = 4  # of the 40 goals, other ones each time: fewer leave an interval as wide as the differences
SEED = 31_000
SOURCE = "Finn et al. 2017"
PUBLISHED = {  # learner → return after 0, 1, 2, 3 steps; half its 95 % interval where it is a figure to reach
    "maml": ((-40.4, 4.0), (-11.7, 2.2), (-3.3, 0.6), (-3.2, 0.6)),
    "fine_tune": ((-40.8, None), (-19.7, None), (-11.7, None), (-8.5, None)),
    "scratch": ((-82.7, None), (-58.0, None), (-53.8, None), (-46.8, None)),
}
ORACLE = Aim(-2.3, 0.0)
QUICK = (10, 10)  # goals and trajectories


def rows(session: Session) -> Iterator[Row]:
    """Every learner after each number of steps, an oracle that is told the goal, and the straight way."""
    goals, trajectories = QUICK if session.quick else (GOALS, TRAJECTORIES)
    repeats = 1 if session.quick else REPEATS
    for name, variant in NAVIGATION.items():
        chosen = (variant.after or variant).on(NAVIGATION_QUICK) if session.quick else variant
        trained = trainings(session, chosen)
        scores = [returns(one.run, repeats, goals, trajectories) for one in trained]
        if name == "oracle":
            yield row_of(
                "oracle (PPO, told the goal)", [values[:, 0] for values in scores], trained, aim=ORACLE, source=SOURCE
            )
            continue
        for step in range(ROUNDS + 1):
            label = f"{name}, after {step} step" + "s" * (step != 1)
            aim = Aim(*PUBLISHED[name][step])
            yield row_of(label, [values[:, step] for values in scores], trained, aim=aim, source=SOURCE)
    yield Row("straight to the goal", estimate([straight(repeats, goals)]), ORACLE, SOURCE)


def returns(run: Run, repeats: int, goals: int, trajectories: int) -> Array:
    """Return of each goal after 0 to 3 gradient steps, (goals, 4); after 0 alone for learners that never take one."""
    copies, rounds = (1, 0) if run.learner.in_graph else (trajectories, ROUNDS)
    scores = []
    with one_thread(), VectorEnv(run.family, goals * copies, workers=0, groups=1) as envs:
        for repeat in range(repeats):
            fast = begin_trial(envs, run.learner, copies, np.random.default_rng((SEED, repeat)), "test")
            explore = not run.learner.in_graph
            scores.append(progress(envs, run.learner, fast, rounds, 1, (SEED, 1, repeat), explore)[0].numpy())
    return np.concatenate(scores)


def straight(repeats: int, goals: int) -> Array:
    """Return of who moves straight to each of the same goals as fast as allowed, (goals,)."""
    family, totals = Navigation.of({}, "navigation"), []
    for repeat in range(repeats):
        goal = family.sample(goals, np.random.default_rng((SEED, repeat)), "test")
        position, total, going = np.zeros_like(goal), np.zeros(goals), np.ones(goals, bool)
        for _ in range(family.steps):
            position += np.clip(goal - position, -family.settings.limit, family.settings.limit)
            total -= np.linalg.norm(goal - position, axis=1) * going
            going &= (np.abs(goal - position) >= family.settings.tolerance).any(axis=1)
        totals.append(total)
    return np.concatenate(totals)
