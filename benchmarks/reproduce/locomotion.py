"""All meta-learners with one budget of environment steps: return after 0 to 3 adaptations.

On the tasks of MAML (Finn et al. 2017, section 5.3) and on a robot with hidden dynamics. What others publish was
measured on MuJoCo's models, so what is to be compared stands in the table: between one policy for all tasks, which
cannot adapt, and an oracle that is told the task lies what adapting can gain. Actions are drawn, as in the papers; an
oracle that ran forward by 53 a rollout with drawn ones ran by 7 without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from adapt.evaluate import Score, gap_closed
from adapt.learner import META_LEARNERS, class_of
from adapt.rollout import begin_trial, progress
from adapt.run_folder import Run, read_config
from adapt.train import one_thread
from benchmarks.reproduce.result import Row, estimate
from benchmarks.reproduce.session import CONFIGS, Session, Trained, Variant, row_of, trainings
from benchmarks.reproduce.table import number
from benchmarks.reproduce.variants import GRADIENT_BASED, LOCOMOTION, LOCOMOTION_QUICK, OF_LEARNER, QUICK_LEARNERS
from sim.vector_env import VectorEnv

ROUNDS = 3  # adaptations
BASELINE, ORACLE = "domain_randomised", "oracle"
WITHOUT_MEMORY = {BASELINE, ORACLE, "ppo", "pets", "sac"}  # shown rewards, they would tell tasks apart without adapting
ROBOTS, AT_ONCE, QUICK_ROBOTS = 16, 8, 4  # tasks of a test, and side by side: a lane takes tens of megabytes
SMALL = 64  # both, of robots of two joints
SEED = 33_000


def rows(session: Session) -> Iterator[Row]:
    """Every learner on every task, the baseline and the oracle first."""
    learners = [BASELINE, ORACLE, *QUICK_LEARNERS] if session.quick else in_order()
    for task, variant in list(LOCOMOTION.items())[: 1 if session.quick else None]:
        scores: dict[str, Score] = {}
        for name in learners:
            chosen = of_learner(variant, name)
            if session.quick:
                chosen = chosen.on(LOCOMOTION_QUICK)
            trained = trainings(session, chosen)
            each = [score(session, one.run) for one in trained]
            scores[name] = joined(each)
            yield _row(f"{task}: {name}", trained, each, _gap(name, scores))


def in_order() -> list[str]:
    """All learners that can drive motors, the baseline and the oracle first."""
    able = [name for name in META_LEARNERS if class_of(name).continuous]
    return [BASELINE, ORACLE, *(name for name in able if name not in (BASELINE, ORACLE))]


def of_learner(variant: Variant, name: str) -> Variant:
    """The training of a learner: rollouts of a trial for a memory, copies of a robot for gradient steps."""
    learner = class_of(name)
    alone = learner.in_graph or learner.searches
    overrides: dict[str, Any] = {
        "learner.name": name,
        **({} if learner.overlaps else {"overlap": False}),
        **({} if alone else GRADIENT_BASED),
        **OF_LEARNER.get(name, {}),
    }
    if (name in WITHOUT_MEMORY or not learner.in_graph) and read_config(CONFIGS / variant.config).family is not None:
        overrides["family.settings.feedback"] = False
    return Variant(f"{variant.name}-{name}", variant.config, {**variant.overrides, **overrides})


def score(session: Session, run: Run, rounds: int = ROUNDS, drawn: bool = True) -> Score:
    """Return and success (robots, rounds + 1) after 0 to `rounds` adaptations, on tasks like those of the training.

    With actions that are `drawn`, or without noise but in rollouts that a learner adapts from.
    """
    config, found = run.config, list[Score]()
    at_once, turns = robots_of(session, run)
    groups = 2 if config.workers else 1
    with one_thread(), VectorEnv(run.family, at_once * config.copies, config.workers, groups) as envs:
        for index in range(turns):
            fast = begin_trial(envs, run.learner, config.copies, np.random.default_rng((SEED, index)))
            result = progress(envs, run.learner, fast, rounds, 1, (SEED, 1, index), explore=drawn)
            success = None if result[1] is None else result[1].astype(np.float64)
            found.append(Score(result[0].cpu().double().numpy(), success))
    return joined(found)


def robots_of(session: Session, run: Run) -> tuple[int, int]:
    """On how many robots a training is scored at once, and how many times."""
    usual, most = (ROBOTS, AT_ONCE) if run.config.robot is None else (SMALL, SMALL)
    robots = session.robots or (QUICK_ROBOTS if session.quick else usual)
    at_once = min(robots, most)
    return at_once, robots // at_once


def joined(scores: list[Score]) -> Score:
    """Of all robots of several scores."""
    success = None if scores[0].success is None else np.concatenate([one.success for one in scores])
    return Score(np.concatenate([one.returns for one in scores]), success)


def _row(label: str, trained: list[Trained], scores: list[Score], gap: str) -> Row:
    before = "; ".join(number(estimate([one.returns[:, step] for one in scores]).mean) for step in range(ROUNDS))
    rollouts = trained[0].run.config.copies
    note = f"after 0, 1, 2: {before}" + (f"; {rollouts} rollouts each time" if rollouts > 1 else "") + gap
    return row_of(label, [one.returns[:, ROUNDS] for one in scores], trained, note)


def gap(own: Score, baseline: Score, oracle: Score, after: int) -> str:
    """Share of the return that lies between baseline and oracle, with its interval over robots."""
    plain = [Score(one.returns, None) for one in (own, baseline, oracle)]
    if plain[2].returns[:, after].mean() <= plain[1].returns[:, after].mean():
        return "none: the oracle is no better than the baseline"
    mean, low, high = gap_closed(plain[0], plain[1], plain[2], after, np.random.default_rng(SEED))
    return f"{mean:.0%} [{low:.0%}, {high:.0%}]"


def _gap(name: str, scores: dict[str, Score]) -> str:
    if name in (BASELINE, ORACLE):
        return ""
    return f"; gap closed {gap(scores[name], scores[BASELINE], scores[ORACLE], ROUNDS)}"
