"""Uniform distributions of tasks: one for training, a wider one for tests. `P` hidden parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hardware_io.config import ConfigError, build, option
from hardware_io.state import Array
from sim.dynamics import SPLITS, draw, wider


@dataclass(frozen=True)
class TaskRange:
    """Where one hidden parameter of a task lies; without `test`, tests draw it from the range of training."""

    train: tuple[float, float] = option(help="[low, high] in training")
    test: tuple[float, float] | None = option(None, help="[low, high] in tests, around that of training")

    def __post_init__(self) -> None:
        if self.train[0] > self.train[1]:
            raise ConfigError("", "train", list(self.train), "[low, high] with low <= high")
        if self.test is not None and (self.test[0] > self.train[0] or self.test[1] < self.train[1]):
            raise ConfigError("", "test", list(self.test), f"a range that contains train {list(self.train)}")


@dataclass(frozen=True)
class TaskRanges:
    """All hidden parameters of a family, in the order of its file."""

    parameters: dict[str, TaskRange]

    @staticmethod
    def of(tasks: object, source: str, key: str) -> TaskRanges:
        """From a mapping name → [low, high] or {train: [low, high], test: [low, high]}. Raises ConfigError."""
        if not isinstance(tasks, dict) or not tasks:
            raise ConfigError(source, key, tasks, "a mapping of hidden parameters, each to [low, high]")
        ranges = {}
        for name, data in tasks.items():
            given = {"train": data} if isinstance(data, list | tuple) else data
            ranges[str(name)] = build(TaskRange, given, source, f"{key}.{name}")
        return TaskRanges(ranges)

    @property
    def train(self) -> Array:
        """Low and high of each parameter in training, (P, 2)."""
        return np.array([parameter.train for parameter in self.parameters.values()])

    @property
    def test(self) -> Array:
        """Low and high of each parameter in tests, (P, 2)."""
        return np.array([parameter.test or parameter.train for parameter in self.parameters.values()])

    def describe(self, task: Array) -> str:
        """One task (P,) as `name=value` pairs, for people."""
        return ", ".join(f"{name}={value:.6g}" for name, value in zip(self.parameters, task, strict=True))


def uniform(train: ArrayLike, test: ArrayLike, n: int, rng: np.random.Generator, split: str, source: str) -> Array:
    """Uniform draws, (n, P), within bounds (P, 2). `outside`: within those of tests, at least one beyond training.

    Raises ConfigError for an unknown split, and for `outside` where tests reach no further than training.
    """
    inner = np.asarray(train, float)
    within = inner if split == "train" else np.asarray(test, float)
    check_split(split, source, outside=bool(wider(within, inner).any()))
    return draw(within, n, rng, inner if split == "outside" else None)


def check_split(split: str, source: str, outside: bool) -> None:
    """Raises ConfigError for an unknown split, and for `outside` where tests reach no further than training."""
    allowed = SPLITS if outside else SPLITS[:-1]
    if split not in allowed:
        known = "" if outside or split not in SPLITS else ": its tests are drawn from the range of training"
        raise ConfigError(source, "split", split, f"one of {', '.join(allowed)}{known}")


def check_ranges(ranges: dict[str, tuple[float, float]], signed: str) -> None:
    """Raises ConfigError for a [low, high] that is none, and for one that reaches 0 but is not the `signed` one."""
    for name, (low, high) in ranges.items():
        if low > high or (name != signed and low <= 0):
            allowed = "[low, high] with low <= high" + ("" if name == signed else ", both above 0")
            raise ConfigError("", name, [low, high], allowed)
