"""Neural Turing Machine (Graves et al. 2014, https://arxiv.org/abs/1410.5401).

A controller reads from and writes to a matrix of slots through heads, which find a slot by its content or by moving
on from where they were. All heads look at the memory of the step before; reading comes before writing.
`B` batch, `H` heads (the last one writes), `N` slots, `W` width, `S` shifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hardware_io.config import option
from policies.addressing import Controller, ExternalMemory, circulant, content, sharpen, shift

SHIFTS = (-1, 0, 1)


@dataclass(frozen=True)
class NTMSettings:
    """Sizes of the memory and of its controller."""

    hidden: int = option(48, min=1, help="units of the controller, a GRU")
    slots: int = option(16, min=3)
    width: int = option(16, min=1, help="numbers in a slot")
    read_heads: int = option(1, min=1)


class NeuralTuringMachine(ExternalMemory):
    """One head that writes, `read_heads` that read; what is read is the controller's state beside what heads found."""

    moves: Tensor

    def __init__(self, size_in: int, settings: NTMSettings) -> None:
        hidden, slots, width, readers = settings.hidden, settings.slots, settings.width, settings.read_heads
        weightings = torch.zeros(readers + 1, slots)
        weightings[:, 0] = 1  # all heads begin at the first slot: else equal slots would be treated equally for ever
        start = [torch.zeros(hidden), torch.zeros(readers * width), weightings, torch.zeros(slots, width)]
        super().__init__(size_in, hidden + readers * width, start)
        self.controller = Controller(size_in, readers * width, hidden)
        # Of each head: key, strength, power, gate and shifts. Of the writing head also: erase and add.
        self.head_sizes = [width, 2, 1, len(SHIFTS)]
        self.heads = nn.Linear(hidden, (readers + 1) * sum(self.head_sizes))
        self.writer = nn.Linear(hidden, 2 * width)
        self.register_buffer("moves", circulant(slots, SHIFTS), persistent=False)

    def prepare(self, inputs: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.controller.prepare(inputs),)

    def advance(self, prepared: tuple[Tensor, ...], parts: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Parts: controller (B, hidden), what was read (B, readers·W), weightings (B, H, N), slots (B, N, W)."""
        hidden, read, weightings, slots = parts
        hidden = self.controller.resume(prepared[0], read, hidden)
        weightings = self.address(self.heads(hidden).unflatten(-1, (weightings.shape[1], -1)), weightings, slots)
        read = (weightings[:, :-1] @ slots).flatten(1)
        erase, add = self.writer(hidden)[:, None].chunk(2, dim=-1)
        # Equations 3 and 4 for one head: M (1 - w e) + w a.
        change = torch.addcmul(torch.tanh(add), torch.sigmoid(erase), slots, value=-1)
        slots = torch.addcmul(slots, weightings[:, -1, :, None], change)
        return torch.cat([hidden, read], dim=-1), (hidden, read, weightings, slots)

    def address(self, asked: Tensor, weightings: Tensor, slots: Tensor) -> Tensor:
        """What the controller asks of each head (B, H, ·) and the last weightings (B, H, N) → the next ones."""
        keys, positive, gate, share = asked.split(self.head_sizes, dim=-1)
        strength, power = functional.softplus(positive).chunk(2, dim=-1)
        found = content(keys, strength, slots)
        mixed = torch.lerp(weightings, found, torch.sigmoid(gate))  # eq. 7
        return sharpen(shift(mixed, torch.softmax(share, dim=-1), self.moves), 1 + power)
