"""PEARL on a point robot with sparse rewards, and on half-cheetahs that are to run at a velocity (Rakelly et al. 2019).

https://arxiv.org/abs/1903.08254, sections 6.1 and 6.3. A robot explores for some rollouts, each with one draw of what
it believes, and is then scored in one without noise; half-cheetahs draw their actions, since without noise they hardly
begin to run. The paper shows curves and no figures, so what bounds a return stands beside it: whoever knows where the
goal is, and whoever is told nothing, before the first rollout. What the point robot was paid is read from what it is
shown, for its reward is the distance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adapt.rollout import begin_trial, rollout
from adapt.run_folder import Run
from adapt.train import one_thread
from benchmarks.reproduce.locomotion import of_learner
from benchmarks.reproduce.result import Row, estimate
from benchmarks.reproduce.session import Session, row_of, trainings
from benchmarks.reproduce.variants import LOCOMOTION, PEARL_QUICK, POINT_ROBOT
from hardware_io.state import Array
from sim.families.point_robot import PointRobot
from sim.vector_env import VectorEnv

EXPLORED = (0, 1, 2, 3, 5)  # rollouts before the one that is scored
ROBOTS, AT_ONCE, QUICK_ROBOTS = 200, 8, 10  # of a test; half-cheetahs side by side: a lane takes tens of megabytes
SEED = 34_000
POINT, CHEETAH = "point robot", "half-cheetah velocity"


def rows(session: Session) -> Iterator[Row]:
    """Returns after exploring for some rollouts, with the share that succeeds where there is such a thing."""
    yield Row(f"{POINT}: straight to the goal", estimate([straight(session.robots or ROBOTS)]))
    whole = {POINT: POINT_ROBOT, CHEETAH: of_learner(LOCOMOTION[CHEETAH], "pearl")}
    variants = {POINT: POINT_ROBOT.on(PEARL_QUICK)} if session.quick else whole
    for task, variant in variants.items():
        trained = trainings(session, variant)
        robots = QUICK_ROBOTS if session.quick else session.robots or (ROBOTS if task == POINT else 2 * AT_ONCE)
        scores = [returns(one.run, robots) for one in trained]
        for index, explored in enumerate(EXPLORED):
            succeeded = [success[:, index].mean() for _, success in scores]
            note = f"{np.mean(succeeded):.0%} end at the goal" if task == POINT else ""
            label = f"{task}: after {explored} rollout" + "s" * (explored != 1)
            yield row_of(label, [values[:, index] for values, _ in scores], trained, note)


def returns(run: Run, robots: int) -> tuple[Array, Array]:
    """Return of each robot after exploring for some rollouts, and whether it succeeds then, (robots, 5) each."""
    point = isinstance(run.family, PointRobot)
    at_once = robots if point else min(robots, AT_ONCE)
    found = []
    with one_thread(), VectorEnv(run.family, at_once, workers=0, groups=1) as envs:
        for block in range(robots // at_once):
            fast = begin_trial(envs, run.learner, 1, np.random.default_rng((SEED, block)))
            explored = rollout(envs, run.learner, fast, max(EXPLORED) + 1, (SEED, 1, block))
            for count in EXPLORED:
                scored = rollout(
                    envs, run.learner, explored.fast[:, count], 1, (SEED, 2, block, count), explore=not point
                )
                paid = scored.observation[:, :, 1:, -2].sum(-1) if point else scored.returns
                success = run.family.success(scored.observation.numpy(), scored.valid.numpy())
                found.append(np.stack([paid.numpy(), np.zeros(paid.shape) if success is None else success]))
    both = np.concatenate(found, axis=2).reshape(2, at_once, -1, len(EXPLORED)).swapaxes(1, 2)
    gained, succeeded = both.reshape(2, -1, len(EXPLORED))
    return gained, succeeded


def straight(robots: int) -> Array:
    """What a point robot is paid that moves straight to its goal as fast as it can, (robots,)."""
    family = PointRobot.of({"feedback": True}, "pearl")
    block, tasks = family.block(robots), family.sample(robots, np.random.default_rng((SEED, 0)), "test")
    block.set_dynamics(tasks)
    seen, total = block.reset(np.random.default_rng(0)), np.zeros(robots)
    goal = np.concatenate([np.cos(tasks), np.sin(tasks)], axis=1)
    for _ in range(family.steps):
        seen = block.step(goal - seen[:, :2])
        total += block.reward
    return total
