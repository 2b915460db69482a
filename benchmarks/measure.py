"""Measuring side by side: contestants take turns, ratios are paired within a turn, medians with quartiles beside them.

Another process slows whoever runs at that moment, so one long run of each says little on a machine that is shared;
short turns that alternate disturb both alike.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BUSY = 0.5  # load average a core that others make, above which figures are in doubt


@dataclass(frozen=True)
class Figure:
    """One line of the table: a value with its quartiles, and where it is a ratio perhaps an aim."""

    section: str
    name: str
    value: float  # median
    low: float  # first quartile
    high: float  # third quartile
    unit: str
    aim: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without one."""
        return None if self.aim is None else self.value >= self.aim

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "met": self.met}


def summary(section: str, name: str, values: Any, unit: str, aim: float | None = None, note: str = "") -> Figure:
    """Median and quartiles of some values."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75]).tolist()
    return Figure(section, name, middle, low, high, unit, aim, note)


def take_turns(contestants: dict[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """What each contestant returns in each of `turns` turns, after one that warms up and does not count."""
    values: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for turn in range(turns + 1):
        for name in order if turn % 2 else reversed(order):  # nobody always follows the same neighbour
            value = contestants[name]()
            if turn:
                values[name].append(value)
    return values


def compare(
    section: str,
    values: dict[str, list[float]],
    unit: str,
    ours: str,
    aims: dict[str, float | None],
    note: str = "",
) -> list[Figure]:
    """The rate of each contestant, then ours over each in `aims`, turn by turn."""
    figures = [summary(section, name, rates, unit) for name, rates in values.items()]
    for name, aim in aims.items():
        ratio = np.array(values[ours]) / np.array(values[name])
        figures.append(summary(section, f"{ours} / {name}", ratio, "ratio", aim, note))
    return figures


def rate(work: Callable[[], None], count: float) -> float:
    """`count` things a call of `work`, a second."""
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """`count` threads of PyTorch inside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how much others were using it."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def warning(state: dict[str, Any]) -> str:
    """What to know about a machine that others were using when it was looked at; nothing when it was quiet."""
    load, cores = state["load"][0], state["cores"]
    if load <= BUSY * cores:
        return ""
    return f"the machine is busy: load {load} on {cores} cores before the first measurement; trust ratios, not rates"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
