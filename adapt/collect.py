"""Trials for the outer loop, and how they are simulated while the learner still digests the one before.

`B` robots, `F` fast state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from adapt.curriculum import Curriculum
from adapt.episodes import Episodes
from adapt.learner import MetaLearner
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import TrainConfig
from sim.family import Family
from sim.vector_env import VectorEnv

DYNAMICS, TRAINING = 1, 2  # streams of random numbers
Simulate = Callable[[MetaLearner, int], "Trial"]  # the trial of an iteration


@dataclass(frozen=True)
class Trial:
    """What was recorded before each `adapt`, and after the last."""

    support: list[Episodes]
    query: Episodes
    seconds: float  # that it took


def collect(
    config: TrainConfig, envs: VectorEnv, learner: MetaLearner, iteration: int, curriculum: Curriculum | None = None
) -> Trial:
    """One trial of all lanes. Every draw follows from the seed and the iteration. Raises TaskError."""
    begun, seed = time.perf_counter(), (config.seed, TRAINING, iteration)
    rng = np.random.default_rng((config.seed, DYNAMICS, iteration))
    actor = learner.collector()
    tasks = curriculum.draw(config.lanes // config.copies, rng) if curriculum else None
    fast = begin_trial(envs, actor, config.copies, rng, randomised=learner.randomised, tasks=tasks)
    support: list[Episodes] = []
    if config.support:
        for index in range(config.adaptations):
            support.append(rollout(envs, actor, fast, config.support, (*seed, index), True, config.anywhere))
            fast = actor.start_rollout(actor.adapt(fast, support[-1]).detach())
    count = config.rollouts - config.support * config.adaptations
    query = rollout(envs, actor, fast, count, (*seed, len(support)), anywhere=config.anywhere)
    if config.regret:
        query = with_regret(envs.family, query)
    return Trial(support, query, time.perf_counter() - begun)


def with_regret(family: Family, episodes: Episodes) -> Episodes:
    """The episodes with each step's `regret` beside it, (B, K, T), of a family that knows it.

    By the performance difference lemma (Kakade and Langford 2002) its expectation tells policies apart exactly as the
    expected return does, but what luck paid is not in it, nor what the best policy of a task would have got anyway.
    """
    if episodes.dynamics is None:
        raise ValueError("the regret of rollouts with unknown dynamics is unknown")
    seen = (episodes.dynamics, episodes.observation, episodes.asked)
    regret = family.regret(*(values.double().cpu().numpy() for values in seen))
    return replace(episodes, extra={**episodes.extra, "regret": torch.from_numpy(regret).to(episodes.reward)})


class Ahead:
    """Simulates the next trial with the weights from before an update, while the update goes on in a thread.

    An update then learns from what a policy one update older did; its own recorded log-probabilities account for that.
    `actor` holds those older weights: with them a resumed training simulates the trial in flight again, exactly.
    """

    def __init__(self, actor: MetaLearner) -> None:
        self.actor = actor
        self._next: Trial | Exception | None = None

    def trial(self, simulate: Simulate, iteration: int) -> Trial:
        """The trial of this iteration. Raises what went wrong with it, which no update before it has suffered from."""
        ready = simulate(self.actor, iteration) if self._next is None else self._next
        if isinstance(ready, Exception):
            raise ready
        return ready

    def update(self, learner: MetaLearner, trial: Trial, following: Callable[[], Trial] | None) -> dict[str, float]:
        """`meta_update` from a trial while `following` is simulated; its metrics."""
        self.actor.load_state_dict(learner.state_dict())
        update = self._thread.submit(learner.meta_update, trial.support, trial.query)
        try:
            self._next = following() if following else None
        except Exception as error:
            self._next = error
        return update.result()

    def __enter__(self) -> Ahead:
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
