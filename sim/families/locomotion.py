"""Many walking robots in PyBullet, and the block of tasks around them.

Torques are held over a policy period, so Bullet does its substeps by itself: one call each to command and to step, and
few to read, a lane and policy period. `n` robots, `J` joints of which `A` have motors.
"""

from __future__ import annotations

import numpy as np

from sim.bullet import pybullet
from sim.families.mjcf import Model

GRAVITY = 9.81  # m/s²
PERIOD = 0.05  # s, 5 frames of 0.01 s in Gymnasium's HalfCheetah and Ant
ROBOTS_PER_WORLD = 8
SOLVER_ITERATIONS = 10
ROBOT, GROUND = 2, 1  # collision groups: robots pass through each other and, as in MuJoCo, through themselves
FASTEST = 90.0  # m/s or rad/s: Bullet cuts velocities off at 100, so whoever is faster has broken out of the solver


class Walkers:
    """`lanes` robots on flat ground, all at the origin of a world: they do not touch each other."""

    def __init__(self, model: Model, motors: tuple[str, ...], lanes: int, substeps: int) -> None:
        self.model, self.lanes, self.joints = model, lanes, len(model.links)
        self.motors = [model.joints.index(name) for name in motors]
        self.position, self.velocity = np.zeros((lanes, self.joints)), np.zeros((lanes, self.joints))  # (n, J)
        # Of a base that floats, (n, 13): position m, quaternion xyzw, velocity m/s, angular velocity rad/s in the world
        self.base = np.zeros((lanes, 13))
        self._worlds: list[tuple[int, list[int], int]] = []  # client, bodies, saved state
        for first in range(0, lanes, ROBOTS_PER_WORLD):
            self._worlds.append(self._build(min(ROBOTS_PER_WORLD, lanes - first), substeps))

    def _build(self, robots: int, substeps: int) -> tuple[int, list[int], int]:
        client = pybullet.connect(pybullet.DIRECT)
        pybullet.setGravity(0, 0, -GRAVITY, physicsClientId=client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=PERIOD, numSubSteps=substeps, numSolverIterations=SOLVER_ITERATIONS, physicsClientId=client
        )
        plane = pybullet.createCollisionShape(pybullet.GEOM_PLANE, physicsClientId=client)
        ground = pybullet.createMultiBody(0, plane, physicsClientId=client)
        pybullet.changeDynamics(ground, -1, lateralFriction=1.0, physicsClientId=client)
        pybullet.setCollisionFilterGroupMask(ground, -1, GROUND, ROBOT, physicsClientId=client)
        bodies = [self._create(client) for _ in range(robots)]
        return client, bodies, pybullet.saveState(physicsClientId=client)

    def _create(self, client: int) -> int:
        base, links = self.model.base, self.model.links
        inertials = [link.inertial() for link in links]
        frames = [_principal(inertia) for _, _, inertia in inertials]
        whole = (0.0, np.zeros(3), np.zeros((3, 3))) if base is None else base.inertial()
        body = pybullet.createMultiBody(
            baseMass=whole[0],
            baseCollisionShapeIndex=-1 if base is None else _shape(client, base),
            linkMasses=[mass for mass, _, _ in inertials],
            linkCollisionShapeIndices=[_shape(client, link) for link in links],
            linkVisualShapeIndices=[-1] * len(links),
            linkPositions=[link.position.tolist() for link in links],
            linkOrientations=[[0, 0, 0, 1]] * len(links),
            linkInertialFramePositions=[centre.tolist() for _, centre, _ in inertials],
            linkInertialFrameOrientations=[orientation for _, orientation in frames],
            linkParentIndices=[link.parent + 1 for link in links],
            linkJointTypes=[pybullet.JOINT_PRISMATIC if link.slides else pybullet.JOINT_REVOLUTE for link in links],
            linkJointAxis=[link.axis.tolist() for link in links],
            physicsClientId=client,
        )
        everything = [(-1, base, np.diag(whole[2]).tolist())] if base is not None else []
        everything += [(j, link, frames[j][0]) for j, link in enumerate(links)]
        for index, link, moments in everything:
            pybullet.setCollisionFilterGroupMask(body, index, ROBOT, GROUND, physicsClientId=client)
            pybullet.changeDynamics(
                body, index, linearDamping=0, angularDamping=0, lateralFriction=FRICTION, physicsClientId=client
            )
            # Calls of their own: beside the keys above Bullet ignores a joint's damping and sets the inertia to zero.
            pybullet.changeDynamics(
                body, index, localInertiaDiagonal=moments, jointDamping=link.damping, physicsClientId=client
            )
            if link.limits is not None:
                low, high = link.limits
                pybullet.changeDynamics(body, index, jointLowerLimit=low, jointUpperLimit=high, physicsClientId=client)
        for joint in range(self.joints):  # Bullet's default motor would hold it
            pybullet.setJointMotorControl2(body, joint, pybullet.VELOCITY_CONTROL, force=0, physicsClientId=client)
        return int(body)
