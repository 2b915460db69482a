"""When a tick is due, and what is done so that it begins on time."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from hardware_io.clock import Clock

PRIORITY = 50  # of 1 to 99, SCHED_FIFO: above ordinary work, below the kernel's own threads
LOCK_USED = 1 | 4  # MCL_CURRENT | MCL_ONFAULT: what is in memory stays, but nothing is loaded that nobody uses
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


class Grid:
    """Absolute deadlines at start + k · period: errors do not add up, and what was missed is skipped, not caught up."""

    def __init__(self, clock: Clock, period: float) -> None:
        self._clock, self._period = clock, period
        self._start, self._tick = clock.now(), -1

    def next(self) -> tuple[int, float, int]:
        """Sleep until the next grid point. Its number, when it was due in s, and how many were missed before it."""
        ahead = (self._clock.now() - self._start) / self._period
        following = self._tick + 1
        # a tick that begins less than a period late still counts: only grid points that have wholly passed are missed
        self._tick = max(following, math.floor(ahead + 1e-9))
        due = self._start + self._tick * self._period
        self._clock.sleep_until(due)
        return self._tick, due, self._tick - following


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection inside: what is alive is frozen, and the collector is as before afterwards."""
    enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


@contextmanager
def real_time() -> Iterator[str]:
    """First-in-first-out scheduling where the system allows it; yields what was reached, for the log."""
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except (AttributeError, OSError) as error:  # AttributeError: not Linux
        yield f"ordinary scheduling ({getattr(error, 'strerror', None) or sys.platform})"
        return
    try:
        locked = _libc("mlockall", LOCK_USED)
        yield f"SCHED_FIFO priority {PRIORITY}{', memory locked' if locked else ''}"
    finally:
        _libc("munlockall")
        with suppress(OSError):
            os.sched_setscheduler(0, *before)


def _libc(function: str, *arguments: int) -> bool:
    """Whether a call to the C library succeeded."""
    import ctypes

    return bool(getattr(ctypes.CDLL(None), function)(*arguments) == 0)


class Interruptions:
    """Ctrl-C and SIGTERM as exceptions, but never in the middle of an exchange with the robot."""

    def __init__(self) -> None:
        self._pending: type[BaseException] | None = None
        self._busy = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside; a thread other than the main one cannot, and leaves them as they are."""
        previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        with suppress(ValueError):
            for number in STOP_SIGNALS:
                previous[number] = signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that arrives inside raises KeyboardInterrupt or Terminated at the end."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._pending:
            pending, self._pending = self._pending, None
            raise pending

    def _handle(self, number: int, frame: FrameType | None) -> None:
        kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if not self._busy:
            raise kind
        self._pending = kind
