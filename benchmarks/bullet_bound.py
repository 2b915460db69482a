"""What bare PyBullet could do at best: no motors, no sensors, no task, no learner.

One client a lane; one command, one step and one read a lane and substep, from Python, and nothing else. Beside it two
that do less: `step only`, and `read once`, which reads a lane once a policy step.
"""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection

import numpy as np

from hardware_io.spec import RobotSpec
from sim.bullet import pybullet
from sim.model import RigidModel
from sim.world import BulletWorld

VARIANTS = ("bound", "step only", "read once")


class BulletBound:
    """`lanes` worlds in `workers` processes. A context manager."""

    def __init__(self, spec: RobotSpec, lanes: int, workers: int, substeps: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, spec, lanes // workers, substeps), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self.run("bound", 1)

    def run(self, variant: str, steps: int) -> None:
        """`steps` policy steps of all lanes in all processes at once."""
        for pipe in self._pipes:
            pipe.send((variant, steps))
        for pipe in self._pipes:
            pipe.recv()

    def __enter__(self) -> BulletBound:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)


def _work(pipe: Connection, spec: RobotSpec, lanes: int, substeps: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    model = RigidModel(spec)
    bodies, friction = model.bodies(model.ranges.nominal[None]), np.zeros((1, len(spec.joints)))
    worlds = [BulletWorld(model, 1, spec.period.policy / substeps) for _ in range(lanes)]
    for world in worlds:
        world.build(bodies, friction, friction)
    robots = [robot for world in worlds for robot in world.robots]
    try:
        while True:
            variant, steps = pipe.recv()
            _run(robots, len(spec.joints), spec.acting[0], variant, steps, substeps)
            pipe.send(None)
    except EOFError:
        for world in worlds:
            world.close()


def _run(robots: list[tuple[int, int]], joints: int, acting: int, variant: str, steps: int, substeps: int) -> None:
    control, step, mode = pybullet.setJointMotorControl2, pybullet.stepSimulation, pybullet.TORQUE_CONTROL
    one, every, all_joints = pybullet.getJointState, pybullet.getJointStates, list(range(joints))
    for number in range(steps):
        torque = 0.1 if number % 2 else -0.1  # N·m
        for substep in range(substeps):
            for client, body in robots:
                if variant != "step only":
                    control(body, acting, mode, force=torque, physicsClientId=client)
                step(client)
                if variant == "bound" or (variant == "read once" and substep == substeps - 1):
                    if joints == 1:
                        one(body, 0, client)
                    else:
                        every(body, all_joints, client)
