"""Clocks of a control loop: the monotonic one of a robot, and a virtual one on which tests and mass evaluation run."""

from __future__ import annotations

import time as _time
from typing import Protocol

SPIN = 50e-6  # s, the kernel's default timer slack: a sleep ends about this much late, so the rest is spun


class Clock(Protocol):
    """Time in s from an arbitrary start that never goes back, and absolute deadlines on it."""

    def now(self) -> float:
        """The time, s."""

    def sleep_until(self, time: float) -> None:
        """Return at `time`, s, or at once when it has passed."""


class MonotonicClock:
    """Real time: `time.monotonic`, which no clock adjustment moves. Deadlines are absolute, so errors do not add up."""

    def now(self) -> float:
        return _time.monotonic()

    def sleep_until(self, time: float) -> None:
        while (remaining := time - _time.monotonic()) > SPIN:
            _time.sleep(remaining - SPIN)
        while _time.monotonic() < time:
            pass


class VirtualClock:
    """Time that passes only when somebody sleeps: a sleep ends at once, with the clock at its deadline."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def sleep_until(self, time: float) -> None:
        self._now = max(self._now, time)
