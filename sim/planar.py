"""Robots whose joints turn about parallel axes, batched in numpy: what identification integrates thousands of times.

Everything happens in one plane, so a position is a complex number and a turn by θ a factor exp(iθ). A chain or tree of
`J` joints, `n` draws of the hidden parameters beside `W` motions. Arrays of joints come first: (J, n, W).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError
from hardware_io.state import Array
from sim.model import RigidModel
from sim.world import GRAVITY

PARALLEL = 1e-6  # largest sine between two axes that count as parallel
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class PlanarBodies:
    """Moving bodies of `n` robots in the plane, one a joint; each array but the first three is (J, n, 1)."""

    parent: tuple[int, ...]  # -1 for the base
    sign: tuple[float, ...]  # which way a joint turns
    joint: tuple[complex, ...]  # m, of a joint from its parent's, at zero
    mass: Array  # kg
    centre: Complex  # m, from the joint, at zero
    inertia: Array  # kg·m² about the centre of mass
    rotor: Array  # kg·m² of the motor, seen at its joint; it turns with that joint alone
    gravity: Complex  # (n, 1) m/s², the part that lies in the plane


class PlanarModel:
    """The plane in which a robot moves. Raises ConfigError when its axes are not parallel."""

    def __init__(self, model: RigidModel) -> None:
        self.model = model
        bodies = model.bodies(model.ranges.nominal[None])
        self._turned: list[Array] = []  # (3, 3) of each joint's frame in the base's, at zero
        for joint, parent in enumerate(bodies.parent):
            above = np.eye(3) if parent < 0 else self._turned[parent]
            self._turned.append(above @ bodies.rotation[joint])
        axes = [turned @ axis for turned, axis in zip(self._turned, bodies.axis, strict=True)]
        for name, axis in zip(model.spec.joints, axes, strict=True):
            if np.linalg.norm(np.cross(axes[0], axis)) > PARALLEL:
                allowed = f"an axis parallel to that of {next(iter(model.spec.joints))}: only planar robots"
                raise ConfigError(model.path, f"joint {name}", axis.round(6).tolist(), allowed)
        self._axis = axes[0]
        self._sign = tuple(float(np.sign(axis @ self._axis)) for axis in axes)
        first = np.eye(3)[np.abs(self._axis).argmin()]
        first = first - (first @ self._axis) * self._axis
        self._basis = np.stack([first, np.cross(self._axis, first)]) / np.linalg.norm(first)  # (2, 3)

    def bodies(self, dynamics: Array) -> PlanarBodies:
        """Under hidden parameters (n, P)."""
        rotor, without = np.zeros((len(self._sign), len(dynamics), 1)), dynamics.copy()
        for index, parameter in enumerate(self.model.ranges.parameters.values()):
            if parameter.apply == "motor_inertia":
                rotor[list(self.model.spec.joints).index(parameter.joint), :, 0] += dynamics[:, index]
                without[:, index] = 0.0
        bodies = self.model.bodies(without)
        above = [np.eye(3) if parent < 0 else self._turned[parent] for parent in bodies.parent]
        spin = [self._axis @ turned for turned in self._turned]  # the axis, in each joint's frame
        inertia = [np.einsum("i,nij,j->n", a, bodies.inertia[:, j], a) for j, a in enumerate(spin)]
        centre = [self._flat(bodies.centre[:, j] @ turned.T) for j, turned in enumerate(self._turned)]
        down = np.array([0.0, 0.0, -GRAVITY])
        return PlanarBodies(
            parent=bodies.parent,
            sign=self._sign,
            joint=tuple(complex(self._flat(turned @ at)) for turned, at in zip(above, bodies.position, strict=True)),
            mass=bodies.mass.T[..., None],
            centre=np.stack(centre)[..., None],
            inertia=np.stack(inertia)[..., None],
            rotor=rotor,
            gravity=self._flat(down @ bodies.base_rotation)[:, None],
        )

    def _flat(self, vector: Array) -> Complex:
        """Vectors (…, 3) in the base's frame, as seen in the plane, (…)."""
        return np.asarray(vector @ self._basis[0] + 1j * (vector @ self._basis[1]))


def acceleration(bodies: PlanarBodies, position: Array, velocity: Array, torque: Array) -> Array:
    """rad/s², (J, n, W), at rad, rad/s and N·m, each (J, n, W): inertia · acceleration + bias = torque."""
    matrix, bias = motion(bodies, position, velocity)
    right = [t - b for t, b in zip(torque, bias, strict=True)]
    if len(right) == 1:
        return (right[0] / matrix[0][0])[None]
    if len(right) == 2:
        (a, b), (_, c) = matrix
        determinant = a * c - b * b
        return np.stack([(c * right[0] - b * right[1]) / determinant, (a * right[1] - b * right[0]) / determinant])
    whole = np.moveaxis(np.array([np.broadcast_arrays(*row) for row in matrix]), (0, 1), (-2, -1))
    return np.moveaxis(np.linalg.solve(whole, np.stack(right, -1)[..., None])[..., 0], -1, 0)


def motion(bodies: PlanarBodies, position: Array, velocity: Array) -> tuple[list[list[Array]], list[Array]]:
    """Generalised inertia, J rows of J, kg·m², and the torque of gravity and speed, J of them, N·m; each (n, W)."""
    count = len(bodies.parent)
    turn: list[Complex] = []  # of a body
    speed: list[Array] = []  # rad/s, of a body
    origin: list[Complex] = []  # m, of a joint
    pull: list[Complex] = []  # m/s², of a joint while no joint accelerates, less gravity
    matrix: list[list[Array]] = [
        [bodies.rotor[j] if j == k else np.zeros(1) for k in range(count)] for j in range(count)
    ]
    bias: list[Array] = [np.zeros(1)] * count
    angle: list[Array] = []
    for b, parent in enumerate(bodies.parent):
        step, swing = bodies.sign[b] * position[b], bodies.sign[b] * velocity[b]
        angle.append(step if parent < 0 else angle[parent] + step)
        speed.append(swing if parent < 0 else speed[parent] + swing)
        turn.append(np.cos(angle[b]) + 1j * np.sin(angle[b]))
        arm = bodies.joint[b] * (turn[parent] if parent >= 0 else 1.0)
        origin.append(np.asarray(arm + (origin[parent] if parent >= 0 else 0.0)))
        pull.append(pull[parent] - speed[parent] ** 2 * arm if parent >= 0 else -bodies.gravity)
        reach = turn[b] * bodies.centre[b]
        centre, force = origin[b] + reach, bodies.mass[b] * (pull[b] - speed[b] ** 2 * reach)
        movers = [b]
        while bodies.parent[movers[-1]] >= 0:
            movers.append(bodies.parent[movers[-1]])
        lever = {j: centre - origin[j] for j in movers}
        for i, j in enumerate(movers):
            # the centre moves by i · sign · lever a radian of joint j, and Re(conj(i a) b) = Im(conj(a) b)
            bias[j] = bias[j] + bodies.sign[j] * _cross(lever[j], force)
            for k in movers[i:]:
                both = bodies.sign[j] * bodies.sign[k]
                matrix[j][k] = matrix[j][k] + both * (bodies.mass[b] * _dot(lever[j], lever[k]) + bodies.inertia[b])
                matrix[k][j] = matrix[j][k]
    return matrix, bias


def _dot(a: Complex, b: Complex) -> Array:
    return a.real * b.real + a.imag * b.imag


def _cross(a: Complex, b: Complex) -> Array:
    return a.real * b.imag - a.imag * b.real
