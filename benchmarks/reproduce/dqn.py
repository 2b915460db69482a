"""DQN: what double, dueling and prioritised are worth on cartpoles; episodes that a task takes with a mapping network.

No paper has these tasks, so what is to be compared stands in the table: one learner meets the same held-out tasks with
its mapping, with parts of it taken away, and with weights that no task has shaped. In each round a task is explored for
one episode, the learner adapts on all of its episodes so far, and a greedy one is scored.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from adapt.dqn_mapping import DQNMapping
from adapt.episodes import Episodes
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import Run, read_metrics
from adapt.similarity import RANDOM
from adapt.train import one_thread
from benchmarks.reproduce.result import Row, estimate
from benchmarks.reproduce.session import Session, row_of, trainings
from benchmarks.reproduce.table import number
from benchmarks.reproduce.variants import DQN, DQN_MAPPING, DQN_MAPPING_QUICK, DQN_QUICK
from hardware_io.state import Array
from sim.vector_env import VectorEnv

TASKS, ROUNDS = 24, 6
QUICK_TASKS, QUICK_ROUNDS = 4, 2
SEED = 35_000
SHOWN = (0, 1, 5)  # episodes after which returns stand in the notes


@dataclass(frozen=True)
class Way:
    """How a task begins, of what one training learned."""

    sources: bool = True  # whether it begins with those of other tasks, and not with the shared weights
    mapped: bool = True  # through W_ij, or as they are
    random: bool = False  # of tasks that were drawn, not of the nearest
    fresh: bool = False  # with weights as they are before any training

    def of(self, trained: DQNMapping) -> DQNMapping:
        """A copy of the learner that begins so."""
        learner = copy.deepcopy(trained)
        mapping = replace(learner.settings.mapping, sources=learner.settings.mapping.sources * self.sources)
        if self.random:
            mapping = replace(mapping, similarity=RANDOM)
        learner.settings = replace(learner.settings, mapping=mapping)
        with torch.no_grad():
            if not self.mapped:
                for parameter in learner.mapping.left.parameters():
                    parameter.zero_()
            if self.fresh:
                learner.shared.copy_(learner.network.initial())
        return learner


WAYS = {
    "mapped": Way(),
    "mapped, random sources": Way(random=True),
    "nearest sources as they are": Way(mapped=False),
    "random sources as they are": Way(mapped=False, random=True),
    "shared weights": Way(sources=False),
    "from scratch": Way(sources=False, fresh=True),
}


def rows(session: Session) -> Iterator[Row]:
    """The mapping network on each family, then DQN and what it does without its parts."""
    tasks, rounds = (QUICK_TASKS, QUICK_ROUNDS) if session.quick else (session.robots or TASKS, ROUNDS)
    for family, (variant, threshold) in DQN_MAPPING.items():
        chosen = variant.on(DQN_MAPPING_QUICK[family]) if session.quick else variant
        trained = trainings(session, chosen)
        for name, way in WAYS.items():
            each = [returns(one.run, way, tasks, rounds) for one in trained]
            needed = [episodes_to(threshold, values) for values in each]
            yield row_of(f"{family}: {name}, episodes to {number(threshold)}", needed, trained, _shown(each, threshold))
    for name, variant in list(DQN.items())[: 1 if session.quick else None]:
        chosen = variant.on(DQN_QUICK) if session.quick else variant
        trained = trainings(session, chosen)
        curves = [training_returns(one.run) for one in trained]
        last = estimate([curve[-len(curve) // 4 :] for curve in curves]).mean
        yield row_of(f"cartpoles: DQN {name}, return over the training", curves, trained, f"last quarter: {last:.1f}")


def returns(run: Run, way: Way, tasks: int, rounds: int) -> Array:
    """Greedy return of each held-out task after 0, 1, … `rounds` episodes in it, (tasks, rounds + 1)."""
    learner, scores, lived = way.of(_mapping(run)), [], list[Episodes]()
    with one_thread(), VectorEnv(run.family, tasks, workers=0, groups=1) as envs:
        fast = begin_trial(envs, learner, 1, np.random.default_rng(SEED), "test")
        for index in range(rounds + 1):
            scored = rollout(envs, learner, fast, 1, (SEED, 1, index), explore=False)
            scores.append(scored.returns[:, 0].double().numpy())
            if index < rounds:
                more = rollout(envs, learner, fast, 1, (SEED, 2, index))
                lived = [lived[0].then(more) if lived else more]
                fast = learner.adapt(fast, lived[0])
    return np.stack(scores, axis=1)


def _mapping(run: Run) -> DQNMapping:
    assert isinstance(run.learner, DQNMapping)
    return run.learner


def episodes_to(threshold: float, scores: Array) -> Array:
    """The first number of episodes after which scores (tasks, rounds + 1) reach it, (tasks,); if never, one more."""
    reached = np.concatenate([scores >= threshold, np.ones((len(scores), 1), bool)], axis=1)
    return reached.argmax(axis=1).astype(float)


def training_returns(run: Run) -> Array:
    """Return of each iteration, exploration included, (iterations,)."""
    return np.array([line["return"] for line in read_metrics(run.folder)])


def _shown(scores: list[Array], threshold: float) -> str:
    """Returns after some episodes, and how many tasks ever reached the threshold."""
    all_scores = np.concatenate(scores)
    at = [index for index in SHOWN if index < all_scores.shape[1]]
    means = "; ".join(number(float(all_scores[:, index].mean())) for index in at)
    reached = (all_scores >= threshold).any(axis=1).mean()
    return f"return after {', '.join(map(str, at))}: {means}; {reached:.0%} of tasks reach it"
