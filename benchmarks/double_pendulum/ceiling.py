"""What is possible at all: a policy that is told everything, category by category.

It knows the plant, the true state without noise or delay, how the motor answers and when bumps come. A swing-up is
planned for each plant by iterative LQR and followed with its gains; then a regulator of that plant balances. A value
counts as possible when it is upright after 10 s with one of the regulators; what none of them holds may still be held
by a controller that nobody tried, so a ceiling is a lower bound of what is possible. `reached` says how many plants
can be brought upright at all, whether or not they stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.double_pendulum.lqr import regulator
from benchmarks.double_pendulum.plant import (
    DT,
    GOAL,
    NOMINAL,
    TORQUE_LIMIT,
    Flags,
    Parameters,
    Plant,
    is_upright,
    wrapped_error,
)
from benchmarks.double_pendulum.references import BALANCE, HOLD, swing_up, swing_up_cost
from benchmarks.double_pendulum.robustness import CATEGORIES, DURATION, SEED, VALUES, majority
from benchmarks.double_pendulum.simulate import Conditions, clock, simulate
from benchmarks.double_pendulum.trajectory import Plan, cost_of, follow, improve
from hardware_io.state import Array

Indices = NDArray[np.int64]

ITERATIONS = 12  # of a round
ROUNDS = 8  # of plants that are not up yet, each from the plan of the nearest one that is
CLOSE = (0.15, 0.15, 0.5, 0.5)  # rad, rad/s: where a plan has to end for a regulator to take over
SOFTER = 20.0  # times the published weight of the torque: another regulator


class Informed:
    """Follows a plan for each lane, then balances with a gain for each, undoing bumps and the motor's answer."""

    def __init__(self, conditions: Conditions, plan: Plan, gain: Array) -> None:
        """`plan` is as wide as the conditions, or one lane wide; `gain` (n, 4) likewise."""
        self._conditions, self._plan, self._gain = conditions, plan, gain
        self._index = (clock(DURATION) / DT).astype(int)  # as the simulator reads the bumps

    def start(self, lanes: int) -> None:
        self._wanted, self._applied = np.zeros(lanes), np.zeros(lanes)

    def torque(self, measured: Array, step: int, asked: Flags) -> Array:
        """What makes the joint feel the wanted torque, were there no noise."""
        knot = step // HOLD
        if knot >= len(self._plan.torque):
            self._wanted = -(self._gain * wrapped_error(measured).T).sum(axis=1)
        elif step % HOLD == 0:
            error = (measured - self._plan.state[knot]).T
            self._wanted = self._plan.torque[knot] - (self._plan.gain[knot] * error).sum(axis=1)
        wanted, bumps = np.clip(self._wanted, -TORQUE_LIMIT, TORQUE_LIMIT), self._conditions.bumps
        bump = 0.0 if bumps is None else bumps[min(self._index[step], len(bumps) - 1)]
        command = self._applied + (wanted - bump - self._applied) / self._conditions.response
        self._applied = np.clip(wanted - bump, -TORQUE_LIMIT, TORQUE_LIMIT) + bump
        return command


def pick(plan: Plan, lanes: Any) -> Plan:
    """Some lanes of a plan."""
    return Plan(plan.state[:, :, lanes], plan.torque[:, lanes], plan.gain[:, lanes], plan.cost[lanes])


def swing_ups(parameters: Parameters, groups: Indices, acting: int, nominal: Plan) -> tuple[Plan, Flags]:
    """A plan for each plant, and whether it ends near upright; `groups` (n,) says which plants are neighbours."""
    rows = parameters.rows()
    lanes = rows.shape[1]
    goal = np.tile(GOAL[:, None], lanes)
    goal[0] *= np.sign(nominal.state[-1, 0, 0])
    plan, there = pick(nominal, np.zeros(lanes, dtype=int)), np.zeros(lanes, dtype=bool)
    for _ in range(ROUNDS):
        todo = np.flatnonzero(~there)
        if not len(todo):
            break
        start = pick(plan, nearest(todo, there, groups))
        plant = Plant(Parameters.of_rows(rows[:, todo]))
        cost = swing_up_cost(plant, len(todo), acting, goal[:, todo])
        state, torque = follow(plant, start, acting, HOLD, np.zeros(start.torque.shape))
        start = replace(start, state=state, torque=torque, cost=cost_of(cost, state, torque))
        found = improve(plant, acting, cost, start, HOLD, ITERATIONS)
        plan.state[:, :, todo], plan.torque[:, todo] = found.state, found.torque
        plan.gain[:, todo], plan.cost[todo] = found.gain, found.cost
        there[todo] = is_upright(found.state[-1], CLOSE)
    return plan, there


def nearest(todo: Indices, there: Flags, groups: Indices) -> Indices:
    """For each lane the nearest of its group that is there, or itself."""
    result = todo.copy()
    for index, lane in enumerate(todo):
        others = np.flatnonzero(there & (groups == groups[lane]))
        if len(others):
            result[index] = others[np.abs(others - lane).argmin()]
    return result


def gains(parameters: Parameters, acting: int) -> Iterator[Array]:
    """Regulators to try, (n, 4) each: of the plant with and without Coulomb friction, and softer ones."""
    smooth = replace(parameters, c1=0.0 * np.asarray(parameters.c1), c2=0.0 * np.asarray(parameters.c2))
    for r in (BALANCE[1], SOFTER * BALANCE[1]):
        for p in (parameters, smooth):
            yield np.array([gain_of(rows, acting, r) for rows in p.rows().T])


def gain_of(rows: Array, acting: int, r: float) -> Array:
    """Of one plant, (4,); the nominal one's where it has none."""
    try:
        return regulator(Plant(Parameters.of_rows(rows[:, None])), 1, acting, np.array(BALANCE[0]), r)[1][0]
    except (ArithmeticError, np.linalg.LinAlgError):
        return regulator(Plant(NOMINAL), 1, acting, np.array(BALANCE[0]), r)[1][0]


def ceiling(acting: int) -> dict[str, Any]:
    """Share of values that are possible, by category, with those that are not."""
    nominal, results = swing_up(acting), dict[str, Any]()
    for number, (name, make) in enumerate(CATEGORIES.items()):
        category = make()
        conditions = replace(category.conditions, velocity_noise=0.0, delay=0)
        plan, extra = nominal, dict[str, Any]()
        if name == "model":
            groups = np.arange(conditions.lanes) // VALUES
            plan, _ = swing_ups(conditions.parameters, groups, acting, nominal)
            extra["reached"] = float(is_upright(plan.state[-1]).mean())
        possible = np.zeros(conditions.lanes, dtype=bool)
        for gain in gains(conditions.parameters, acting):
            informed = Informed(conditions, plan, gain)
            possible |= is_upright(simulate(informed, acting, conditions, [SEED, number], DURATION).final)
            if possible.all():
                break
        passed = majority(possible, category.repetitions)
        failed = [label for label, good in zip(category.labels, passed, strict=True) if not good]
        results[name] = {"score": float(passed.mean()), "failed": failed, **extra}

    return results
