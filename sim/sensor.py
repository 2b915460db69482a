"""What a robot senses of itself: noise, the codes of the bus, channels in order. `n` robots, `O` observation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.dynamics import DynamicsRange
from sim.quantisation import CODED, Grid


class Sensor:
    """True joint states → observation, for `lanes` robots."""

    def __init__(self, spec: RobotSpec, ranges: DynamicsRange, lanes: int) -> None:
        self.ranges, self.slices = ranges, spec.channel_slices()
        names, motors = list(spec.joints), [joint.motor for joint in spec.joints.values()]
        self.channels = [
            (c.source, self.slices[c.name], [names.index(j) for j in c.joints] or list(range(len(names))))
            for c in spec.channels
        ]
        size = spec.observation_size
        scale, offset, levels = np.ones(size), np.zeros(size), np.zeros(size)
        for source, where, joints in self.channels:
            if source in CODED:
                grid = Grid.of(source, [motors[j] for j in joints])
                scale[where], offset[where], levels[where] = grid.scale, grid.offset, grid.levels
        self._coded = levels > 0  # (O,) what travels over the bus; the rest is exact
        self._grid = Grid(scale, offset, levels)
        self.noise = np.zeros((lanes, spec.observation_size))  # standard deviation

    def set_dynamics(self, dynamics: Array) -> None:
        """New hidden parameters (n, P)."""
        self.noise[...] = 0
        for parameter, value in zip(self.ranges.parameters.values(), dynamics.T, strict=True):
            if parameter.apply == "sensor_noise":
                self.noise[:, self.slices[parameter.channel]] = value[:, None]

    def observe(
        self,
        position: Array,
        velocity: Array,
        torque: Array,
        reward: Array,
        rollout_start: bool,
        rng: np.random.Generator,
        out: NDArray[np.float32],
    ) -> None:
        """Write the observation (n, O) of positions, velocities and motor torques (n, J) and last rewards (n,)."""
        values = np.empty(out.shape)
        for source, where, joints in self.channels:
            if source == "joint_position":
                values[:, where] = position[:, joints]
            elif source == "joint_velocity":
                values[:, where] = velocity[:, joints]
            elif source == "joint_torque":
                values[:, where] = torque[:, joints]
            elif source == "previous_reward":
                values[:, where] = reward[:, None]
            else:
                values[:, where] = float(rollout_start)
        values += self.noise * rng.standard_normal(values.shape, dtype=np.float32)
        out[...] = np.where(self._coded, self._grid.round(values), values)
