"""What every memory of a policy offers: one step inside the exported graph, whole sequences in training.

`B` batch, `T` time, `I` inputs, `M` memory as one flat vector, `R` what the policy reads from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class MemoryModule(nn.Module, ABC):
    """`step` is exported, so it is plain arithmetic without data-dependent control flow or fused recurrent layers."""

    size: int  # M
    reads: int  # R

    @abstractmethod
    def step(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, I) and memory (B, M) → what is read (B, R) and next memory (B, M)."""

    def initial(self, batch: int) -> Tensor:
        """The memory of a robot that nothing is known of, (B, M), of the weights' device and type."""
        return next(self.parameters()).new_zeros(batch, self.size)

    def unroll(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """`step` over inputs (B, T, I): what is read (B, T, R), and the memory (B, M) after the last lived step.

        `valid` (B, T), bool or 0 and 1, is true up to where a rollout ended: the memory stops there.
        """
        reads, lived = [], (valid > 0).unbind(1)
        for now, going in zip(inputs.unbind(1), lived, strict=True):
            read, after = self.step(now, memory)
            memory = torch.where(going[:, None], after, memory)
            reads.append(read)
        return torch.stack(reads, dim=1), memory
