"""The plant of the published benchmarks: a planar double pendulum, `n` of them side by side.

Angles: q1 of the upper link from hanging, q2 of the lower link relative to the upper one, rad. Inertias are about the
joints. Equations of Wiebe et al., "Open Source Dual-Purpose Acrobot and Pendubot Platform" (2024), with the
rotor's coupling M12 −= gear · Ir and Coulomb friction c · atan(100 v), integrated by Runge-Kutta 4 with held torque.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hardware_io.state import Array

Flags = NDArray[np.bool_]

GRAVITY = 9.81  # m/s²
GEAR = 6.0
STEEPNESS = 100.0  # s/rad, of Coulomb friction around standstill
DT = 0.002  # s
TORQUE_LIMIT = 6.0  # N·m
ROBOTS = ("pendubot", "acrobot")  # the index is that of the joint that acts
GOAL = np.array([np.pi, 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Parameters:
    """Model 1.1, identified by the DFKI Underactuated Lab, with neither friction nor rotor; each a number or (n,)."""

    m1: float | Array = 0.5234602302310271  # kg
    m2: float | Array = 0.6255677234174437  # kg
    l1: float | Array = 0.2  # m
    l2: float | Array = 0.3  # m
    r1: float | Array = 0.2  # m, centre of mass
    r2: float | Array = 0.25569305436052964  # m
    i1: float | Array = 0.031887199591513114  # kg·m²
    i2: float | Array = 0.05086984812807257  # kg·m²
    rotor: float | Array = 0.0  # kg·m², of each motor before its gear
    b1: float | Array = 0.0  # N·m·s/rad
    b2: float | Array = 0.0  # N·m·s/rad
    c1: float | Array = 0.0  # N·m
    c2: float | Array = 0.0  # N·m

    def rows(self) -> Array:
        """(13, n), or (13, 1) where all are numbers."""
        columns = np.broadcast_arrays(*(np.atleast_1d(getattr(self, field.name)) for field in fields(self)))
        return np.array(columns, dtype=np.float64)

    @staticmethod
    def of_rows(rows: Array) -> Parameters:
        """The inverse of `rows`."""
        return Parameters(*rows)


NOMINAL = Parameters()


class Plant:
    """Equations of motion. A state is (4, n): q1, q2 rad, v1, v2 rad/s; torques are (2, n) N·m at the joints."""

    def __init__(self, parameters: Parameters) -> None:
        p = parameters
        self.parameters = p
        self.coupling = p.m2 * p.l1 * p.r2  # kg·m²
        self.inertia1 = p.i1 + p.i2 + p.m2 * p.l1**2 + (GEAR**2 + 1) * p.rotor
        self.inertia12 = p.i2 - GEAR * p.rotor
        self.inertia2 = p.i2 + GEAR**2 * p.rotor
        self.weight1 = (p.m1 * p.r1 + p.m2 * p.l1) * GRAVITY  # N·m
        self.weight2 = p.m2 * p.r2 * GRAVITY
        self._friction = bool(np.any(p.c1)) or bool(np.any(p.c2))  # arctan is a third of the price

    def gravity_torque(self, state: Array) -> Array:
        """What holds a still pendulum, (2, n) N·m."""
        lower = self.weight2 * np.sin(state[0] + state[1])
        return np.stack([self.weight1 * np.sin(state[0]) + lower, lower])

    def derivative(self, state: Array, torque: Array) -> Array:
        """Of the state, (4, n)."""
        p, (q1, q2, v1, v2) = self.parameters, state
        swirl = self.coupling * np.sin(q2)
        bend = self.coupling * np.cos(q2)
        lower = self.weight2 * np.sin(q1 + q2)
        force1 = torque[0] - self.weight1 * np.sin(q1) - lower + swirl * v2 * (2 * v1 + v2) - p.b1 * v1
        force2 = torque[1] - lower - swirl * v1 * v1 - p.b2 * v2
        if self._friction:
            force1 = force1 - p.c1 * np.arctan(STEEPNESS * v1)
            force2 = force2 - p.c2 * np.arctan(STEEPNESS * v2)
        m11, m12, m22 = self.inertia1 + 2 * bend, self.inertia12 + bend, self.inertia2
        determinant = m11 * m22 - m12 * m12
        result = np.empty_like(state)
        result[0], result[1] = v1, v2
        result[2] = (m22 * force1 - m12 * force2) / determinant
        result[3] = (m11 * force2 - m12 * force1) / determinant
        return result

    def step(self, state: Array, torque: Array, dt: float = DT) -> Array:
        """The state `dt` later, (4, n): Runge-Kutta 4 with the torque held."""
        k1 = self.derivative(state, torque)
        k2 = self.derivative(state + 0.5 * dt * k1, torque)
        k3 = self.derivative(state + 0.5 * dt * k2, torque)
        k4 = self.derivative(state + dt * k3, torque)
        return state + dt / 6 * (k1 + 2 * (k2 + k3) + k4)

    def energy(self, state: Array) -> Array:
        """Kinetic and potential, (n,) J; zero where it stands still with both links level."""
        q1, q2, v1, v2 = state
        bend = self.coupling * np.cos(q2)
        kinetic = (
            0.5 * (self.inertia1 + 2 * bend) * v1**2 + (self.inertia12 + bend) * v1 * v2 + 0.5 * self.inertia2 * v2**2
        )
        return kinetic - self.weight1 * np.cos(q1) - self.weight2 * np.cos(q1 + q2)


def tip_height(state: Array, parameters: Parameters = NOMINAL) -> Array:
    """Of the end above the shoulder, m, for states (4, …)."""
    return -parameters.l1 * np.cos(state[0]) - parameters.l2 * np.cos(state[0] + state[1])


def is_upright(state: Array, tolerance: tuple[float, float, float, float] = (0.35, 0.35, 1.0, 1.0)) -> Flags:
    """Whether each of n states (4, n) is within the tolerance of upright, whole turns aside, (n,) bool."""
    error = np.abs(wrapped_error(state))
    return np.all(error < np.reshape(tolerance, (4, 1)), axis=0)


def wrapped_error(state: Array) -> Array:
    """Distance from upright, angles within ±π, (4, n)."""
    error = state - GOAL[:, None]
    error[:2] = (error[:2] + np.pi) % (2 * np.pi) - np.pi
    return error
