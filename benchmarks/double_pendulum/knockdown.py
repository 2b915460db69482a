"""Global policy (ICRA 2025): the share of 60 s that the tip is up, with 15 knock-downs at random times.

For 0.2 s motors on both joints throw the pendulum towards a random pose while the controller is switched off; then it
has to bring it up again from wherever it is. After `simulation_v3` and `GlobalPolicyTestingControllerV2` of the DFKI
lab's repository `double_pendulum`; the leaderboard was drawn with seeds 333 (pendubot) and 777 (acrobot).
One draw decides little, so further ones run beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.double_pendulum.performance import line
from benchmarks.double_pendulum.plant import DT, NOMINAL, ROBOTS, TORQUE_LIMIT, Plant, tip_height
from benchmarks.double_pendulum.simulate import Controller, clock
from hardware_io.state import Array

DURATION = 60.0  # s
KNOCKS = 15
KNOCK_LENGTH = 0.2  # s
JITTER = 1.0  # s, of each knock around its place on a regular grid
SEEDS = {"pendubot": 333, "acrobot": 777}
DRAWS = 16  # the leaderboard's and others, which follow its seed
GAINS = (10.0, 0.1, 1.0)  # N·m/rad, N·m/(rad·s), N·m·s/rad
PID_STEP = 0.001  # s: half of what passes between two calls, as published


def draw_knocks(seed: int) -> tuple[Array, Array]:
    """When, (15,) s, and towards which pose, (15, 2) rad: numpy's legacy generator, in the published order."""
    bits = np.random.MT19937()
    bits._legacy_seeding(seed)
    rng = np.random.Generator(bits)
    poses = rng.random((KNOCKS, 4)) * 2 * np.pi - np.pi  # two of the four were meant as velocities and are not used
    gap = DURATION / (KNOCKS + 1)
    return np.arange(gap, DURATION, gap) + 2 * JITTER * (rng.random(KNOCKS) - 0.5), poses[:, :2]


class Knocks:
    """The knock-downs of `n` runs: who is being knocked, and with which torques."""

    def __init__(self, seeds: list[int]) -> None:
        times, poses = zip(*(draw_knocks(seed) for seed in seeds), strict=True)
        n = len(seeds)
        self._times = np.concatenate([np.array(times), np.full((n, 1), np.inf)], axis=1)  # (n, 16)
        self._poses = np.array(poses)  # (n, 15, 2)
        self._lane = np.arange(n)
        self._next = np.zeros(n, dtype=int)
        self._timer = np.zeros(n)
        self._goal = np.zeros((2, n))
        self._sum, self._last, self._calls = np.zeros((2, n)), np.zeros((2, n)), np.zeros(n, dtype=int)
        self.active = np.zeros(n, dtype=bool)

    def update(self, now: float) -> None:
        """Begin and end what is due."""
        begins = (now >= self._times[self._lane, self._next]) & ~self.active
        for lane in np.flatnonzero(begins):
            self._goal[:, lane] = self._poses[lane, self._next[lane]]
        self._timer[begins] = 0.0
        self._next += begins
        self.active |= begins
        self.active &= ~(self._timer > KNOCK_LENGTH)

    def torques(self, state: Array, plant: Plant) -> Array:
        """(2, n) N·m of a PID controller with gravity compensation. Errors are summed up over all knocks of a run."""
        error = self._goal - state[:2]
        self._sum[:, self.active] += error[:, self.active]
        self._calls += self.active
        kp, ki, kd = GAINS
        slope = np.where(self._calls > 2, (error - self._last) / PID_STEP, 0.0)
        pull = np.clip(kp * error + ki * self._sum * PID_STEP + kd * slope, -TORQUE_LIMIT, TORQUE_LIMIT)
        self._last = np.where(self.active, error, self._last)
        return np.clip(pull + plant.gravity_torque(state), -TORQUE_LIMIT, TORQUE_LIMIT)

    def advance(self, passed: float) -> None:
        """Time of those that are being knocked, s."""
        self._timer[self.active] += passed


def run(controller: Controller, acting: int, seeds: list[int]) -> Array:
    """The states at the beginning of each step, (T, 4, n), one run a seed."""
    lanes, times, plant = len(seeds), clock(DURATION), Plant(NOMINAL)
    state, states, knocks = np.zeros((4, lanes)), np.empty((len(times), 4, lanes)), Knocks(seeds)
    before = 0.0
    controller.start(lanes)
    for step, now in enumerate(times):
        states[step] = state
        knocks.update(now)
        torque = np.zeros((2, lanes))
        if not knocks.active.all():
            asked = controller.torque(state.copy(), step, ~knocks.active)
            torque[acting] = np.clip(asked, -TORQUE_LIMIT, TORQUE_LIMIT)
        if knocks.active.any():
            torque = np.where(knocks.active, knocks.torques(state, plant), torque)
            knocks.advance(now - before)
        before = now
        state = plant.step(state, torque)
    return states


def uptime(states: Array) -> Array:
    """Share of the time above the line, (n,), from states (T, 4, n)."""
    up = tip_height(states.transpose(1, 0, 2)) > line()
    return up[1:].sum(axis=0) * DT / DURATION


def score_global(controller: Controller, acting: int) -> dict[str, Any]:
    """The leaderboard's draw, and mean and standard deviation over all draws."""
    first = SEEDS[ROBOTS[acting]]
    shares = uptime(run(controller, acting, [first + draw for draw in range(DRAWS)]))
    return {"score": float(shares[0]), "mean": float(shares.mean()), "spread": float(shares.std())}
