"""Model-based learners: what a planner and the policy distilled from it get on tasks that training never drew.

PETS on its cart-pole (Chua et al. 2018, section 6.1, https://arxiv.org/abs/1805.12114), and GrBAL on half-cheetahs with
a joint disabled that was never disabled in training (Nagabandi et al. 2019, section 6, https://arxiv.org/abs/1803.11347)
beside PETS, which is the same without adaptation. The papers show curves and no tables, so there is no figure to reach.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adapt.learner import Actor
from adapt.model_based import ModelBased
from adapt.planned import Planned
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import Run
from adapt.train import one_thread
from benchmarks.reproduce.result import Row
from benchmarks.reproduce.session import Session, row_of, trainings
from benchmarks.reproduce.variants import DISABLED, MODEL_BASED, MODEL_BASED_QUICK
from hardware_io.state import Array
from sim.vector_env import VectorEnv

TASKS, QUICK_TASKS = 16, 2
SEED = 35_000


def rows(session: Session) -> Iterator[Row]:
    """Planner and policy of each training."""
    for (task, name), variant in MODEL_BASED.items():
        chosen = variant.on(MODEL_BASED_QUICK[task]) if session.quick else variant
        trained = trainings(session, chosen)
        tasks = session.robots or (QUICK_TASKS if session.quick else TASKS)
        for who in ("planner", "policy"):
            drawn = who == "policy" and task == DISABLED  # without noise a half-cheetah hardly begins to run
            scores = [returns(one.run, tasks, who == "planner", drawn) for one in trained]
            rollouts = trained[0].steps // trained[0].run.family.steps
            yield row_of(f"{task}: {name}, {who}", scores, trained, f"after {rollouts} rollouts")


def returns(run: Run, tasks: int, planned: bool, drawn: bool = False) -> Array:
    """Return (tasks,) of a robot's second rollout, by planning or by the policy alone, with actions that are drawn."""
    learner, split = run.learner, run.family.splits()[-1]
    assert isinstance(learner, ModelBased)
    actor: Actor = Planned(learner, learner.settings.planner, driven=0.0) if planned else learner
    with one_thread(), VectorEnv(run.family, tasks, workers=0, groups=1) as envs:
        fast = begin_trial(envs, actor, 1, np.random.default_rng(SEED), split)
        return rollout(envs, actor, fast, 2, (SEED, 1), explore=drawn).returns[:, 1].double().cpu().numpy()
