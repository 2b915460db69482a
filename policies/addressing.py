"""What external memories share: how a head finds a slot, the controller, and one flat vector made of several parts.

`B` batch, `T` time, `I` inputs, `H` heads, `N` slots, `W` width of a slot, `M` all parts as one flat vector.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from policies.memory import MemoryModule

# Added to squared lengths: an empty slot resembles nothing, and the gradient through a nearly empty one stays bounded.
EMPTY = 1e-4
# Added to weightings before their logarithm, so that a slot that was never attended to can be.
FAINT = 1e-6
# Steps that are compiled as one piece: more take longer to compile, and run hardly faster.
PIECE = 5

Parts = tuple[Tensor, ...]
Several = Callable[[Parts, Parts], tuple[Tensor, Parts, Parts]]


def content(keys: Tensor, strength: Tensor, slots: Tensor) -> Tensor:
    """Weightings (B, H, N) by cosine similarity: keys (B, H, W), their strength (B, H, 1), slots (B, N, W).

    Graves et al. 2014, equations 5 and 6.
    """
    lengths = ((keys * keys).sum(-1, keepdim=True) + EMPTY) * ((slots * slots).sum(-1) + EMPTY)[:, None]
    return torch.softmax(strength * (keys @ slots.transpose(1, 2)) * torch.rsqrt(lengths), dim=-1)


def circulant(slots: int, shifts: Sequence[int]) -> Tensor:
    """The matrix (N, S·N) that moves a weighting around the ring by each of S shifts: exact, and one product."""
    eye = torch.eye(slots)
    return torch.cat([eye.roll(shift, dims=1) for shift in shifts], dim=1)


def shift(weighting: Tensor, share: Tensor, moves: Tensor) -> Tensor:
    """Circular convolution of weightings (B, H, N) with shares (B, H, S) of the shifts in `moves` (N, S·N): eq. 8."""
    moved = (weighting @ moves).unflatten(-1, (share.shape[-1], -1))
    return (share[..., None, :] @ moved).squeeze(-2)


def sharpen(weighting: Tensor, power: Tensor) -> Tensor:
    """Weightings (B, H, N) raised to powers (B, H, 1) and scaled to a sum of one: eq. 9, in logarithms."""
    return torch.softmax(power * torch.log(weighting + FAINT), dim=-1)


class Controller(nn.Module):
    """A GRU that also hears what was read a step before; what its inputs give is known before the recurrence.

    Its cell is that of `policies.networks.Memory`, with weights of their own for what was read.
    """

    def __init__(self, size_in: int, size_read: int, size: int) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.empty(3 * size, size_in))
        self.w_read = nn.Parameter(torch.empty(3 * size, size_read))
        self.w_state = nn.Parameter(torch.empty(3 * size, size))
        self.b_in, self.b_state = nn.Parameter(torch.zeros(3 * size)), nn.Parameter(torch.zeros(3 * size))
        for weight in (self.w_in, self.w_read, self.w_state):
            for gate in weight.chunk(3):
                nn.init.orthogonal_(gate)

    def prepare(self, inputs: Tensor) -> Tensor:
        """Inputs (..., I) → what they add to reset gate, update gate and candidate, (..., 3·size)."""
        return inputs @ self.w_in.T + self.b_in

    def resume(self, prepared: Tensor, read: Tensor, hidden: Tensor) -> Tensor:
        """The next state (B, size) from what was prepared (B, 3·size), read before (B, ·) and the state before."""
        size = hidden.shape[-1]
        gates, new = torch.addmm(prepared, read, self.w_read.T).split([2 * size, size], dim=-1)
        gates_state, new_state = torch.addmm(self.b_state, hidden, self.w_state.T).split([2 * size, size], dim=-1)
        reset, update = torch.sigmoid(gates + gates_state).chunk(2, dim=-1)
        return torch.lerp(torch.tanh(torch.addcmul(new, reset, new_state)), hidden, update)


class ExternalMemory(MemoryModule):
    """A memory of several parts: flat outside, where it is a fast state, and in its own shapes inside the loop."""

    start: Tensor

    def __init__(self, size_in: int, reads: int, start: Sequence[Tensor]) -> None:
        """`start` holds the parts of one robot that nothing is known of; constants that no training changes."""
        super().__init__()
        self.size_in, self.reads = size_in, reads
        self.shapes = [part.shape for part in start]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.size = sum(self.sizes)
        self.register_buffer("start", torch.cat([part.flatten() for part in start]), persistent=False)
        self._compiled: Several | None = None

    @abstractmethod
    def prepare(self, inputs: Tensor, parts: Parts) -> Parts:
        """All that needs no recurrence, each (B, T, ...), from inputs (B, T, I) and the parts before them."""

    @abstractmethod
    def advance(self, prepared: Parts, parts: Parts) -> tuple[Tensor, Parts]:
        """One step of what was prepared, each (B, ...) → what is read (B, R) and the next parts."""

    def split(self, memory: Tensor) -> Parts:
        """Memory (B, M) → its parts, each (B, ...)."""
        flat = memory.split(self.sizes, dim=-1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(flat, self.shapes, strict=True))

    def initial(self, batch: int) -> Tensor:
        return self.start.expand(batch, -1).clone()

    def step(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        parts = self.split(memory)
        prepared = tuple(value[:, 0] for value in self.prepare(inputs[:, None], parts))
        read, parts = self.advance(prepared, parts)
        return read, torch.cat([part.flatten(1) for part in parts], dim=-1)

    def unroll(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """As `MemoryModule.unroll`; what is read after the last lived step means nothing."""
        parts = self.split(memory)
        prepared = self.prepare(inputs, parts)
        reads, passed = [], [tuple(part[:, None] for part in parts)]
        length = PIECE if self._compiled else inputs.shape[1]
        for piece in zip(*(value.split(length, dim=1) for value in prepared), strict=True):
            run = self._compiled if self._compiled and piece[0].shape[1] == PIECE else self.several
            read, after, parts = run(piece, parts)
            reads.append(read)
            passed.append(after)
        lived = (valid > 0).sum(1)  # 0 to T: which of the T+1 memories is the last
        robots = torch.arange(len(inputs), device=inputs.device)
        last = [torch.cat(part, dim=1)[robots, lived].flatten(1) for part in zip(*passed, strict=True)]
        return torch.cat(reads, dim=1), torch.cat(last, dim=-1)

    def several(self, prepared: Parts, parts: Parts) -> tuple[Tensor, Parts, Parts]:
        """Steps of what was prepared, each (B, T, ...) → what is read (B, T, R), parts after each step, last parts."""
        reads, passed = [], []
        for now in zip(*(value.unbind(1) for value in prepared), strict=True):
            read, parts = self.advance(now, parts)
            reads.append(read)
            passed.append(parts)
        return torch.stack(reads, dim=1), tuple(torch.stack(part, dim=1) for part in zip(*passed, strict=True)), parts

    def compile_steps(self) -> None:
        """Let `unroll` run machine code for pieces of a sequence: the same up to rounding, and a third of the time.

        The first call of each batch size compiles for some minutes, or finds what was compiled before in a cache.
        """
        torch.compiler.reset()  # PyTorch compiles a function for a few memories only, and would fail with the next one
        self._compiled = torch.compile(self.several, dynamic=False, fullgraph=True)
