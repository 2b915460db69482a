"""Motors as they are: commands that arrive late, lag, saturate, are quantised and are scaled by a wrong constant.

Batched over robots and exact between commands: delay and first-order lag are linear in the last commands, so the mean
torque of every substep of a policy period is one matrix product, prepared once a trial. Bullet holds a torque for a
substep, and its mean gives the same impulse as the lagging torque.
`n` robots, `A` acting joints, `S` substeps, `H` commands remembered.
"""

from __future__ import annotations

import numpy as np

from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.dynamics import DynamicsRange
from sim.quantisation import Grid

NO_LAG = 1e-6  # s, a time constant that is as good as none


class Actuator:
    """Commanded torque → torque that acts, for `lanes` robots."""

    def __init__(
        self, spec: RobotSpec, ranges: DynamicsRange, lanes: int, substeps: int, state_age: float = 0.0
    ) -> None:
        """`state_age` s is how old the state is that a command answers; it adds to the latency."""
        self.state_age = state_age
        self.ranges, self.substeps, self.period = ranges, substeps, spec.period.policy
        self.limit = spec.joint_values("torque_limit")[spec.acting]  # (A,) N·m
        names = [list(spec.joints)[i] for i in spec.acting]
        self._grid = Grid.of("joint_torque", [spec.joints[name].motor for name in names])
        self._column = {name: i for i, name in enumerate(names)}
        latest = [p.test[1] for p in ranges.parameters.values() if p.apply == "latency"]
        self.history = 2 + int(np.ceil((state_age + max(latest, default=0.0)) / self.period))  # H
        self.commands = np.zeros((lanes, self.history, len(names)))  # newest first, N·m
        self.torque = np.zeros((lanes, len(names)))  # N·m at the motor, before the torque constant
        self.set_dynamics(np.tile(ranges.nominal, (lanes, 1)))

    def set_dynamics(self, dynamics: Array) -> None:
        """New hidden parameters (n, P)."""
        n, joints = len(dynamics), len(self.limit)
        latency = np.full(n, self.state_age)
        lag, self.scale = np.full((n, joints), NO_LAG), np.ones((n, joints))
        for parameter, value in zip(self.ranges.parameters.values(), dynamics.T, strict=True):
            if parameter.apply == "latency":
                latency = latency + value
            elif parameter.apply == "torque_response" and parameter.joint in self._column:
                lag[:, self._column[parameter.joint]] = np.maximum(value, NO_LAG)
            elif parameter.apply == "torque_scale" and parameter.joint in self._column:
                self.scale[:, self._column[parameter.joint]] = value
        self._prepare(latency, lag[..., None])

    def _prepare(self, latency: Array, lag: Array) -> None:
        """Weights of commands and of the last torque in S mean torques and, last, in the torque at the period's end."""
        edges = np.linspace(0, self.period, self.substeps + 1)  # s
        begins = np.clip(latency[:, None] - self.period * np.arange(self.history), 0, None)  # (n, H) s, of each command
        begins[:, -1] = 0  # the oldest remembered stands for all before it
        since = np.maximum(edges[:, None] - begins[:, None, None, :], 0)  # (n, 1, S+1, H) s in effect
        lag4 = lag[..., None]
        decayed = 1 - np.exp(-since / lag4)  # (n, A, S+1, H) step response
        means = np.diff(since - lag4 * decayed, axis=2) * (self.substeps / self.period)
        steps = np.concatenate([means, decayed[:, :, -1:]], axis=2)
        # A command acts until its successor begins: what that one adds is what this one loses.
        self._from_commands = np.diff(steps, axis=-1, prepend=0)  # (n, A, S+1, H)
        left = np.exp(-edges / lag)  # (n, A, S+1)
        decays = -np.diff(left, axis=-1) * lag * (self.substeps / self.period)
        self._from_torque = np.concatenate([decays, left[..., -1:]], axis=-1)  # (n, A, S+1)

    def reset(self) -> None:
        """Motors at rest, nothing on its way."""
        self.commands[...] = 0
        self.torque[...] = 0

    def torques(self, command: Array) -> Array:
        """Mean torque at the joints in each substep, (S, n, A) N·m, after a new command (n, A) N·m."""
        self.commands[:, 1:] = self.commands[:, :-1]
        self.commands[:, 0] = self._grid.round(np.clip(command, -self.limit, self.limit))
        history = self.commands.transpose(0, 2, 1)[..., None]  # (n, A, H, 1)
        motor = (self._from_commands @ history)[..., 0] + self._from_torque * self.torque[..., None]
        self.torque[...] = motor[..., -1]
        return (motor[..., :-1] * self.scale[..., None]).transpose(2, 0, 1)
