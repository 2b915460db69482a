"""What parts of training are worth: curricula over tasks, and a replay that all tasks share.

No paper has these tasks, so what is to be compared stands in the table: the same steps with a part and without it.
Curricula are tried on carts that swing a pole up with motors of all strengths, of which nothing tells the policy; all
are tested on the whole range. The replay is PEARL's on its point robot (Rakelly et al. 2019), whole or with room for no
more than the tasks of the last trial. Mapped sources and similarity have their rows among those of `dqn`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adapt.rollout import begin_trial, rollout
from adapt.run_folder import Run, read_metrics
from adapt.train import one_thread
from benchmarks.reproduce.pearl import EXPLORED
from benchmarks.reproduce.pearl import returns as point_robot_returns
from benchmarks.reproduce.result import Row
from benchmarks.reproduce.session import Session, Trained, row_of, trainings
from benchmarks.reproduce.table import number
from benchmarks.reproduce.variants import CURRICULA, CURRICULA_QUICK, PEARL_QUICK, SHARED_REPLAY
from hardware_io.state import Array
from sim.vector_env import VectorEnv

CARTS, ROBOTS, QUICK = 256, 200, 8  # tasks of a test
SEED = 36_000
SHOWN = (0, 1, 2, 5)  # rollouts that explored before the one that is scored
GAIN = 2  # of a cart's parameters


def rows(session: Session) -> Iterator[Row]:
    """Carts with each curriculum and without one, all of them and the weakest; then the two replays."""
    for kind, variant in CURRICULA.items():
        trained = trainings(session, variant.on(CURRICULA_QUICK) if session.quick else variant)
        scores = [cart_returns(one.run, QUICK if session.quick else session.robots or CARTS) for one in trained]
        yield row_of(f"carts, {kind}: return", [gained for gained, _ in scores], trained, practised(trained))
        yield row_of(f"carts, {kind}: return of the weakest quarter", [weakest(*pair) for pair in scores], trained)
    for name, variant in SHARED_REPLAY.items():
        trained = trainings(session, variant.on(PEARL_QUICK) if session.quick else variant)
        robots = QUICK if session.quick else session.robots or ROBOTS
        each = [point_robot_returns(one.run, robots)[0] for one in trained]
        for explored in SHOWN:
            column = EXPLORED.index(explored)
            label = f"replay of {name}: after {explored} rollout" + "s" * (explored != 1)
            yield row_of(label, [values[:, column] for values in each], trained)


def cart_returns(run: Run, carts: int) -> tuple[Array, Array]:
    """Return of a rollout of each cart of the whole range, and its motor's gain, (carts,) each."""
    with one_thread(), VectorEnv(run.family, carts, workers=0, groups=1) as envs:
        fast = begin_trial(envs, run.learner, 1, np.random.default_rng(SEED), "test")
        scored = rollout(envs, run.learner, fast, 1, (SEED, 1), explore=False)
        return scored.returns[:, 0].double().numpy(), envs.dynamics[:, GAIN]


def weakest(returns: Array, gain: Array) -> Array:
    """Those of the quarter of the carts with the weakest motors."""
    return returns[np.argsort(gain)[: len(gain) // 4]]


def practised(trained: list[Trained]) -> str:
    """How far from the nominal cart a curriculum's tasks were, as training began and as it ended."""
    lines = [read_metrics(one.run.folder) for one in trained]
    if "curriculum_distance" not in lines[0][0]:
        return ""
    ends = (np.mean([each[index]["curriculum_distance"] for each in lines]) for index in (0, -1))
    return "distance from the nominal cart: {} → {}".format(*(number(float(end)) for end in ends))
