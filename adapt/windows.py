"""How well a model foresees real motion: stretches of a log, predicted open-loop from where they begin.

A window starts every 0.25 s and counts only where a joint moves by more than 0.5 rad. It starts at the measured
position with the slope of a straight line through the positions of the last 16 ms, or, where these are fewer than 3
rows, with the logged velocity. The torque between two rows is that measured in the later one. Its error is the root
mean square over rows and joints of predicted minus measured position. `T` rows, `J` joints, `W` windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError
from hardware_io.motion_log import MotionLog
from hardware_io.state import Array

LENGTH, STRIDE, MIN_MOTION, FIT = 0.5, 0.25, 0.5, 0.016  # s, s, rad, s
LEAST_ROWS = 5
MAX_STEP = 0.002  # s, of the integration
INVALID = 1e3  # rad, the error of a prediction that is not finite


@dataclass(frozen=True)
class Window:
    """One stretch: what a model is given, and what it is to foresee."""

    source: str
    position: Array  # (J,) rad at the start
    velocity: Array  # (J,) rad/s at the start
    time: Array  # (T,) s
    torque: Array  # (T, J) N·m, row k acts from time[k] to time[k+1]; the last is not used
    measured: Array  # (T, J) rad
    sloped: bool = True  # whether the velocity is the slope of positions, not the logged one


def windows(
    log: MotionLog, length: float = LENGTH, stride: float = STRIDE, motion: float = MIN_MOTION
) -> Iterator[Window]:
    """The windows of a log that count. `length` and `stride` in s, `motion` in rad."""
    t, q = log.time, log.position
    for start in np.arange(t[0] + FIT, t[-1] - length, stride):
        i, j = np.searchsorted(t, (start, start + length))
        if j - i < LEAST_ROWS or np.ptp(q[i:j], axis=0).max() < motion:
            continue
        past = np.searchsorted(t, t[i] - FIT)
        velocity, sloped = log.velocity[i], bool(i - past >= 2)
        if sloped:
            velocity = np.polyfit(t[past : i + 1] - t[i], q[past : i + 1], 1)[0]
        torque = np.vstack([log.torque[i + 1 : j], log.torque[j - 1 : j]])
        yield Window(log.source, q[i], velocity, t[i:j], torque, q[i:j], sloped)


def windows_of(logs: Iterable[MotionLog], length: float = LENGTH, stride: float = STRIDE) -> list[Window]:
    """The windows of several logs. Raises ConfigError when none moves enough."""
    logs = list(logs)
    found = [window for log in logs for window in windows(log, length, stride)]
    if not found:
        moved = max((float(np.ptp(log.position, axis=0).max()) for log in logs), default=0.0)
        source = logs[0].source if logs else "logs"
        raise ConfigError(
            source, "motion", round(moved, 4), f"a joint that moves by more than {MIN_MOTION} rad within {length} s"
        )
    return found


def thinned(window: Window, spacing: float) -> Window:
    """The same motion with rows at least `spacing` s apart, each torque the mean over its time; for fitting."""
    keep = [0]
    for row, time in enumerate(window.time):
        if time - window.time[keep[-1]] >= spacing - 1e-6:
            keep.append(row)
    if len(keep) < LEAST_ROWS:
        return window
    impulse = np.diff(window.time)[:, None] * window.torque[:-1]
    total = np.concatenate([np.zeros((1, impulse.shape[1])), np.cumsum(impulse, axis=0)])[keep]
    torque = np.diff(total, axis=0) / np.diff(window.time[keep])[:, None]
    return replace(
        window, time=window.time[keep], measured=window.measured[keep], torque=np.vstack([torque, torque[-1:]])
    )


class Batch:
    """Windows side by side, cut into steps of at most `longest` s; shorter ones rest at their end."""

    def __init__(self, found: Sequence[Window], longest: float = MAX_STEP) -> None:
        self.windows = list(found)
        self.position = np.stack([w.position for w in found], axis=-1)  # (J, W)
        self.velocity = np.stack([w.velocity for w in found], axis=-1)
        self.sloped = np.array([w.sloped for w in found])  # (W,)
        cuts = [_cuts(w.time, longest) for w in found]
        steps, rows = max(len(step) for step, _ in cuts), max(len(w.time) for w in found) - 1
        self.step = np.zeros((steps, len(found)))  # (S, W) s
        self.torque = np.zeros((steps, *self.position.shape))  # (S, J, W) N·m
        self.ends = np.zeros((rows, len(found)), int)  # (R, W) the step with which a row ends
        self.measured = np.zeros((rows, *self.position.shape))  # (R, J, W) rad
        self.counts = np.array([len(w.time) - 1 for w in found])  # (W,) rows that count
        for i, (w, (step, row)) in enumerate(zip(found, cuts, strict=True)):
            self.step[: len(step), i] = step
            self.torque[: len(step), :, i] = w.torque[row]
            self.ends[: self.counts[i], i] = np.flatnonzero(np.diff(row, append=row[-1] + 1))
            self.measured[: self.counts[i], :, i] = w.measured[1:]
        self._weight = (np.arange(rows)[:, None] < self.counts) / np.sqrt(self.counts * len(self.position))  # (R, W)

    def residuals(self, predicted: Array) -> Array:
        """Of predictions (R, J, n, W) rad, (n, W, R, J), scaled: a window's squares add up to its mean square."""
        with np.errstate(invalid="ignore"):  # a wild guess ends at infinity
            off = np.nan_to_num(predicted - self.measured[:, :, None], nan=INVALID, posinf=INVALID, neginf=-INVALID)
        return np.asarray(np.clip(off, -INVALID, INVALID) * self._weight[:, None, None]).transpose(2, 3, 0, 1)

    def errors(self, predicted: Array) -> Array:
        """Root-mean-square error of each window, (n, W) rad, of predictions (R, J, n, W) rad."""
        return np.asarray(np.sqrt((self.residuals(predicted) ** 2).sum(axis=(2, 3))))


def _cuts(time: Array, longest: float) -> tuple[Array, NDArray[np.int_]]:
    """Steps (S,) s and the row in which each lies, (S,)."""
    spans = np.diff(time)
    pieces = np.maximum(1, np.ceil(spans / longest)).astype(int)
    return np.repeat(spans / pieces, pieces), np.repeat(np.arange(len(spans)), pieces)
