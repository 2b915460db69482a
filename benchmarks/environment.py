"""Policy steps a second of the vector environment beside bare Bullet, Stable-Baselines3 and Gymnasium.

A turn is one rollout of every lane from the reset to its end; in all but bare Bullet every rollout is of new robots,
and the reset is part of the turn. Actions are uniform over the limits and drawn beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bullet_bound import VARIANTS, BulletBound
from benchmarks.measure import Figure, compare, rate, take_turns
from hardware_io.spec import RobotSpec
from sim.family import RobotFamily
from sim.robots import load_robot
from sim.vector_env import VectorEnv

OURS, BOUND, SB3, GYMNASIUM = "vector env", "bullet bound", "SubprocVecEnv", "AsyncVectorEnv"
AIMS_BOUND = {1: None, 5: 0.6}  # substeps → ours / theirs
AIMS_OTHERS = {1: 5.0, 5: 2.5}
UNIT = "steps/s"
TASK = "swing_up"


class Ours:
    """The vector environment as training uses it; calling it is one turn."""

    def __init__(self, spec: RobotSpec, lanes: int, workers: int, substeps: int, steps: int) -> None:
        self.env = VectorEnv(RobotFamily(spec, TASK, substeps), lanes, workers)
        self._steps, self._rng, self._turns = steps, np.random.default_rng(0), 0
        actions = random_actions(steps, lanes, spec.action_size)
        self._commands = (actions * spec.action_limit).astype(np.float32)

    def __call__(self) -> float:
        return rate(self._rollout, self._steps * self.env.lanes)

    def _rollout(self) -> None:
        env, self._turns = self.env, self._turns + 1
        env.begin_trial(env.family.sample(env.lanes, self._rng))
        env.begin_rollout((self._turns,))
        for command in self._commands:
            env.step(command)


def random_actions(steps: int, lanes: int, size: int) -> np.ndarray:
    """Uniform in [-1, 1], (steps, lanes, A) float32."""
    return np.random.default_rng(1).uniform(-1, 1, (steps, lanes, size)).astype(np.float32)


def one_robot(robot: str, substeps: int) -> Any:
    """A process of the other libraries: the same environment with one lane."""
    from sim.gym_env import RobotEnv

    return RobotEnv(robot, TASK, substeps=substeps)


def stable_baselines(robot: str, lanes: int, substeps: int) -> Any:
    """A process a lane. Forked: with its own default each process would load PyTorch, 0.2 GB."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    return SubprocVecEnv([partial(one_robot, robot, substeps)] * lanes, start_method="fork")


def gymnasium_async(robot: str, lanes: int, substeps: int) -> Any:
    """A process a lane, shared memory for the observations (its default)."""
    from gymnasium.vector import AsyncVectorEnv

    return AsyncVectorEnv([partial(one_robot, robot, substeps)] * lanes, context="fork")


def against_bound(robot: str, lanes: int, workers: int, substeps: int, steps: int, turns: int) -> list[Figure]:
    """Ours and the three variants of bare Bullet."""
    spec = load_robot(robot)
    ours = Ours(spec, lanes, workers, substeps, steps)
    with ours.env, BulletBound(spec, lanes, workers, substeps) as bound:
        contestants: dict[str, Callable[[], float]] = {OURS: ours}
        for variant in VARIANTS:
            name = BOUND if variant == "bound" else f"bullet {variant}"
            contestants[name] = partial(rate, partial(bound.run, variant, steps), steps * lanes)
        values = take_turns(contestants, turns)
    aim = AIMS_BOUND[substeps] if robot == "simple_pendulum" else None
    aims = {BOUND: aim, "bullet step only": None, "bullet read once": None}
    return compare(section(robot, substeps, lanes, workers), values, UNIT, OURS, aims)


def against_library(
    name: str, make: Callable[[str, int, int], Any], robot: str, lanes: int, workers: int, substeps: int,
    steps: int, turns: int,
) -> list[Figure]:  # fmt: skip
    """Ours and one of the libraries."""
    spec = load_robot(robot)
    theirs = make(robot, lanes, substeps)  # first: it forks, and what we start would be copied
    try:
        theirs.reset()
        actions = random_actions(steps, lanes, spec.action_size)

        def rollout() -> None:
            for action in actions:
                theirs.step(action)

        ours = Ours(spec, lanes, workers, substeps, steps)
        with ours.env:
            values = take_turns({OURS: ours, name: partial(rate, rollout, steps * lanes)}, turns)
    finally:
        theirs.close()
    return compare(section(robot, substeps, lanes, workers), values, UNIT, OURS, {name: AIMS_OTHERS[substeps]})


def section(robot: str, substeps: int, lanes: int, workers: int) -> str:
    plural = "s" if substeps > 1 else ""
    return f"environment: {robot}, {substeps} substep{plural}, {lanes} lanes, {workers} processes of ours"


def measure(quick: bool, lanes: int, workers: int) -> list[Figure]:
    """Everything about environments."""
    steps, turns = (10, 2) if quick else (100, 9)
    figures = []
    for substeps in (5, 1):
        figures += against_bound("simple_pendulum", lanes, workers, substeps, steps, turns)
        for name, make in ((SB3, stable_baselines), (GYMNASIUM, gymnasium_async)):
            figures += against_library(name, make, "simple_pendulum", lanes, workers, substeps, steps, min(turns, 5))
    if not quick:
        figures += against_bound("simple_pendulum", 2 * lanes, workers, 5, steps, turns)
        figures += against_bound("double_pendulum/acrobot", lanes, workers, 5, steps, turns)
    return figures
