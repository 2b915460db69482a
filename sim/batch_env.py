"""Many robots with their motors, sensors and task in one process; everything but the Bullet calls is batched numpy.

A *trial* is several rollouts of robots whose hidden dynamics stay the same. `n` robots, `O` observation, `A` action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError, build, option
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.actuator import Actuator
from sim.bumps import Bumps
from sim.dynamics import DynamicsRange
from sim.model import RigidModel
from sim.sensor import Sensor
from sim.tasks import Task
from sim.world import BulletWorld


@dataclass(frozen=True)
class Physics:
    """How finely a policy period is simulated."""

    substeps: int = option(5, min=1, max=100, help="steps a policy period")


class BatchEnv:
    """`lanes` robots side by side."""

    def __init__(self, spec: RobotSpec, task: Task, lanes: int, substeps: int | None = None) -> None:
        if spec.command != "torque":
            raise ConfigError(spec.source, "command", spec.command, "torque, in simulation")
        self.spec, self.task, self.lanes = spec, task, lanes
        physics = build(Physics, spec.physics, spec.source, "physics")
        self.substeps = substeps or physics.substeps
        self.model = RigidModel(spec)
        self.ranges: DynamicsRange = self.model.ranges
        self.world = BulletWorld(self.model, lanes, spec.period.policy / self.substeps)
        # A motor answers a command with its state, so the loop sees the state of one I/O tick ago.
        self.actuator = Actuator(spec, self.ranges, lanes, self.substeps, state_age=spec.period.io)
        self.sensor = Sensor(spec, self.ranges, lanes)
        self.bumps = Bumps(spec, self.ranges, lanes, task.steps, self.substeps)
        self._steps = 0  # since the rollout began
        joints = len(spec.joints)
        self.position, self.velocity = np.zeros((lanes, joints)), np.zeros((lanes, joints))  # rad, rad/s
        self.torque = np.zeros((lanes, joints))  # N·m, as the motors report it
        self._command = np.zeros((lanes, spec.action_size))  # the last one, N·m
        self.reward, self.terminated = np.zeros(lanes), np.zeros(lanes, bool)
        self.observation = np.zeros((lanes, spec.observation_size), np.float32)
        self.rng = np.random.default_rng(0)
        self.set_dynamics(np.tile(self.ranges.nominal, (lanes, 1)))

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: robots with hidden parameters (n, P)."""
        viscous, coulomb = np.zeros_like(self.position), np.zeros_like(self.position)
        names = list(self.spec.joints)
        for parameter, value in zip(self.ranges.parameters.values(), dynamics.T, strict=True):
            if parameter.apply == "viscous_friction":
                viscous[:, names.index(parameter.joint)] += value
            elif parameter.apply == "coulomb_friction":
                coulomb[:, names.index(parameter.joint)] += value
        self.world.build(self.model.bodies(dynamics), viscous, coulomb)
        self.actuator.set_dynamics(dynamics)
        self.sensor.set_dynamics(dynamics)
        self.bumps.set_dynamics(dynamics)

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout; returns the observation (n, O). `rng` draws the start and the noise of this rollout."""
        self.rng = rng
        self.position[...], self.velocity[...] = self.task.reset(self.lanes, rng, anywhere)
        self.world.set_state(self.position, self.velocity)
        self.actuator.reset()
        if self.bumps.height.any():
            self.bumps.reset(rng)
        self._steps = 0
        self._command = np.zeros_like(self._command)
        self.torque[...] = 0
        self.reward[...] = 0
        self.terminated[...] = False
        return self._observe(rollout_start=True)

    def step(self, command: Array) -> NDArray[np.float32]:
        """One policy period under commands (n, A); sets `reward`, `terminated` and returns the observation (n, O).

        A robot whose rollout has terminated goes on without torque until the next reset.
        """
        command = np.where(self.terminated[:, None], 0.0, command)
        torques = self.actuator.torques(command)
        if self.bumps.height.any():
            torques = torques + self.bumps.torques(self._steps)
        self._steps += 1
        self.world.advance(torques, self.position, self.velocity)
        self.torque[:, self.spec.acting] = self.actuator.torque
        before = self.observation.copy()
        observation = self._observe(rollout_start=False)
        gained = self.task.reward(before, command, observation, self._command)
        self.reward[...] = np.where(self.terminated, 0.0, gained)
        self._command = command
        self.terminated |= self.task.terminated(observation)
        return observation

    def _observe(self, rollout_start: bool) -> NDArray[np.float32]:
        self.sensor.observe(
            self.position, self.velocity, self.torque, self.reward, rollout_start, self.rng, self.observation
        )
        return self.observation

    def close(self) -> None:
        """Free the Bullet worlds. Idempotent."""
        self.world.close()
