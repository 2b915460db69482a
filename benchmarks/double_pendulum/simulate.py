"""Runs of a controller on perturbed plants, hundreds side by side, in the order of events of the published simulator.

Each step: measure (delay, then noise), ask the controller, apply (response, noise, limit, then the bump, which may
exceed the limit), integrate. After `simulation.py` of the DFKI lab's repository `double_pendulum`.
`n` simulations, `T` steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.double_pendulum.plant import DT, NOMINAL, TORQUE_LIMIT, Flags, Parameters, Plant
from hardware_io.state import Array

LOST = 1e3  # rad/s: beyond this a run has failed, whatever comes


class Controller(Protocol):
    """What is scored: told a measurement every 2 ms, gives the torque of the joint that acts."""

    def start(self, lanes: int) -> None:
        """Forget everything: `lanes` new runs begin."""

    def torque(self, measured: Array, step: int, asked: Flags) -> Array:
        """(n,) N·m for measured states (4, n) rad, rad/s; unused where `asked`, (n,), is false."""


@dataclass(frozen=True)
class Conditions:
    """What is different in each of `n` simulations."""

    lanes: int
    parameters: Parameters = NOMINAL
    velocity_noise: Array | float = 0.0  # rad/s, standard deviation
    torque_noise: Array | float = 0.0  # N·m, standard deviation
    response: Array | float = 1.0  # share of the way from the last torque to the commanded one that a step goes
    delay: Array | int = 0  # steps, of all measurements
    bumps: Array | None = None  # (T, n) N·m at the joint that acts


@dataclass(frozen=True)
class Outcome:
    """What happened; the record is empty unless it was asked for."""

    final: Array  # (4, n), NaN where a run was lost
    state: Array  # (T, 4, n) at the beginning of each step
    torque: Array  # (T, n) N·m in each step, of the joint that acts


def clock(duration: float) -> Array:
    """When each step begins, (T,) s: summed up as the published simulator does, rounding included."""
    times, now = list[float](), 0.0
    while now < duration:
        times.append(now)
        now += DT
    return np.array(times)


def simulate(
    controller: Controller,
    acting: int,
    conditions: Conditions,
    seed: list[int],
    duration: float = 10.0,
    start: Array | None = None,
    record: bool = False,
) -> Outcome:
    """Runs from `start`, (4,), hanging by default; the noise follows from `seed`."""
    lanes, times, rng = conditions.lanes, clock(duration), np.random.default_rng(seed)
    plant, delay = Plant(conditions.parameters), np.broadcast_to(conditions.delay, lanes)
    state = np.tile(np.zeros(4) if start is None else start, (lanes, 1)).T.astype(np.float64)
    past = np.tile(state, (int(delay.max()) + 1, 1, 1))  # ring of the newest states
    column, everybody = np.arange(lanes), np.ones(lanes, dtype=bool)
    applied, torque = np.zeros((2, lanes)), np.zeros(lanes)
    states, torques = list[Array](), list[Array]()
    lost = np.zeros(lanes, dtype=bool)
    controller.start(lanes)
    for step, now in enumerate(times):
        past[step % len(past)] = state
        measured = past[(step - np.minimum(delay, step)) % len(past), :, column].T.copy()
        if np.any(conditions.velocity_noise):
            measured[2:] += conditions.velocity_noise * rng.standard_normal((2, lanes))
        asked = controller.torque(measured, step, everybody)
        torque = torque + conditions.response * (asked - torque)
        if np.any(conditions.torque_noise):
            torque = torque + conditions.torque_noise * rng.standard_normal(lanes)
        torque = np.clip(torque, -TORQUE_LIMIT, TORQUE_LIMIT)
        if conditions.bumps is not None:
            torque = torque + conditions.bumps[min(int(now / DT), len(conditions.bumps) - 1)]
        if record:
            states.append(state)
            torques.append(torque)
        applied[acting] = torque
        state = plant.step(state, applied)
        gone = ~(np.abs(state[2:]) < LOST).all(axis=0)
        if gone.any():  # it would overflow, and the controller must not be told infinities
            lost |= gone
            state[:, gone] = 0.0
    final = np.where(lost, np.nan, state)
    return Outcome(final, np.array(states), np.array(torques))
