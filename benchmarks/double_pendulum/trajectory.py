"""Swing-ups by iterative LQR with a limited torque, on `n` plants side by side.

Tassa, Mansard, Todorov, "Control-limited differential dynamic programming" (2014), for one torque, where the box
quadratic programme is a clip; Gauss-Newton: second derivatives of the dynamics are left out. `N` knots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.double_pendulum.lqr import advance, linearise
from benchmarks.double_pendulum.plant import TORQUE_LIMIT, Plant
from hardware_io.state import Array

STEPS = 0.3 ** np.arange(5)  # tried along the search direction
DAMPING = (1e-6, 1e8)  # least and most of what is added to the curvature of the torque
ENOUGH = 1e-5  # relative gain of an iteration below which a swing-up is done


@dataclass(frozen=True)
class Cost:
    """Half the weighted squared distance from `goal` and the torque's, of each knot, and of the end (4, 4)."""

    goal: Array  # (4, n)
    state: Array  # (4,)
    torque: float
    end: Array  # (n, 4, 4)


@dataclass(frozen=True)
class Plan:
    state: Array  # (N + 1, 4, n)
    torque: Array  # (N, n) N·m
    gain: Array  # (N, n, 4): torque − gain · (state − plan)
    cost: Array  # (n,)


def cost_of(cost: Cost, state: Array, torque: Array) -> Array:
    """(…, n) of states (N + 1, 4, …, n) and torques (N, …, n)."""
    error = np.moveaxis(state, 1, -1) - cost.goal.T  # (N + 1, …, n, 4)
    running = (cost.state * error[:-1] ** 2).sum(axis=(0, -1)) + cost.torque * (torque**2).sum(axis=0)
    end = (error[-1][..., None, :] @ cost.end @ error[-1][..., None])[..., 0, 0]
    return 0.5 * (running + end)


def follow(plant: Plant, plan: Plan, acting: int, hold: int, feed: Array) -> tuple[Array, Array]:
    """States (N + 1, 4, …, n) and torques (N, …, n) along the plan with its gains and `feed` (N, …, n) N·m beside."""
    state = np.broadcast_to(plan.state[0].reshape(4, *(1,) * (feed.ndim - 2), -1), (4, *feed.shape[1:]))
    states, torques = [state], []
    for knot in range(len(feed)):
        error = np.moveaxis(state, 0, -1) - plan.state[knot].T  # (…, n, 4)
        torque = plan.torque[knot] + feed[knot] - (plan.gain[knot] * error).sum(axis=-1)
        torque = np.clip(torque, -TORQUE_LIMIT, TORQUE_LIMIT)
        state = advance(plant, state, torque, acting, hold)
        states.append(state)
        torques.append(torque)
    return np.array(states), np.array(torques)


def improve(plant: Plant, acting: int, cost: Cost, plan: Plan, hold: int, iterations: int) -> Plan:
    """The plan after at most `iterations` of iterative LQR, its gains those around it."""
    lanes = np.arange(plan.torque.shape[1])
    damping = np.full(len(lanes), DAMPING[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(iterations):
            feed, gain = backward(plant, acting, cost, plan, hold, damping)
            state, torque = follow(plant, replace(plan, gain=gain), acting, hold, STEPS[:, None] * feed[:, None])
            found = np.nan_to_num(cost_of(cost, state, torque), nan=np.inf)  # (S, n)
            best = found.argmin(axis=0)
            chosen, before = found[best, lanes], plan.cost
            better = chosen < before
            plan = Plan(
                np.where(better, state[:, :, best, lanes], plan.state),
                np.where(better, torque[:, best, lanes], plan.torque),
                gain,
                np.where(better, chosen, before),
            )
            damping = np.clip(np.where(better, damping / 5, damping * 10), *DAMPING)
            if np.all((before - plan.cost <= ENOUGH * before) & (better | (damping >= DAMPING[1]))):
                break
    _, gain = backward(plant, acting, cost, plan, hold, np.full(len(lanes), DAMPING[0]))
    return replace(plan, gain=gain)


def backward(plant: Plant, acting: int, cost: Cost, plan: Plan, hold: int, damping: Array) -> tuple[Array, Array]:
    """Search direction (N, n) N·m and gains (N, n, 4); a torque at its limit has none."""
    knots = len(plan.torque)
    a, b = linearise_plan(plant, acting, plan, hold)
    error = np.swapaxes(plan.state - cost.goal, 1, 2)  # (N + 1, n, 4)
    slope = (cost.end @ error[-1][..., None])[..., 0]
    curve = cost.end
    feed, gain = np.zeros(plan.torque.shape), np.zeros((*plan.torque.shape, 4))
    weights = np.diag(cost.state)
    for knot in range(knots - 1, -1, -1):
        at, torque = np.swapaxes(a[knot], -1, -2), plan.torque[knot]
        cb = (curve @ b[knot][..., None])[..., 0]
        q_u = cost.torque * torque + (b[knot] * slope).sum(axis=-1)
        q_uu = cost.torque + (b[knot] * cb).sum(axis=-1)
        q_ux = (at @ cb[..., None])[..., 0]
        step = np.clip(-q_u / (q_uu + damping), -TORQUE_LIMIT - torque, TORQUE_LIMIT - torque)
        free = np.abs(torque + step) < TORQUE_LIMIT - 1e-9
        k = np.where(free, 1 / (q_uu + damping), 0.0)[:, None] * q_ux
        feed[knot], gain[knot] = step, k
        q_x = cost.state * error[knot] + (at @ slope[..., None])[..., 0]
        slope = q_x + q_ux * step[:, None] - k * (q_u + q_uu * step)[:, None]
        outer = q_ux[..., :, None] * k[..., None, :]
        curve = weights + at @ curve @ a[knot] + q_uu[:, None, None] * k[..., :, None] * k[..., None, :]
        curve = curve - outer - np.swapaxes(outer, -1, -2)
    return feed, gain


def linearise_plan(plant: Plant, acting: int, plan: Plan, hold: int) -> tuple[Array, Array]:
    """`A` (N, n, 4, 4) and `B` (N, n, 4) along a plan."""
    return linearise(plant, plan.state[:-1].transpose(1, 0, 2), plan.torque, acting, hold)
