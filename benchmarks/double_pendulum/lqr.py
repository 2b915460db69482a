"""Linear-quadratic regulators of sampled plants, `n` of them side by side.

`A` (n, 4, 4) and `B` (n, 4) are of one sample: `hold` steps of the plant with the torque held.
"""

from __future__ import annotations

import numpy as np

from benchmarks.double_pendulum.plant import GOAL, NOMINAL, TORQUE_LIMIT, Flags, Plant, wrapped_error
from hardware_io.state import Array

NUDGE = 1e-6  # of the differences
SETTLED = 1e-10  # relative change at which the Riccati equation is solved


def advance(plant: Plant, state: Array, torque: Array, acting: int, hold: int) -> Array:
    """The state (4, …) after `hold` steps with the torque (…,) N·m at the joint that acts."""
    torques = np.zeros((2, *np.shape(torque)))
    torques[acting] = torque
    for _ in range(hold):
        state = plant.step(state, torques)
    return state


def linearise(plant: Plant, state: Array, torque: Array, acting: int, hold: int) -> tuple[Array, Array]:
    """`A` (…, 4, 4) and `B` (…, 4) around states (4, …) and torques (…,), by differences."""
    here, columns = advance(plant, state, torque, acting, hold), []
    for direction in range(5):
        nudge = np.zeros((5, *np.shape(torque)))
        nudge[direction] = NUDGE
        columns.append((advance(plant, state + nudge[:4], torque + nudge[4], acting, hold) - here) / NUDGE)
    jacobian = np.moveaxis(np.array(columns), (0, 1), (-1, -2))  # (…, 4, 5)
    return jacobian[..., :4], jacobian[..., 4]


def riccati(a: Array, b: Array, q: Array, r: float) -> tuple[Array, Array]:
    """Cost-to-go (n, 4, 4) and gain (n, 4), u = −gain · error, of the discrete infinite horizon.

    By structure-preserving doubling (Chu et al. 2004). Raises ArithmeticError where it does not settle.
    """
    transition, g, h = a, b[..., :, None] * b[..., None, :] / r, np.broadcast_to(q, a.shape)
    for _ in range(60):
        inner = np.linalg.inv(np.eye(4) + g @ h)
        forward = transition @ inner
        step = np.swapaxes(transition, -1, -2) @ h @ inner @ transition
        g = g + forward @ g @ np.swapaxes(transition, -1, -2)
        transition, h = forward @ transition, h + step
        if np.abs(step).max() < SETTLED * np.abs(h).max():
            hb = (h @ b[..., None])[..., 0]
            gain = (hb[..., None, :] @ a)[..., 0, :] / (r + (b * hb).sum(axis=-1))[..., None]
            return h, gain
    raise ArithmeticError("the Riccati equation does not settle: the plant cannot be stabilised")


def regulator(plant: Plant, lanes: int, acting: int, weights: Array, r: float, hold: int = 1) -> tuple[Array, Array]:
    """Cost-to-go and gain around upright, with weights (4,) of the state and `r` of the torque for each sample."""
    state, torque = np.tile(GOAL[:, None], lanes), np.zeros(lanes)
    a, b = linearise(plant, state, torque, acting, hold)
    return riccati(a, b, np.diag(weights), r)


class Zero:
    """Does nothing."""

    def start(self, lanes: int) -> None:
        self._torque = np.zeros(lanes)

    def torque(self, measured: Array, step: int, asked: Flags) -> Array:
        return self._torque


class Lqr:
    """The regulator around upright of the nominal plant, from wherever it is."""

    def __init__(
        self, acting: int, weights: tuple[float, float, float, float] = (1.0, 1.0, 0.1, 0.1), r: float = 0.5
    ) -> None:
        cost, gain = regulator(Plant(NOMINAL), 1, acting, np.array(weights), r)
        self.cost, self.gain = cost[0], gain[0]

    def start(self, lanes: int) -> None:
        pass

    def torque(self, measured: Array, step: int, asked: Flags) -> Array:
        return np.clip(-self.gain @ wrapped_error(measured), -TORQUE_LIMIT, TORQUE_LIMIT)
