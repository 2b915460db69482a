"""What travels between a controller and a robot: joint states, joint commands and the protocol of a driver.

`J` is the number of joints, in the order of the spec. Everything is on the joint side (after sign and offset of the
motor) and in SI units; a driver converts to what its motors speak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class StaleState(RuntimeError):
    """No fresh state arrived in time. Names the joints that did not answer and for how long, s."""


class DriverError(RuntimeError):
    """The robot cannot be reached or refuses: names the bus, the channel or the joint and what to do."""


@dataclass(frozen=True)
class JointState:
    """One reading of all joints."""

    time: float  # s, on the clock of the loop (monotonic)
    position: Array  # (J,) rad
    velocity: Array  # (J,) rad/s
    torque: Array  # (J,) N·m, as the motors report it
    imu: Array | None = None  # (10,) quaternion xyzw, angular velocity rad/s, acceleration m/s²


@dataclass(frozen=True)
class JointCommand:
    """One command to all joints: torque + kp·(position − q) + kd·(velocity − q̇), as the motors compute it."""

    position: Array  # (J,) rad
    velocity: Array  # (J,) rad/s
    kp: Array  # (J,) N·m/rad
    kd: Array  # (J,) N·m·s/rad
    torque: Array  # (J,) N·m

    @staticmethod
    def of_torque(torque: Array) -> JointCommand:
        """A pure torque command, (J,) N·m."""
        zero = np.zeros_like(torque)
        return JointCommand(zero, zero, zero, zero, torque)

    @staticmethod
    def damped(kd: Array) -> JointCommand:
        """The safe command: no torque but what opposes motion, (J,) N·m·s/rad."""
        zero = np.zeros_like(kd)
        return JointCommand(zero, zero, zero, kd, zero)


class RobotIO(Protocol):
    """A robot as the loop sees it. Every driver passes `tests/hardware_io/driver_contract.py`."""

    def open(self) -> None:
        """Connect and listen; sends no enable. Raises DriverError."""

    def enable(self) -> None:
        """Let the motors act, damped. Raises DriverError when a joint does not answer."""

    def read(self, timeout: float) -> JointState:
        """The newest state of all joints, waiting at most `timeout` s. Raises StaleState."""

    def write(self, command: JointCommand) -> JointCommand:
        """Send a command; returns what was sent after quantisation. Raises DriverError."""

    def stop(self) -> None:
        """Damp, then disable and disconnect. Idempotent, never raises, also when the bus is gone."""


@runtime_checkable
class Pollable(Protocol):
    """A driver that can ask for a state without enabling anything: for dry runs and for `monitor`."""

    def poll(self) -> None:
        """Ask for a state that the next `read` returns. Raises DriverError."""
