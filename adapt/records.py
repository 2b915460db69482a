"""Records of one width by number, in memory or memory-mapped in one file that a crash leaves readable.

Numbers are given in order, from 0. The file begins with what its records hold; then come blocks of `BLOCK` records,
each record with its number and a checksum. A block that nobody needs any more is used again, so that the file stays as
large as what it holds; a record that is still needed is never written over.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError

BLOCK = 4096  # records
HEAD = 4096  # bytes, a page: what the file holds, as JSON
WRITTEN = np.uint32(0x9E3779B9)  # in every checksum, so that zeros are not taken for a record
OWN = [("check", "<u4"), ("number", "<i8"), ("partition", "<i8")]  # of every record, before its columns

Int64 = NDArray[np.int64]
Table = NDArray[np.void]  # of records, with a field for each column


class Records:
    """`columns` (name → width) of float32 for each record; nothing touches the file before `append` or `load`."""

    def __init__(self, columns: dict[str, int], path: Path | None = None) -> None:
        self.columns, self.path = columns, path
        self.dtype = np.dtype([*OWN, *((name, "<f4", (width,)) for name, width in columns.items())])
        self._weights = (2 * np.arange(1, self.dtype.itemsize // 4) + 1).astype(np.uint32)  # odd: no change is lost
        self.first = self.count = 0  # records first … count - 1 are there
        self._rows: Table = np.zeros(0, self.dtype)
        self._file: np.memmap | None = None  # that they are a view of
        self._blocks = np.zeros(0, np.int64)  # where they lie in the file, from block `_base` on
        self._free: list[int] = []
        self._kept_for = deque[int]([], maxlen=2)  # `first` at the last marks
        self._begun = False

    @property
    def bytes(self) -> int:
        """Of one record."""
        return self.dtype.itemsize

    def append(self, rows: Table) -> None:
        """Take in records whose columns and partitions are filled in. The first call begins the file anew."""
        if not self._begun:
            self._begin()
        numbers = np.arange(self.count, self.count + len(rows))
        self._make_room(self.count + len(rows))
        rows["number"] = numbers
        rows["check"] = self._checksum(rows)
        self._rows[self._slots(numbers)] = rows
        self.count += len(rows)

    def read(self, numbers: Int64) -> Table:
        """The records with these numbers, a copy."""
        return self._rows.take(self._slots(numbers))  # an index in brackets takes seven times as long

    def forget(self, before: int) -> None:
        """Records with lesser numbers are not needed; marks may still need them for a while."""
        self.first = before
        over = len(self._blocks) - (-(-self.count // BLOCK) - self._base)
        self._free += self._blocks[:over].tolist()
        self._blocks = self._blocks[over:]

    def mark(self) -> dict[str, int]:
        """What `load` needs to come back to this moment; all is on disk by now.

        Two marks are kept for: whoever notes a new one may be cut short before it takes the place of the old.
        """
        if self._file is not None:
            self._file.flush()
        self._kept_for.append(self.first)
        self.forget(self.first)
        return {"first": self.first, "count": self.count}

    def load(self, mark: dict[str, int]) -> None:
        """Come back to a mark: what was appended after it is forgotten.

        Records that a crash damaged, and all after the first of them, are left out with a warning. Raises ConfigError
        for a file that is missing or holds something else.
        """
        self.first, self.count, self._begun = mark["first"], mark["count"], True
        self._kept_for, self._free = deque([self.first], maxlen=2), []
        if self.count == self.first:
            self._empty()
            return
        if self.path is None:
            raise ConfigError("replay", "folder", None, f"the folder that holds its {self.count - self.first} records")
        self._check_head(self.path)
        whole = max(self.path.stat().st_size - HEAD, 0) // self.bytes
        os.truncate(self.path, HEAD + whole * self.bytes)
        self._map(max(-(-whole // BLOCK), 1))
        self._find(mark)
        if self.count < mark["count"]:
            lost, all_of_them = mark["count"] - self.count, mark["count"] - mark["first"]
            warnings.warn(f"{self.path}: {lost} of {all_of_them} records are damaged and left out", stacklevel=2)

    def _empty(self) -> None:
        """Nothing is worth keeping."""
        self.first = self.count = 0
        self._kept_for.clear()
        self._rows, self._blocks, self._free, self._begun = np.zeros(0, self.dtype), np.zeros(0, np.int64), [], False

    def _begin(self) -> None:
        self._begun = True
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(json.dumps(self.columns).ljust(HEAD).encode())

    def _check_head(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                held = json.loads(file.read(HEAD))
        except FileNotFoundError as error:
            raise ConfigError(str(path), "", "no such file", f"{self.count} records of this training") from error
        except ValueError as error:
            raise ConfigError(str(path), "columns", "unreadable", f"{self.columns}") from error
        if held != self.columns or list(held) != list(self.columns):
            raise ConfigError(str(path), "columns", held, f"{self.columns}; or another --out folder")

    def _make_room(self, count: int) -> None:
        """Blocks for all numbers below `count`; the file grows by half where none is free."""
        missing = -(-count // BLOCK) - self._base - len(self._blocks) - len(self._free)
        if missing > 0:
            there = len(self._rows) // BLOCK
            self._map(there + max(missing, there // 2))
            self._free += range(there, len(self._rows) // BLOCK)
        more = -(-count // BLOCK) - self._base - len(self._blocks)
        taken, self._free = self._free[:more], self._free[more:]
        self._blocks = np.append(self._blocks, np.array(taken, np.int64))

    def _map(self, blocks: int) -> None:
        """As many blocks in the file or in memory."""
        if self.path is None:
            grown = np.zeros(blocks * BLOCK, self.dtype)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
            return
        with self.path.open("r+b") as file:
            size = HEAD + blocks * BLOCK * self.bytes
            if hasattr(os, "posix_fallocate"):  # a full disk is an OSError here, and would end the process later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        self._file = np.memmap(self.path, self.dtype, "r+", HEAD, (blocks * BLOCK,))
        self._rows = np.asarray(self._file)

    @property
    def _base(self) -> int:
        """Number of the first block that is there, in units of blocks."""
        return min([self.first, *self._kept_for]) // BLOCK

    def _slots(self, numbers: Int64) -> Int64:
        """Where records lie in the file."""
        return self._blocks[numbers // BLOCK - self._base] * BLOCK + numbers % BLOCK

    def _find(self, mark: dict[str, int]) -> None:
        """The blocks of a file, up to the first record that is not whole; what is left out cannot come back later."""
        found = dict[int, int]()  # number of a block → where it lies
        there = np.zeros(self.count - self.first, bool)
        for place in range(len(self._rows) // BLOCK):
            rows = self._rows[place * BLOCK : (place + 1) * BLOCK]
            numbers = np.array(rows["number"])
            good = (self._checksum(rows) == rows["check"]) & (numbers >= self.first) & (numbers < self.count)
            good &= numbers % BLOCK == np.arange(BLOCK)
            there[numbers[good] - self.first] = True
            if good.any():
                found[int(numbers[good][0]) // BLOCK] = place
            else:
                self._free.append(place)
            rows["check"][~good & (rows["check"] != 0)] = 0
        self.count = self.first + int(np.argmin(np.append(there, False)))
        if self.count == self.first:
            self._empty()
            return
        needed = range(self._base, -(-self.count // BLOCK))
        self._blocks = np.array([found.pop(block) for block in needed], np.int64)
        self._free += found.values()
        for place in found.values():
            self._rows[place * BLOCK : (place + 1) * BLOCK]["check"] = 0

    def _checksum(self, rows: Table) -> NDArray[np.uint32]:
        """Of everything but itself, (n,)."""
        words = np.ascontiguousarray(rows).view(np.uint32).reshape(len(rows), -1)[:, 1:]
        return (words * self._weights).sum(1, dtype=np.uint32) + WRITTEN
