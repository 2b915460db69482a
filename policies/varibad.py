"""VariBAD's belief over tasks, and what it is trained to foretell (Zintgraf et al. 2020, sections 3.2 and 3.3).

https://arxiv.org/abs/1910.08348. `B` batch, `T` time, `I` inputs, `Z` latent, `D` state, `A` action; leading dimensions
of a decoder's inputs are free.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policies.features import Normaliser
from policies.memory import MemoryModule
from policies.networks import Memory
from policies.perceptron import Perceptron


class Belief(MemoryModule):
    """A GRU whose state gives mean and log-variance of a normal distribution of the task's latent, (B, 2Z)."""

    def __init__(self, size_in: int, size: int, latent: int) -> None:
        super().__init__()
        self.size, self.reads = size, 2 * latent
        self.gru, self.moments = Memory(size_in, size), nn.Linear(size, 2 * latent)

    def step(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        state, memory = self.gru.step(inputs, memory)
        return self.moments(state), memory

    def unroll(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        states, memory = self.gru.unroll(inputs, memory, valid)
        return self.moments(states), memory


def draw(belief: Tensor) -> Tensor:
    """A latent (..., Z) of each belief (..., 2Z), differentiable (Kingma and Welling 2014)."""
    mean, log_variance = belief.chunk(2, dim=-1)
    return mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape).to(mean.device)


def divergence(belief: Tensor, before: Tensor) -> Tensor:
    """KL(belief ‖ before) of beliefs (..., 2Z), (...,)."""
    (mean, log_variance), (other, other_log_variance) = belief.chunk(2, dim=-1), before.chunk(2, dim=-1)
    ratio = torch.exp(log_variance - other_log_variance)
    distance = (mean - other) ** 2 * torch.exp(-other_log_variance)
    return 0.5 * (ratio + distance - 1 + other_log_variance - log_variance).sum(-1)


class Decoder(nn.Module):
    """Foretells one thing of a transition: what it pays, or how the state changes.

    Targets are scaled by running statistics, and normal around what is foretold with deviation 1 on that scale.
    """

    def __init__(self, size_in: int, hidden: tuple[int, ...], size_out: int) -> None:
        super().__init__()
        self.network, self.scale = Perceptron([size_in, *hidden, size_out], output_gain=0.1), Normaliser(size_out)

    def forward(self, known: Tensor) -> Tensor:
        """Latent and transition (..., ·) → what is foretold in its own units, (..., O)."""
        return self.scale.inverse(self.network(known))

    def surprise(self, latent: Tensor, known: Tensor, target: Tensor) -> Tensor:
        """−log p but for a constant, (B, S, T), of transitions (B, T, ·) with `target` (B, T, O) given (B, S, Z)."""
        draws, steps = latent.shape[1], known.shape[1]
        pairs = [latent[:, :, None].expand(-1, -1, steps, -1), known[:, None].expand(-1, draws, -1, -1)]
        error = self.network.train_on(torch.cat(pairs, dim=-1)) - self.scale(target)[:, None]
        return 0.5 * (error**2).sum(-1)
