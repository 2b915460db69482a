"""From raw sensor channels in SI units to the inputs of a network, inside the graph. `O` observation, `D` features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardware_io.interface import Interface


class Features(nn.Module):
    """Angles as sine, cosine and value, the rest as it is; then shifted and scaled by running statistics.

    The value of an angle whose whole turns make no difference is hidden: 0.
    """

    def __init__(self, interface: Interface) -> None:
        super().__init__()
        self.register_buffer("angles", torch.tensor(interface.angles, dtype=torch.long))
        self.angles: Tensor
        shown = torch.ones(interface.observation)
        shown[list(interface.endless)] = 0
        self.register_buffer("shown", shown if interface.endless else None, persistent=False)
        self.shown: Tensor | None
        self.size = interface.observation + 2 * len(interface.angles)  # D
        self.normaliser = Normaliser(self.size)

    def expand(self, observation: Tensor) -> Tensor:
        """(..., O) → (..., D), not yet normalised."""
        if not len(self.angles):
            return observation
        angle = observation.index_select(-1, self.angles)  # one Gather in the exported graph
        values = observation if self.shown is None else observation * self.shown
        return torch.cat([values, torch.sin(angle), torch.cos(angle)], dim=-1)

    def forward(self, observation: Tensor) -> Tensor:
        """(..., O) → (..., D)."""
        return self.normaliser(self.expand(observation))


class Normaliser(nn.Module):
    """Running mean and variance of (..., D), merged batch by batch (Chan et al. 1979); results within ±`clip`."""

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.mean: Tensor
        self.variance: Tensor
        self.count: Tensor

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Take in a batch (n, D)."""
        if len(values) == 0:
            return
        mean, variance = values.mean(0), values.var(0, correction=0)
        total = self.count + len(values)
        share = (len(values) / total).float()
        difference = mean - self.mean
        spread = self.variance * (1 - share) + variance * share + difference**2 * share * (1 - share)
        self.mean.copy_(self.mean + difference * share)
        self.variance.copy_(spread)
        self.count.copy_(total)

    def forward(self, values: Tensor) -> Tensor:
        scaled = (values - self.mean) * torch.rsqrt(self.variance + 1e-6)
        return torch.clamp(scaled, -self.clip, self.clip)

    def inverse(self, scaled: Tensor) -> Tensor:
        """Back to the values' own scale."""
        return scaled * torch.sqrt(self.variance + 1e-6) + self.mean
