"""Many robots in PyBullet: build them from arrays, command and step them, read them.

Several small robots share one Bullet world (they do not touch), because many worlds taking turns cost cache misses.
The friction of a joint is Bullet's own (damping and a velocity motor), so that a joint is read once a policy step
and not every substep.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hardware_io.state import Array
from sim.bullet import pybullet
from sim.model import Bodies, RigidModel

GRAVITY = 9.81  # m/s²
ROBOTS_PER_WORLD = 8  # measured on pendulums: 1 costs 1.5 times as much a substep, 32 cost 1.4 times; a world 30 MB
NO_SHAPE = -1


class BulletWorld:
    """`lanes` robots on fixed bases, contact-free."""

    def __init__(self, model: RigidModel, lanes: int, substep: float) -> None:
        self.lanes, self.joints = lanes, len(model.spec.joints)
        self._acting = model.spec.acting
        self._worlds: list[tuple[int, list[tuple[int, int]]]] = []  # client, [(lane, body)]
        for first in range(0, lanes, ROBOTS_PER_WORLD):
            client = pybullet.connect(pybullet.DIRECT)
            pybullet.setGravity(0, 0, -GRAVITY, physicsClientId=client)
            pybullet.setPhysicsEngineParameter(fixedTimeStep=substep, numSolverIterations=10, physicsClientId=client)
            self._worlds.append((client, [(lane, -1) for lane in range(first, min(first + ROBOTS_PER_WORLD, lanes))]))

    @property
    def robots(self) -> list[tuple[int, int]]:
        """Client and body of each robot that was built."""
        return [(client, body) for client, members in self._worlds for _, body in members]

    def build(self, bodies: Bodies, viscous: Array, coulomb: Array) -> None:
        """Replace all robots. `viscous` N·m·s/rad and `coulomb` N·m, each (n, J)."""
        moments, frames = np.linalg.eigh(bodies.inertia)
        frames[..., 0] *= np.linalg.det(frames)[..., None]  # a rotation, not a reflection
        arrays = {
            "mass": bodies.mass.tolist(),
            "centre": bodies.centre.tolist(),
            "moments": moments.tolist(),
            "frames": quaternion(frames).tolist(),
            "base": quaternion(bodies.base_rotation).tolist(),
            "viscous": viscous.tolist(),
            "coulomb": coulomb.tolist(),
        }
        position, orientation = bodies.position.tolist(), quaternion(bodies.rotation).tolist()
        shared = {
            "linkCollisionShapeIndices": [NO_SHAPE] * self.joints,
            "linkVisualShapeIndices": [NO_SHAPE] * self.joints,
            "linkPositions": position,
            "linkOrientations": orientation,
            "linkParentIndices": [parent + 1 for parent in bodies.parent],
            "linkJointTypes": [pybullet.JOINT_REVOLUTE] * self.joints,
            "linkJointAxis": bodies.axis.tolist(),
        }
        for index, (client, members) in enumerate(self._worlds):
            for _, body in members:
                if body >= 0:
                    pybullet.removeBody(body, physicsClientId=client)
            self._worlds[index] = (client, [(lane, self._create(client, lane, arrays, shared)) for lane, _ in members])

    def _create(self, client: int, lane: int, arrays: dict[str, Any], shared: dict[str, Any]) -> int:
        body = pybullet.createMultiBody(
            baseMass=0,
            baseOrientation=arrays["base"][lane],
            linkMasses=arrays["mass"][lane],
            linkInertialFramePositions=arrays["centre"][lane],
            linkInertialFrameOrientations=arrays["frames"][lane],
            physicsClientId=client,
            **shared,
        )
        for joint in range(self.joints):
            pybullet.changeDynamics(
                body, joint, linearDamping=0, angularDamping=0, maxJointVelocity=1000, physicsClientId=client
            )
            # A call of its own: beside the keys above Bullet ignores a joint's damping and sets the inertia to zero.
            pybullet.changeDynamics(
                body,
                joint,
                localInertiaDiagonal=arrays["moments"][lane][joint],
                jointDamping=arrays["viscous"][lane][joint],
                physicsClientId=client,
            )
            pybullet.setJointMotorControl2(
                body,
                joint,
                pybullet.VELOCITY_CONTROL,
                targetVelocity=0,
                force=arrays["coulomb"][lane][joint],
                physicsClientId=client,
            )
        return int(body)

    def set_state(self, position: Array, velocity: Array) -> None:
        """Place all robots, (n, J) rad and rad/s."""
        q, v = position.tolist(), velocity.tolist()
        reset, joints = pybullet.resetJointState, range(self.joints)
        for client, members in self._worlds:
            for lane, body in members:
                for joint in joints:
                    reset(body, joint, q[lane][joint], v[lane][joint], client)

    def advance(self, torque: Array, position: Array, velocity: Array) -> None:
        """Apply torques (S, n, A) N·m over S substeps, then write the state into (n, J) rad and rad/s."""
        steps = torque.tolist()
        control, step, read = pybullet.setJointMotorControl2, pybullet.stepSimulation, pybullet.getJointStates
        mode, joints = pybullet.TORQUE_CONTROL, list(range(self.joints))
        acting = list(enumerate(self._acting))
        single = self._acting[0] if len(acting) == 1 else None
        q: list[list[float]] = []
        v: list[list[float]] = []
        for client, members in self._worlds:
            for values in steps:
                if single is not None:
                    for lane, body in members:
                        control(body, single, mode, force=values[lane][0], physicsClientId=client)
                else:
                    for lane, body in members:
                        for index, joint in acting:
                            control(body, joint, mode, force=values[lane][index], physicsClientId=client)
                step(client)
            for _, body in members:
                states = read(body, joints, client)
                q.append([state[0] for state in states])
                v.append([state[1] for state in states])
        position[...] = q
        velocity[...] = v

    def close(self) -> None:
        """Free the worlds. Idempotent."""
        while self._worlds:
            pybullet.disconnect(self._worlds.pop()[0])


def quaternion(rotation: Array) -> Array:
    """Unit quaternions xyzw (..., 4) of rotation matrices (..., 3, 3), by the largest of the four components."""
    m = rotation
    trace = np.trace(m, axis1=-2, axis2=-1)
    squares = np.stack([1 + 2 * m[..., i, i] - trace for i in range(3)] + [1 + trace], axis=-1)
    candidates = np.stack(
        [
            np.stack([squares[..., 0], m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0],
                      m[..., 2, 1] - m[..., 1, 2]], axis=-1),
            np.stack([m[..., 0, 1] + m[..., 1, 0], squares[..., 1], m[..., 1, 2] + m[..., 2, 1],
                      m[..., 0, 2] - m[..., 2, 0]], axis=-1),
            np.stack([m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1], squares[..., 2],
                      m[..., 1, 0] - m[..., 0, 1]], axis=-1),
            np.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1],
                      squares[..., 3]], axis=-1),
        ],
        axis=-2,
    )  # fmt: skip
    best = squares.argmax(axis=-1)
    chosen = np.take_along_axis(candidates, best[..., None, None], axis=-2)[..., 0, :]
    return chosen / np.linalg.norm(chosen, axis=-1, keepdims=True)
