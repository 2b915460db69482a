"""Controllers to compare with: nothing, the regulator around upright, and a swing-up tracked by a time-varying one."""

from __future__ import annotations

import numpy as np

from benchmarks.double_pendulum.lqr import Lqr, Zero, advance, linearise, regulator
from benchmarks.double_pendulum.plant import GOAL, NOMINAL, TORQUE_LIMIT, Flags, Plant, is_upright
from benchmarks.double_pendulum.simulate import Controller
from benchmarks.double_pendulum.trajectory import Cost, Plan, cost_of, follow, improve
from hardware_io.state import Array

HOLD = 5  # steps of 2 ms in a knot of a swing-up
KNOTS = 200  # 2 s
TRIES = 24  # random torques that a swing-up starts from
ITERATIONS = 100
BALANCE = ((0.97, 0.93, 0.39, 0.26), 0.11)  # weights of the published regulator: state, torque
TRACK = (np.array([0.64, 0.56, 0.13, 0.037]), 0.82)  # and of the published tracking
NEAR = (0.05, 0.05, 0.1, 0.1)  # rad, rad/s: where the published controller begins to balance
RUNNING = (np.array([0.01, 0.01, 0.001, 0.001]), 0.01)  # what the swing-up itself costs: state, torque


def swing_up_cost(plant: Plant, lanes: int, acting: int, goal: Array) -> Cost:
    """Ends count with the regulator's cost-to-go, on the nominal plant so that every plant is held to the same."""
    end, _ = regulator(Plant(NOMINAL), 1, acting, np.array(BALANCE[0]), BALANCE[1])
    return Cost(goal, *RUNNING, np.repeat(end, lanes, axis=0))


def swing_up(acting: int) -> Plan:
    """The cheapest of some swing-ups of the nominal plant, one lane wide."""
    plant, rng = Plant(NOMINAL), np.random.default_rng(0)
    goal = np.tile(GOAL[:, None], TRIES)
    goal[0, ::2] *= -1
    torque = np.repeat(1.5 * rng.standard_normal((KNOTS // 10, TRIES)), 10, axis=0)
    rest = Plan(np.zeros((KNOTS + 1, 4, TRIES)), torque, np.zeros((KNOTS, TRIES, 4)), np.zeros(TRIES))
    cost = swing_up_cost(plant, TRIES, acting, goal)
    state, torque = follow(plant, rest, acting, HOLD, np.zeros((KNOTS, TRIES)))
    plan = improve(plant, acting, cost, Plan(state, torque, rest.gain, cost_of(cost, state, torque)), HOLD, ITERATIONS)
    best = [int(plan.cost.argmin())]
    return Plan(plan.state[:, :, best], plan.torque[:, best], plan.gain[:, best], plan.cost[best])


class Tvlqr:
    """The published combination: a swing-up tracked with a regulator that varies along it, and one that balances."""

    def __init__(self, acting: int) -> None:
        self._plant, self._acting = Plant(NOMINAL), acting
        self._balance = Lqr(acting, *BALANCE)
        self._track(swing_up(acting))

    def _track(self, plan: Plan) -> None:
        """States, torques and gains of every step, and whole turns that the swing-up ends away from the goal."""
        state = plan.state[0]
        self._torque = np.repeat(plan.torque[:, 0], HOLD)
        states = []
        for torque in self._torque:
            states.append(state[:, 0])
            state = advance(self._plant, state, np.array([torque]), self._acting, 1)
        self._state = np.array(states)
        a, b = linearise(self._plant, self._state.T, self._torque, self._acting, 1)
        curve, (weights, r) = self._balance.cost, TRACK
        self._gain = np.zeros((len(a), 4))
        for step in range(len(a) - 1, -1, -1):
            ahead = curve @ b[step]
            self._gain[step] = ahead @ a[step] / (r + b[step] @ ahead)
            curve = np.diag(weights) + a[step].T @ curve @ (a[step] - np.outer(b[step], self._gain[step]))

    def start(self, lanes: int) -> None:
        self._balancing = np.zeros(lanes, dtype=bool)

    def torque(self, measured: Array, step: int, asked: Flags) -> Array:
        balance = self._balance.torque(measured, step, asked)
        if step >= len(self._torque):
            return balance
        self._balancing |= is_upright(measured, NEAR)
        track = self._torque[step] - self._gain[step] @ (measured - self._state[step][:, None])
        return np.where(self._balancing, balance, np.clip(track, -TORQUE_LIMIT, TORQUE_LIMIT))


REFERENCES: dict[str, type] = {"zero": Zero, "lqr": Lqr, "tvlqr": Tvlqr}


def reference(name: str, acting: int) -> Controller:
    """One of REFERENCES for a robot."""
    made: Controller = REFERENCES[name]() if name == "zero" else REFERENCES[name](acting)
    return made
