"""Swing a planar chain of joints from hanging to a commanded pose, upright unless told, stop and hold it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError, build, option
from hardware_io.spec import RobotSpec
from hardware_io.state import Array

MOST = 400.0  # rad²/s² that a rollout is charged for: what spins faster than this is about to end anyway


@dataclass(frozen=True)
class SwingUpParameters:
    """When a rollout ends and what counts as success."""

    duration: float = option(5.0, unit="s", min=0.1)
    goal: str = option("upright", help="the pose, by its name among the robot's")
    hold: float = option(1.0, unit="s", min=0.0, help="the last part of a rollout, in which it must stay there")
    position_tolerance: float = option(0.12, unit="rad", min=1e-3, help="of each joint, mean over the hold")
    velocity_tolerance: float = option(0.6, unit="rad/s", min=1e-3, help="of each joint, root mean square in the hold")
    effort: float = option(0.01, min=0.0, help="cost of a command at its limit, of at most 1 reward a step")
    change: float = option(0.0, min=0.0, help="cost of a command that rises from 0 to its limit within a step")
    speed: float = option(0.0, min=0.0, unit="s²/rad²", help="cost of velocity squared, summed over joints up to 400")
    thrown: float = option(4.0, min=0.0, unit="rad/s", help="fastest joint in starts anywhere")


class SwingUp:
    """How high, how near, how exactly at the goal, at most 1 a step, less what effort, changes of it and speed cost.

    Rollouts end beyond the limits of the joints.
    """

    def __init__(self, spec: RobotSpec, parameters: SwingUpParameters) -> None:
        self.parameters, self.pose = parameters, parameters.goal
        self.steps = round(parameters.duration / spec.period.policy)
        self.hold_steps = max(1, round(parameters.hold / spec.period.policy))
        for pose in ("hanging", self.pose):
            if pose not in spec.poses:
                raise ConfigError(spec.source, "poses", list(spec.poses), f"a pose named {pose!r}")
        self.hanging, self.goal = np.array(spec.poses["hanging"]), np.array(spec.poses[self.pose])
        self.limits, self.max_velocity = spec.position_limits, spec.joint_values("velocity_limit")
        self.action_limit = spec.action_limit
        slices = spec.channel_slices()
        found = {c.source: slices[c.name] for c in spec.channels if not c.joints}
        for source in ("joint_position", "joint_velocity"):
            if source not in found:
                raise ConfigError(spec.source, "channels", list(slices), f"a channel {source} of all joints")
        self._position, self._velocity = found["joint_position"], found["joint_velocity"]

    @classmethod
    def of(cls, spec: RobotSpec, parameters: dict[str, Any]) -> SwingUp:
        """Raises ConfigError naming the parameter."""
        return cls(spec, build(SwingUpParameters, parameters, spec.source, "tasks.swing_up"))

    def reset(self, n: int, rng: np.random.Generator, anywhere: float) -> tuple[Array, Array]:
        """Hanging within 0.05 rad and 0.05 rad/s; a share `anywhere` at any angle, half of it near the goal.

        How near is drawn for each: what a robot can hold differs, and with room at 0.4 rad few acrobots can be held.
        """
        position = self.hanging + rng.uniform(-0.05, 0.05, (n, len(self.hanging)))
        velocity = rng.uniform(-0.05, 0.05, position.shape)
        kind = rng.uniform(size=n)
        wide = kind < anywhere
        near = kind < anywhere / 2
        position[wide] = self.goal + rng.uniform(-np.pi, np.pi, position.shape)[wide]
        thrown = self.parameters.thrown
        velocity[wide] = rng.uniform(-thrown, thrown, position.shape)[wide]
        room = rng.uniform(size=(n, 1))
        position[near] = self.goal + (room * rng.uniform(-0.4, 0.4, position.shape))[near]
        velocity[near] = (room * rng.uniform(-1, 1, position.shape))[near]
        return np.clip(position, self.limits[:, 0] + 0.2, self.limits[:, 1] - 0.2), velocity

    def reward(
        self,
        observation: NDArray[Any],
        action: NDArray[Any],
        next_observation: NDArray[Any],
        previous_action: NDArray[Any],
    ) -> Array:
        error = self.error(next_observation)
        velocity = next_observation[..., self._velocity]
        far = np.cumsum(error, axis=-1)  # of each link from its direction in the goal, rad
        height = (1 + np.cos(far)).mean(-1) / 2
        squared, speed = (error**2).sum(-1), (velocity**2).sum(-1)
        tolerance = 2 * self.parameters.position_tolerance**2
        near = np.exp(-squared - 0.02 * speed)
        close = np.exp(-squared / (16 * tolerance) - 0.1 * speed)
        there = np.exp(-squared / tolerance - 0.2 * speed)
        effort = ((action / self.action_limit) ** 2).mean(-1)
        change = (((action - previous_action) / self.action_limit) ** 2).mean(-1)
        cost = self.parameters
        spent = cost.effort * effort + cost.change * change + cost.speed * np.minimum(speed, MOST)
        return np.asarray(0.2 * height + 0.2 * near + 0.3 * close + 0.3 * there - spent)

    def terminated(self, observation: NDArray[Any]) -> NDArray[np.bool_]:
        position, velocity = observation[..., self._position], observation[..., self._velocity]
        beyond = (position < self.limits[:, 0]) | (position > self.limits[:, 1])
        return np.asarray((beyond | (np.abs(velocity) > self.max_velocity)).any(-1))

    def success(self, observation: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        held = observation[..., -self.hold_steps :, :]
        error = np.abs(self.error(held)).mean(-2) <= self.parameters.position_tolerance
        speed = np.sqrt((held[..., self._velocity] ** 2).mean(-2)) <= self.parameters.velocity_tolerance
        return np.asarray(error.all(-1) & speed.all(-1) & valid.all(-1))

    def error(self, observation: NDArray[Any]) -> Array:
        """Joint positions minus the goal, the short way round, (..., J) rad."""
        difference = observation[..., self._position] - self.goal
        return np.asarray((difference + np.pi) % (2 * np.pi) - np.pi)
