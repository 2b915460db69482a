"""Memory-augmented network (Santoro et al. 2016, http://proceedings.mlr.press/v48/santoro16.html).

A Neural Turing Machine that finds slots by content alone and writes either where it last read or where nobody has
been for longest (least recently used access, LRUA). Three choices differ from the paper:
- between slots that were used equally, constants decide. Otherwise rounding would, and ONNX Runtime could write
  elsewhere than PyTorch. A soft minimum is no way out: its gain, step after step, makes chaos of rounding errors.
  From the same memory both choose the same slot; left alone, one step in some 10^5 parts them, where usages cross;
- what is written and what is looked for are two outputs of the controller, and keys have a strength, as in the Neural
  Turing Machine: one step can look for one thing and store another;
- one head writes, whatever the number of reading heads.
`B` batch, `H` reading heads, `N` slots, `W` width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hardware_io.config import option
from policies.addressing import Controller, ExternalMemory, content

# Between neighbours that were used equally the first one goes first: far more than rounding, far less than a use.
PRECEDENCE = 1e-4


@dataclass(frozen=True)
class MANNSettings:
    """Sizes of the memory and of its controller, and how fast a use is forgotten."""

    hidden: int = option(48, min=1, help="units of the controller, a GRU")
    slots: int = option(16, min=2)
    width: int = option(16, min=1, help="numbers in a slot")
    read_heads: int = option(1, min=1)
    decay: float = option(0.95, min=0.5, max=0.999, help="of usage, each step")


class MemoryAugmented(ExternalMemory):
    """Reads by content; what is read is the controller's state beside what the heads found."""

    precedence: Tensor

    def __init__(self, size_in: int, settings: MANNSettings) -> None:
        hidden, slots, width, readers = settings.hidden, settings.slots, settings.width, settings.read_heads
        start = [
            torch.zeros(hidden),
            torch.zeros(readers * width),
            torch.full((slots,), 1 / slots),
            torch.zeros(slots),
            torch.zeros(slots, width),
        ]
        super().__init__(size_in, hidden + readers * width, start)
        self.decay, self.readers = settings.decay, readers
        self.register_buffer("precedence", PRECEDENCE * torch.arange(slots), persistent=False)
        self.controller = Controller(size_in, readers * width, hidden)
        self.lookup = nn.Linear(hidden, readers * (width + 1))
        self.writer = nn.Linear(hidden, width + 1)

    def prepare(self, inputs: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.controller.prepare(inputs),)

    def advance(self, prepared: tuple[Tensor, ...], parts: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Parts: controller (B, hidden), what was read (B, H·W), where (B, N), usage (B, N), slots (B, N, W)."""
        hidden, read, where, usage, slots = parts
        hidden = self.controller.resume(prepared[0], read, hidden)
        lookup = self.lookup(hidden).unflatten(-1, (self.readers, -1))
        weightings = content(lookup[..., :-1], functional.softplus(lookup[..., -1:]), slots)
        read = (weightings @ slots).flatten(1)
        least, asked = self.least_used(usage), self.writer(hidden)
        written = torch.lerp(least, where, torch.sigmoid(asked[:, -1:]))  # the least used, or where it last read
        emptied = slots * (1 - least)[..., None]
        slots = torch.addcmul(emptied, written[..., None], torch.tanh(asked[:, None, :-1]))
        usage = self.decay * usage + weightings.sum(1) + written
        return torch.cat([hidden, read], dim=-1), (hidden, read, weightings.mean(1), usage, slots)

    def least_used(self, usage: Tensor) -> Tensor:
        """Usage (B, N) → weighting (B, N), one at the slot used least."""
        usage = usage + self.precedence
        return (usage <= usage.amin(-1, keepdim=True)).to(usage.dtype)
