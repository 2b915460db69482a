"""Planar robots of two joints in closed form: a world like Bullet's at a tenth of its price.

What Bullet does for one robot after the other is a few lines of batched numpy here, with the same steps (semi-implicit
Euler) and the same friction (an impulse that arrests a joint, as far as it may). A rotor turns with its joint alone.
`n` robots, `S` substeps, `A` acting joints.
"""

from __future__ import annotations

import numpy as np

from hardware_io.config import ConfigError
from hardware_io.state import Array
from sim.model import RigidModel
from sim.planar import PlanarBodies

SWEEPS = 3  # of friction over the joints, whose impulses move each other


class TwoLinkWorld:
    """`lanes` robots. Raises ConfigError for a robot that is not a chain of two joints."""

    def __init__(self, model: RigidModel, lanes: int, substep: float) -> None:
        joints = list(model.spec.joints)
        if model.bodies(model.ranges.nominal[None]).parent != (-1, 0):
            raise ConfigError(model.spec.source, "physics.engine", "two_link", f"bullet for the joints {joints}")
        self._acting, self._step = model.spec.acting, substep
        self._angle, self._speed = np.zeros((2, lanes)), np.zeros((2, lanes))  # rad, rad/s

    def build(self, bodies: PlanarBodies, viscous: Array, coulomb: Array) -> None:
        """Replace all robots. `viscous` N·m·s/rad and `coulomb` N·m, each (n, 2)."""
        (m1, m2), (c1, c2), link = bodies.mass[..., 0], bodies.centre[..., 0], bodies.joint[1]
        (i1, i2), rotor, down = bodies.inertia[..., 0], bodies.rotor[..., 0], bodies.gravity[:, 0].conj()
        self._sign = np.array(bodies.sign)[:, None]
        self._upper = i1 + m1 * np.abs(c1) ** 2 + m2 * np.abs(link) ** 2
        self._lower, self._rotor = i2 + m2 * np.abs(c2) ** 2, rotor
        polar = (m2 * np.conj(link) * c2, down * (m1 * c1 + m2 * link), down * m2 * c2)
        self._size, self._phase = np.abs(polar), np.angle(polar)  # (3, n) of coupling, both weights
        self._viscous, self._grip = viscous.T, coulomb.T * self._step  # N·m·s/rad, N·m·s

    def set_state(self, position: Array, velocity: Array) -> None:
        """Place all robots, (n, 2) rad and rad/s."""
        self._angle, self._speed = self._sign * position.T, self._sign * velocity.T

    def advance(self, torque: Array, position: Array, velocity: Array) -> None:
        """Apply torques (S, n, A) N·m over S substeps, then write the state into (n, 2) rad and rad/s."""
        drive = np.zeros((len(torque), *self._angle.shape))
        drive[:, self._acting] = torque.transpose(0, 2, 1)
        for push in drive * self._sign:
            self._advance(push)
        position[...], velocity[...] = (self._sign * self._angle).T, (self._sign * self._speed).T

    def _advance(self, push: Array) -> None:
        """One substep under torques (2, n) N·m."""
        (q1, q2), (v1, v2) = self._angle, self._speed
        turn = np.stack([q2, q1, q1 + q2]) + self._phase
        swirl, weight1, weight2 = self._size * np.sin(turn)
        bend = self._size[0] * np.cos(turn[0])
        force1 = push[0] + swirl * v2 * (2 * v1 + v2) - weight1 - weight2
        force2 = push[1] - swirl * v1 * v1 - weight2
        a, b, c = (
            self._upper + self._lower + 2 * bend + self._rotor[0],
            self._lower + bend,
            self._lower + self._rotor[1],
        )
        determinant = a * c - b * b
        give = np.array([[c, -b], [-b, a]]) / determinant  # (2, 2, n), what an impulse on a joint does to both
        force = np.stack([force1, force2]) - self._viscous * self._speed
        speed = self._speed + self._step * (give[:, 0] * force[0] + give[:, 1] * force[1])
        self._speed = self._arrest(speed, give)
        self._angle = self._angle + self._step * self._speed

    def _arrest(self, speed: Array, give: Array) -> Array:
        """Speeds (2, n) after dry friction."""
        held = np.zeros_like(speed)
        for _ in range(SWEEPS):
            for joint in (0, 1):
                wanted = held[joint] - speed[joint] / give[joint, joint]
                now = np.clip(wanted, -self._grip[joint], self._grip[joint])
                speed = speed + give[:, joint] * (now - held[joint])
                held[joint] = now
        return speed

    def close(self) -> None:
        """Nothing to free."""
