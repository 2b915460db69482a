"""What off-policy learners learn from: transitions of many trials, drawn again and again.

A *partition* is what belongs together under one key, such as a trial of one robot. The oldest are forgotten when there
is no more room. Records lie in memory, or in a file that outgrows it and survives a crash. Draws come from PyTorch's
global generator, so that a resumed training repeats them. `N` transitions, `B` robots, `O` observation, `A` action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.episodes import Episodes
from adapt.records import OWN, Int64, Records, Table
from adapt.sum_tree import SumTree
from hardware_io.config import option
from hardware_io.interface import Interface

FILE = "replay.bin"
Run = tuple[int, int, int]  # partition, first number, the number after the last


@dataclass(frozen=True)
class ReplaySettings:
    """How much is remembered, and which of it is drawn."""

    capacity: int = option(1_000_000, min=1, unit="transitions", help="beyond which the oldest trials are forgotten")
    priority: float = option(0.0, min=0.0, max=1.0, help="0: uniform draws; 1: in proportion to priorities (their α)")
    correction: float = option(0.4, min=0.0, max=1.0, help="1: weights undo what priorities do to a mean (their β)")


@dataclass(frozen=True)
class Transitions:
    """`N` of them, float32 unless said; leading dimensions may be more than one."""

    observation: Tensor  # (N, O) in the units of the channels
    action: Tensor  # (N, A) command that the policy gave, N·m
    reward: Tensor  # (N,) what training maximises
    next_observation: Tensor  # (N, O)
    terminated: Tensor  # (N,) 1 where nothing follows; 0 also where the rollout ran out of time
    partition: Tensor  # (N,) int64
    number: Tensor  # (N,) int64, by which `prioritise` knows them
    weight: Tensor  # (N,) of their part in a loss; 1 for uniform draws
    extra: dict[str, Tensor]  # (N, ·) each

    def parts(self, count: int) -> list[Transitions]:
        """As many equal ones, of N / count each."""
        plain = {f.name: getattr(self, f.name).chunk(count) for f in fields(self) if f.name != "extra"}
        extra = {name: values.chunk(count) for name, values in self.extra.items()}
        return [
            Transitions(**{k: v[i] for k, v in plain.items()}, extra={k: v[i] for k, v in extra.items()})
            for i in range(count)
        ]

    def to(self, device: torch.device) -> Transitions:
        plain = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "extra"}
        return Transitions(**plain, extra={name: values.to(device) for name, values in self.extra.items()})


class Replay:
    """One store. `extra` names further columns, with their widths, that `append` is given."""

    def __init__(self, interface: Interface, settings: ReplaySettings, extra: dict[str, int] | None = None) -> None:
        self.settings, self.extra = settings, dict(extra or {})
        sizes = {"observation": interface.observation, "action": interface.actions, "reward": 1}
        sizes |= {"next_observation": interface.observation, "terminated": 1}
        self._records = Records({**sizes, **self.extra})
        self._runs: list[Run] = []  # in the order of their numbers
        self._runs_of: dict[int, list[Run]] = {}
        self._priorities = SumTree(settings.capacity) if settings.priority else None
        self._greatest = 1.0  # of all priorities so far, that of what was never drawn

    def keep_in(self, folder: Path) -> None:
        """The file is in this folder, from the first `append` or `load_state_dict` on."""
        self._records = Records(self._records.columns, folder / FILE)

    def __len__(self) -> int:
        return self._records.count - self._records.first

    @property
    def bytes(self) -> int:
        """Of one transition."""
        return self._records.bytes

    @property
    def partitions(self) -> list[int]:
        """Keys, in the order in which the first of what is left of them came."""
        return list(self._runs_of)

    def append(self, episodes: Episodes, partitions: Sequence[int], extra: dict[str, Tensor] | None = None) -> None:
        """The steps of each robot (B,) that count, into the partition of its key; `extra` is (B, K, T, ·) each."""
        valid = episodes.valid
        columns = {
            "observation": episodes.observation[:, :, :-1],
            "action": episodes.asked,
            "reward": episodes.gained[..., None],
            "next_observation": episodes.observation[:, :, 1:],
            "terminated": episodes.terminated[..., None],
            **(extra or {}),
        }
        steps = valid.flatten(1).sum(1).cpu().numpy()
        rows = np.zeros(int(steps.sum()), self._records.dtype)
        for name in self._records.columns:
            rows[name] = columns[name][valid].cpu().numpy()
        rows["partition"] = np.repeat(np.asarray(partitions, np.int64), steps)
        start = self._records.count
        self._records.append(rows)
        self._note(rows["partition"], start)
        self._forget()
        if self._priorities is not None:
            new = np.arange(max(start, self._records.first), self._records.count)
            self._priorities.set(new % self.settings.capacity, self._greatest)

    def sample(self, count: int) -> Transitions:
        """So many (N = count), each drawn on its own from all partitions. Raises ValueError from an empty store."""
        if not len(self):
            raise ValueError("an empty replay has nothing to draw from")
        first, share = self._records.first, torch.rand(count, dtype=torch.float64).numpy()
        if self._priorities is None:
            return self._transitions(first + (share * len(self)).astype(np.int64))
        capacity = self.settings.capacity
        places = self._priorities.find(share)
        numbers = first + (places - first) % capacity
        # Equation 2 and section 3.4 of Schaul et al. 2016.
        probability = self._priorities.get(places) / self._priorities.total
        weight = (len(self) * probability) ** -self.settings.correction
        return self._transitions(numbers, weight / weight.max())

    def sample_of(self, partitions: Sequence[int], count: int) -> Transitions:
        """From each of P partitions so many, uniformly: tensors (P, count, ...). Raises KeyError for an unknown key."""
        shares = torch.rand(len(partitions), count, dtype=torch.float64).numpy()
        places = (shares * self._sizes(partitions)[:, None]).astype(np.int64)
        return self._transitions(self._numbers(partitions, places))

    def sample_lived(self, partitions: Sequence[int], count: int) -> tuple[Transitions, Tensor]:
        """What was lived through in each of P partitions up to a random moment: tensors (P, count, ...).

        Also which of them count, (P, count) bool, the first ones: all where there are not more, else as many, evenly
        spread. Raises KeyError for an unknown key.
        """
        size = self._sizes(partitions)
        lived = (torch.rand(len(partitions), dtype=torch.float64).numpy() * (size + 1)).astype(np.int64)
        shares = torch.rand(len(partitions), count, dtype=torch.float64).numpy()
        counted = lived.clip(max=count)
        places = ((np.arange(count) + shares) * (lived / counted.clip(min=1))[:, None]).astype(np.int64)
        numbers = self._numbers(partitions, places.clip(max=size[:, None] - 1))
        return self._transitions(numbers), torch.from_numpy(np.arange(count) < counted[:, None])

    def sample_windows(self, count: int, length: int) -> tuple[Transitions, Tensor]:
        """Uniform draws with what followed: tensors (count, length, ...), and which belong to the first's partition.

        Those, (count, length) bool, come first. Raises ValueError from an empty store.
        """
        if not len(self):
            raise ValueError("an empty replay has nothing to draw from")
        share = torch.rand(count, dtype=torch.float64).numpy()
        numbers = self._records.first + (share * len(self)).astype(np.int64)[:, None] + np.arange(length)
        there = torch.from_numpy(numbers < self._records.count)
        window = self._transitions(np.minimum(numbers, self._records.count - 1))
        return window, there & (window.partition == window.partition[:, :1])

    def prioritise(self, number: Tensor, error: Tensor) -> None:
        """Draw these transitions (N,) by the size of their error (N,) from now on; forgotten ones are passed over."""
        if self._priorities is None:
            return
        numbers = number.cpu().numpy()
        priority = (error.detach().abs().double().cpu().numpy() + 1e-6) ** self.settings.priority
        there = numbers >= self._records.first
        self._priorities.set(numbers[there] % self.settings.capacity, priority[there])
        self._greatest = max(self._greatest, float(priority.max()))

    def state_dict(self) -> dict[str, Any]:
        """Enough to go on exactly with the file; what it needs of the file stays until the state after the next."""
        priorities = torch.empty(0, dtype=torch.float64)
        if self._priorities is not None:
            priorities = torch.from_numpy(self._priorities.get(self._live() % self.settings.capacity))
        return {"records": self._records.mark(), "priorities": priorities, "greatest": self._greatest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What was appended after the state is forgotten. Raises ConfigError where the file is none of this store's."""
        self._records.load(state["records"])
        self._runs, self._greatest = [], state["greatest"]
        numbers = self._live()
        for part in np.array_split(numbers, max(1, len(numbers) // 65_536)):
            if len(part):
                self._note(self._records.read(part)["partition"], int(part[0]))
        self._index()
        if self._priorities is not None:
            self._priorities = SumTree(self.settings.capacity)
            self._priorities.set(numbers % self.settings.capacity, state["priorities"][: len(numbers)].numpy())

    def _sizes(self, keys: Sequence[int]) -> Int64:
        """Records of each key."""
        return np.array([sum(stop - start for _, start, stop in self._runs_of[key]) for key in keys], np.int64)

    def _numbers(self, keys: Sequence[int], places: Int64) -> Int64:
        """Of the records at these places (P, n) among those of each of P keys, in the order in which they came."""
        runs = [self._runs_of[key] for key in keys]
        found: Int64 = places + np.array([first[1] for first, *_ in runs])[:, None]
        for row, several in enumerate(runs):
            if len(several) > 1:
                _, starts, stops = np.array(several).T
                ends = (stops - starts).cumsum()
                found[row] = places[row] + (stops - ends)[np.searchsorted(ends, places[row], side="right")]
        return found

    def _live(self) -> Int64:
        return np.arange(self._records.first, self._records.count)

    def _note(self, keys: Int64, start: int) -> None:
        """The runs of equal keys, from number `start` on."""
        edges = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
        for low, high in pairwise(edges):
            if high == low:
                continue
            key, first = int(keys[low]), start + low
            if self._runs and self._runs[-1][0] == key:
                first = self._runs.pop()[1]
            self._runs.append((key, first, start + high))

    def _index(self) -> None:
        self._runs_of = {}
        for run in self._runs:
            self._runs_of.setdefault(run[0], []).append(run)

    def _forget(self) -> None:
        """Whole runs, the oldest first; of a single one that is too long by itself, its beginning."""
        count, capacity, before = self._records.count, self.settings.capacity, self._records.first
        first, gone = before, 0
        while count - first > capacity and gone < len(self._runs) - 1:
            first = self._runs[gone][2]
            gone += 1
        self._runs = self._runs[gone:]
        if count - first > capacity:
            first = count - capacity
            self._runs[0] = (self._runs[0][0], first, count)
        self._index()
        if self._priorities is not None and first > before:
            self._priorities.set(np.arange(max(before, first - capacity), first) % capacity, 0.0)
        self._records.forget(first)

    def _transitions(self, numbers: Int64, weight: Any = None) -> Transitions:
        """Records as tensors of the shape of `numbers`."""
        rows: Table = self._records.read(numbers.reshape(-1))
        columns = torch.from_numpy(rows.view(np.float32).reshape(*numbers.shape, -1)[..., OWN_WORDS:])
        named = dict(zip(self._records.columns, columns.split(list(self._records.columns.values()), -1), strict=True))
        return Transitions(
            named["observation"],
            named["action"],
            named["reward"].squeeze(-1),
            named["next_observation"],
            named["terminated"].squeeze(-1),
            torch.from_numpy(rows["partition"].reshape(numbers.shape).copy()),
            torch.from_numpy(numbers),
            torch.ones(numbers.shape) if weight is None else torch.from_numpy(weight).float(),
            {name: named[name] for name in self.extra},
        )


OWN_WORDS = np.dtype(OWN).itemsize // 4  # before the columns of a record
