"""RMA on an arm with an unknown load: success of all its rivals on robots that are stranger than those of training.

Kumar et al. 2021, https://arxiv.org/abs/2107.04034, table II. Its robot walks, so only the order is to be compared:
the expert that knows the true extrinsics, RMA, one robust policy, system identification, the expert's policy with the
extrinsics of the nominal robot.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from adapt.rma import RMA
from adapt.rollout import begin_trial, progress
from adapt.run_folder import Run
from adapt.train import one_thread
from benchmarks.reproduce.result import Aim, Row
from benchmarks.reproduce.session import Session, row_of, trainings
from benchmarks.reproduce.variants import RMA_ARM, RMA_QUICK
from hardware_io.state import Array
from sim.vector_env import VectorEnv

ROBOTS, QUICK_ROBOTS, AT_ONCE = 512, 4, 64
SEED = 35_000
SOURCE = "Kumar et al. 2021"
PUBLISHED = {  # success, %
    "RMA": 73.5,
    "expert": 76.2,
    "no adaptation": 52.1,
    "system identification": 56.5,
    "robust": 62.4,
}
WAYS = {"RMA": ("RMA", "expert", "no adaptation")}  # in which one training is measured, beside its own


def rows(session: Session) -> Iterator[Row]:
    """Every training, and RMA's policy with true extrinsics and with those of the nominal robot."""
    for name, variant in RMA_ARM.items():
        chosen = (variant.after or variant).on(RMA_QUICK) if session.quick else variant
        trained = trainings(session, chosen)
        for way in WAYS.get(name, (name,)):
            scores = [success(session, one.run, way) for one in trained]
            yield row_of(f"{way}: success, %", scores, trained, aim=Aim(PUBLISHED[way], None), source=SOURCE)


def success(session: Session, run: Run, way: str) -> Array:
    """100 for each robot of the test range whose first rollout succeeds, 0 for the others, (robots,)."""
    robots = session.robots or (QUICK_ROBOTS if session.quick else ROBOTS)
    at_once, groups, found = min(robots, AT_ONCE), 2 if run.config.workers else 1, []
    with one_thread(), VectorEnv(run.family, at_once, run.config.workers, groups) as envs:
        for index in range(robots // at_once):
            fast = begin_trial(envs, run.learner, 1, np.random.default_rng((SEED, index)), "test")
            if way in ("expert", "no adaptation"):
                fast = told(
                    run, envs.dynamics if way == "expert" else np.tile(run.family.interface.nominal, (at_once, 1))
                )
            succeeded = progress(envs, run.learner, fast, 0, 1, (SEED, 1, index))[1]
            assert succeeded is not None
            found.append(100.0 * succeeded[:, 0])
    return np.concatenate(found)


def told(run: Run, dynamics: Array) -> torch.Tensor:
    """The fast state with which RMA acts as if robots had these parameters, (B, P)."""
    assert isinstance(run.learner, RMA)
    return run.learner.fast_of_expert(torch.tensor(dynamics, dtype=torch.float32, device=run.learner.kept.device))
