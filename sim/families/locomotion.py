"""Many walking robots in PyBullet, and the block of tasks around them.

Where joints have no springs, the state is read once a policy step and not every substep. `n` robots, `J` joints of
which `A` have motors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from hardware_io.state import Array
from sim.bullet import pybullet
from sim.families.mjcf import Link, Model
from sim.world import quaternion

GRAVITY = 9.81  # m/s²
PERIOD = 0.05  # s, 5 frames of 0.01 s in Gymnasium's HalfCheetah and Ant
SOLVER_ITERATIONS = 10
FASTEST = 90.0  # m/s or rad/s: Bullet cuts velocities off at 100, so whoever is faster has broken out of the solver


class Walkers:
    """`lanes` robots on flat ground, each in a Bullet world of its own, which takes 11 MB.

    Several in one world would take less, but eight half-cheetahs cost 1.2 times as much a substep and eight ants 1.4
    times, and what breaks one would break them all.
    """

    def __init__(self, model: Model, lanes: int, substeps: int) -> None:
        self.model, self.joints, self.substeps = model, len(model.links), substeps
        self.motors = [model.joints.index(name) for name in model.gear]
        self.springs = [model.links[joint].stiffness for joint in self.motors]  # N·m/rad; other joints have none
        self.position, self.velocity = np.zeros((lanes, self.joints)), np.zeros((lanes, self.joints))  # (n, J)
        # Of a base that floats, (n, 13): position m, quaternion xyzw, velocity m/s, angular velocity rad/s in the world
        self.base = np.zeros((lanes, 13))
        self._worlds = [self._build() for _ in range(lanes)]

    def _build(self) -> tuple[int, int, int]:
        """Client, body and saved state of a new world."""
        client = pybullet.connect(pybullet.DIRECT)
        pybullet.setGravity(0, 0, -GRAVITY, physicsClientId=client)
        # Not `numSubSteps`: Bullet computes the damping of joints once a call, and over a policy step that explodes.
        # Split impulses do not push a joint back that a motor has driven beyond its limit: it would creep on and on.
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=PERIOD / self.substeps,
            numSolverIterations=SOLVER_ITERATIONS,
            useSplitImpulse=0,
            physicsClientId=client,
        )
        plane = pybullet.createCollisionShape(pybullet.GEOM_PLANE, physicsClientId=client)
        ground = pybullet.createMultiBody(0, plane, physicsClientId=client)
        pybullet.changeDynamics(ground, -1, lateralFriction=1.0, physicsClientId=client)
        body = self._create(client)
        return client, body, int(pybullet.saveState(physicsClientId=client))

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
        # A base that floats, the torso of an ant, is symmetric: its axes are the principal ones.
        everything = [(-1, base, np.diag(whole[2]).tolist())] if base is not None else []
        everything += [(j, link, frames[j][0]) for j, link in enumerate(links)]
        for index, link, moments in everything:
            pybullet.changeDynamics(
                body,
                index,
                linearDamping=0,
                angularDamping=0,
                lateralFriction=self.model.friction,
                physicsClientId=client,
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

    def place(self, position: Array, velocity: Array, base: Array) -> None:
        """Begin anew at joints (n, J) rad or m and their velocities, and at bases (n, 13).

        The worlds are put back to when they were built, so that nothing that Bullet remembers, of contacts for example,
        lets a rollout depend on those before it.
        """
        self.position[...], self.velocity[...], self.base[...] = position, velocity, base
        for lane, (client, _, state) in enumerate(self._worlds):
            pybullet.restoreState(state, physicsClientId=client)
            self._put(lane)

    def rescue(self, lane: int, position: Array, base: Array) -> None:
        """Put one robot to rest at joints (J,) and base (13,) in the middle of a rollout.

        In a new world: Bullet's collision detection never forgets a position that is not a number.
        """
        self.position[lane], self.velocity[lane], self.base[lane] = position, 0.0, base
        pybullet.disconnect(self._worlds[lane][0])
        self._worlds[lane] = self._build()
        self._put(lane)

    def _put(self, lane: int) -> None:
        client, body, _ = self._worlds[lane]
        if self.model.base is not None:
            base = self.base[lane].tolist()
            pybullet.resetBasePositionAndOrientation(body, base[:3], base[3:7], physicsClientId=client)
            pybullet.resetBaseVelocity(body, base[7:10], base[10:], physicsClientId=client)
        for joint, (q, v) in enumerate(zip(self.position[lane].tolist(), self.velocity[lane].tolist(), strict=True)):
            pybullet.resetJointState(body, joint, q, v, physicsClientId=client)

    def advance(self, torque: Array) -> None:
        """One policy period under torques (n, A) N·m; then `position`, `velocity` and `base` are read."""
        command, step, read = pybullet.setJointMotorControlArray, pybullet.stepSimulation, pybullet.getJointStates
        pose, speed = pybullet.getBasePositionAndOrientation, pybullet.getBaseVelocity
        mode, motors, joints, substeps = pybullet.TORQUE_CONTROL, self.motors, range(self.joints), range(self.substeps)
        springs, sprung, floats = self.springs, any(self.springs), self.model.base is not None
        q, v, base = [], [], []
        for (client, body, _), forces in zip(self._worlds, torque.tolist(), strict=True):
            for _ in substeps:
                total = forces
                if sprung:  # Bullet has no springs
                    states = zip(forces, springs, read(body, motors, client), strict=True)
                    total = [force - stiffness * state[0] for force, stiffness, state in states]
                command(body, motors, mode, forces=total, physicsClientId=client)
                step(client)
            states = read(body, joints, client)
            q.append([state[0] for state in states])
            v.append([state[1] for state in states])
            if floats:
                (position, orientation), (linear, angular) = pose(body, client), speed(body, client)
                base.append(position + orientation + linear + angular)
        self.position[...], self.velocity[...] = q, v
        if floats:
            self.base[...] = base

    def close(self) -> None:
        """Free the worlds. Idempotent."""
        while self._worlds:
            pybullet.disconnect(self._worlds.pop()[0])


def _principal(inertia: Array) -> tuple[list[float], list[float]]:
    """Principal moments (3,) of an inertia (3, 3) and the orientation xyzw of their axes."""
    moments, frame = np.linalg.eigh(inertia)
    frame[:, 0] *= np.linalg.det(frame)  # a rotation, not a reflection
    return moments.tolist(), quaternion(frame).tolist()


def _shape(client: int, link: Link) -> int:
    """The collision shape of a link, -1: none."""
    if not link.capsules:
        return -1
    sphere, capsule = pybullet.GEOM_SPHERE, pybullet.GEOM_CAPSULE
    return int(
        pybullet.createCollisionShapeArray(
            shapeTypes=[capsule if part.length else sphere for part in link.capsules],
            radii=[part.radius for part in link.capsules],
            lengths=[part.length for part in link.capsules],
            collisionFramePositions=[part.centre.tolist() for part in link.capsules],
            collisionFrameOrientations=[quaternion(part.rotation).tolist() for part in link.capsules],
            physicsClientId=client,
        )
    )


class Locomotion(ABC):
    """`n` walking robots with a task each, in batched numpy around Bullet. A task's hidden parameters are (P,)."""

    standing: tuple[Array, Array]  # joints (J,) and base (13,) of a robot that stands

    def __init__(self, model: Model, lanes: int, substeps: int, nominal: tuple[float, ...]) -> None:
        """`nominal` parameters (P,)."""
        self.walkers = Walkers(model, lanes, substeps)
        self.limit = np.array(list(model.gear.values()))  # (A,) N·m
        self.dynamics = np.tile(nominal, (lanes, 1))  # (n, P)
        self.reward, self.terminated = np.zeros(lanes), np.zeros(lanes, bool)
        self.lost = 0  # rollouts that ended because a command or the simulation had failed
        self.rng = np.random.default_rng(0)

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: tasks with hidden parameters (n, P)."""
        self.dynamics[...] = dynamics

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout near the standing pose, `anywhere` makes no difference; returns observations (n, O)."""
        self.rng = rng
        self.walkers.place(*self.start(rng))
        self.reward[...] = 0
        self.terminated[...] = False
        return self.observe()

    def step(self, command: Array) -> NDArray[np.float32]:
        """One policy period under torques (n, A) N·m, clipped to what the motors give; returns observations (n, O).

        A robot whose rollout has ended goes on without torque. A command that is not finite ends a rollout with reward
        0; so does a state that is not or that is absurdly fast, and the robot is put back to where robots stand.
        """
        sound = np.isfinite(command).all(axis=1)
        share = np.where((sound & ~self.terminated)[:, None], np.clip(command / self.limit, -1.0, 1.0), 0.0)
        before = self.where().copy()
        self.walkers.advance(share * self.limit)
        wild = self._wild()
        for lane in np.flatnonzero(wild).tolist():
            self.walkers.rescue(lane, *self.standing)
        self.lost += int(((wild | ~sound) & ~self.terminated).sum())
        ended = self.terminated | wild | ~sound
        self.reward[...] = np.where(ended, 0.0, self.score(share, (self.where() - before) / PERIOD))
        self.terminated[...] = ended | self.fallen()
        return self.observe()

    def close(self) -> None:
        """Free the Bullet worlds. Idempotent."""
        self.walkers.close()

    def _wild(self) -> NDArray[np.bool_]:
        state = np.concatenate([self.walkers.position, self.walkers.base[:, :7]], axis=1)
        speed = np.concatenate([self.walkers.velocity, self.walkers.base[:, 7:]], axis=1)
        with np.errstate(invalid="ignore"):
            return ~(np.isfinite(state).all(axis=1) & (np.abs(speed) < FASTEST).all(axis=1))

    @abstractmethod
    def start(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Joints and their velocities (n, J) and bases (n, 13) at the start of a rollout."""

    @abstractmethod
    def where(self) -> Array:
        """The way that the robots have come, (n, D) m."""

    @abstractmethod
    def score(self, share: Array, velocity: Array) -> Array:
        """Rewards (n,) for torques as shares of their limits (n, A) and mean velocities of the step, (n, D) m/s."""

    @abstractmethod
    def fallen(self) -> NDArray[np.bool_]:
        """Whether rollouts end here, (n,)."""

    @abstractmethod
    def observe(self) -> NDArray[np.float32]:
        """Observations (n, O)."""
