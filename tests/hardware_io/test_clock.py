"""Clocks: deadlines are absolute, and virtual time passes by sleeping alone."""

from __future__ import annotations

from hardware_io.clock import MonotonicClock, VirtualClock


def test_monotonic_deadlines_do_not_drift() -> None:
    clock = MonotonicClock()
    start = clock.now()
    for k in range(20):
        clock.sleep_until(start + (k + 1) * 0.002)
        assert clock.now() >= start + (k + 1) * 0.002  # never early, however late the one before was
    begin = clock.now()
    clock.sleep_until(begin - 1000.0)
    assert clock.now() - begin < 500.0  # what has passed is not slept for


def test_virtual_time_passes_by_sleeping() -> None:
    clock = VirtualClock(3.0)
    assert clock.now() == 3.0
    clock.sleep_until(1000.0)
    clock.sleep_until(5.0)
    assert clock.now() == 1000.0
