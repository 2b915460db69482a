"""What a value becomes on its way over the bus: the codes of `hardware_io.mit_protocol`, batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hardware_io.mit_protocol import LEVELS_12, LEVELS_16
from hardware_io.spec import Motor
from hardware_io.state import Array

# what is coded → (attribute of the motor that holds its range, codes but one, whether the motor's offset counts)
CODED = {
    "joint_position": ("position_range", LEVELS_16, True),
    "joint_velocity": ("velocity_range", LEVELS_12, False),
    "joint_torque": ("torque_range", LEVELS_12, False),
}


@dataclass(frozen=True)
class Grid:
    """The values, on the joint side, that can be told apart on the bus; `K` values of one or several kinds.

    They are offset - range + k · step, so that zero is not among them: it becomes the one just above, seen from the
    motor. Rounds and saturates exactly as `MotorCodec` does.
    """

    scale: Array  # (K,) codes per unit, negative where the motor turns the other way
    offset: Array  # (K,) on the joint side
    levels: Array  # (K,) the highest code

    @staticmethod
    def of(source: str, motors: Sequence[Motor]) -> Grid:
        """The grid of one kind of value, a key of `CODED`, for a motor each."""
        attribute, levels, shifted = CODED[source]
        scale = [motor.sign * (levels / (2 * getattr(motor, attribute))) for motor in motors]
        offset = [motor.offset if shifted else 0.0 for motor in motors]
        return Grid(np.array(scale), np.array(offset), np.full(len(motors), float(levels)))

    def round(self, values: Array) -> Array:
        """The nearest values on the grid, (..., K)."""
        code = (values - self.offset) * self.scale
        code += (self.levels + 1) / 2
        np.floor(code, out=code)
        np.clip(code, 0, self.levels, out=code)
        code -= self.levels / 2
        code /= self.scale
        code += self.offset
        return np.asarray(code)
