"""Sequences that only a memory can answer (Graves et al. 2014, sections 4.1 and 4.3): copy and associative recall.

They show that a memory holds and finds what it was given, at lengths it was not trained on, without a robot around it.
`B` batch, `T` time, `I` inputs, `O` bits of a vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Sequences:
    """Inputs (B, T, I) of 0 and 1; targets (B, T, O), to be answered in the last steps, where `asked` (T,) is true."""

    inputs: Tensor
    targets: Tensor
    asked: Tensor


@dataclass(frozen=True)
class MemoryTask(ABC):
    """Random vectors of `bits` channels, and further channels that delimit them."""

    bits: int = 6

    @property
    @abstractmethod
    def size_in(self) -> int:
        """I"""

    @abstractmethod
    def sample(self, batch: int, length: int, generator: Generator) -> Sequences:
        """A batch of one length."""

    def _random(self, generator: Generator, *shape: int) -> Tensor:
        return torch.randint(2, (*shape, self.bits), generator=generator).float()


@dataclass(frozen=True)
class Copy(MemoryTask):
    """`length` vectors, a delimiter, then the same vectors are to be said again while the inputs are zero."""

    @property
    def size_in(self) -> int:
        return self.bits + 1

    def sample(self, batch: int, length: int, generator: Generator) -> Sequences:
        vectors = self._random(generator, batch, length)
        inputs = torch.zeros(batch, 2 * length + 1, self.size_in)
        inputs[:, :length, : self.bits] = vectors
        inputs[:, length, self.bits] = 1
        return _answered_last(inputs, vectors)


@dataclass(frozen=True)
class AssociativeRecall(MemoryTask):
    """`length` items of some vectors, a delimiter before each; then one of them, and the next is to be said.

    The item that is asked for stands between two delimiters of another channel, and is never the last one.
    """

    vectors: int = 3

    @property
    def size_in(self) -> int:
        return self.bits + 2

    def sample(self, batch: int, length: int, generator: Generator) -> Sequences:
        """Raises ValueError for a single item, which has none after it."""
        if length < 2:
            raise ValueError(f"associative recall of {length} items: one must come after another")
        span = self.vectors + 1
        items = self._random(generator, batch, length, self.vectors)
        chosen, rows = torch.randint(length - 1, (batch,), generator=generator), torch.arange(batch)
        inputs = torch.zeros(batch, (length + 2) * span, self.size_in)
        blocks = inputs.view(batch, length + 2, span, self.size_in)
        blocks[:, :length, 0, self.bits] = 1
        blocks[:, :length, 1:, : self.bits] = items
        blocks[:, length:, 0, self.bits + 1] = 1
        blocks[:, length, 1:, : self.bits] = items[rows, chosen]
        return _answered_last(inputs, items[rows, chosen + 1])


def _answered_last(inputs: Tensor, answer: Tensor) -> Sequences:
    """Sequences whose last steps are to be `answer` (B, ·, O)."""
    batch, time, _ = inputs.shape
    silent = time - answer.shape[1]
    targets = torch.cat([torch.zeros(batch, silent, answer.shape[2]), answer], dim=1)
    return Sequences(inputs, targets, torch.arange(time) >= silent)
