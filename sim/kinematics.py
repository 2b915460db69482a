"""What the rigid bodies of one robot weigh and how they resist, by the textbook: a measure to hold Bullet against.

`J` joints; the first of the `n` robots in `Bodies` counts.
"""

from __future__ import annotations

import numpy as np

from hardware_io.state import Array
from sim.model import Bodies, rotation_about
from sim.world import GRAVITY


def mass_matrix(bodies: Bodies, position: Array) -> Array:
    """Generalised inertia (J, J) kg·m² at joint positions (J,) rad."""
    _, rotations, linear, angular = _frames(bodies, position)
    inertia = rotations @ bodies.inertia[0] @ rotations.transpose(0, 2, 1)  # (J, 3, 3) in the world
    matrix = np.einsum("b,bik,bij->kj", bodies.mass[0], linear, linear)
    return np.asarray(matrix + np.einsum("bik,bil,blj->kj", angular, inertia, angular))


def gravity_torque(bodies: Bodies, position: Array) -> Array:
    """Torque (J,) N·m that holds the robot still at joint positions (J,) rad."""
    linear = _frames(bodies, position)[2]
    return np.asarray(GRAVITY * np.einsum("b,bj->j", bodies.mass[0], linear[:, 2]))


def energy(bodies: Bodies, position: Array, velocity: Array) -> float:
    """Kinetic and potential energy, J, at joint positions (J,) rad and velocities (J,) rad/s."""
    height = _frames(bodies, position)[0][:, 2]
    kinetic = 0.5 * velocity @ mass_matrix(bodies, position) @ velocity
    return float(kinetic + GRAVITY * bodies.mass[0] @ height)


def _frames(bodies: Bodies, position: Array) -> tuple[Array, Array, Array, Array]:
    """Of each body: centre (J, 3), rotation (J, 3, 3), and how it moves and turns with each joint (J, 3, J)."""
    count = len(bodies.parent)
    origin, rotation, axis = np.zeros((count, 3)), np.zeros((count, 3, 3)), np.zeros((count, 3))
    linear, angular = np.zeros((count, 3, count)), np.zeros((count, 3, count))
    centre = np.zeros((count, 3))
    for j, parent in enumerate(bodies.parent):
        above = bodies.base_rotation[0] if parent < 0 else rotation[parent]
        root = np.zeros(3) if parent < 0 else origin[parent]
        turn = rotation_about(bodies.axis[j], position[j : j + 1])[0]
        origin[j] = root + above @ bodies.position[j]
        rotation[j] = above @ bodies.rotation[j] @ turn
        axis[j] = rotation[j] @ bodies.axis[j]
        centre[j] = origin[j] + rotation[j] @ bodies.centre[0, j]
        mover = j
        while mover >= 0:
            angular[j, :, mover] = axis[mover]
            linear[j, :, mover] = np.cross(axis[mover], centre[j] - origin[mover])
            mover = bodies.parent[mover]
    return centre, rotation, linear, angular
