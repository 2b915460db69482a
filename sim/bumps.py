"""Knocks: torques that nobody commanded, as short bells in time, on joints that act. `n` robots, `A` acting joints."""

from __future__ import annotations

import numpy as np

from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.dynamics import DynamicsRange

COUNT = 3  # bells in a rollout
WIDTH = (0.05, 0.1)  # s, standard deviation of a bell
LEAST = 0.1  # of the greatest height


class Bumps:
    """Of `lanes` robots whose parameter `torque_bumps` is the greatest height, N·m; drawn anew for each rollout.

    The perturbations of the RealAIGym leaderboard's robustness score are of this kind: three in a run.
    """

    def __init__(self, spec: RobotSpec, ranges: DynamicsRange, lanes: int, steps: int, substeps: int) -> None:
        names = [list(spec.joints)[i] for i in spec.acting]
        self.column = {name: i for i, name in enumerate(names)}
        self.ranges, self.period, self.steps = ranges, spec.period.policy, steps
        self.height = np.zeros((lanes, len(names)))
        self._middle = (np.arange(substeps) + 0.5) / substeps * self.period  # s, of each substep
        self._bells = np.zeros((3, lanes, len(names), COUNT))  # height N·m, centre s, width s

    def set_dynamics(self, dynamics: Array) -> None:
        """New hidden parameters (n, P)."""
        self.height[...] = 0
        for parameter, value in zip(self.ranges.parameters.values(), dynamics.T, strict=True):
            if parameter.apply == "torque_bumps":
                self.height[:, self.column[parameter.joint]] = value

    def reset(self, rng: np.random.Generator) -> None:
        """Draw those of a rollout."""
        shape = self._bells.shape[1:]
        sign = rng.choice([-1.0, 1.0], shape)
        self._bells[0] = sign * rng.uniform(LEAST, 1, shape) * self.height[..., None]
        self._bells[1] = rng.uniform(0, self.steps * self.period, shape)
        self._bells[2] = rng.uniform(*WIDTH, shape)

    def torques(self, step: int) -> Array:
        """In each substep of a policy step, (S, n, A) N·m."""
        height, centre, width = self._bells
        time = step * self.period + self._middle[:, None, None, None]
        return np.asarray((height * np.exp(-0.5 * ((time - centre) / width) ** 2)).sum(-1))
