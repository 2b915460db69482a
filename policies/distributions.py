"""How actions are drawn: a diagonal Gaussian, or a choice. Stateless, so that every task may have its own parameters.

A distribution is given by `centre` (..., A), mean or logits, and `spread`, the log standard deviation (A,) or (..., A),
empty for a choice. Noise is standard normal for both, because that is what a robot's runtime draws and logs; without
noise the action is the most likely one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from hardware_io.interface import Interface


class Distribution(ABC):
    """Actions are in the policy's units: ±1 is the limit of a command, a choice is one-hot."""

    @abstractmethod
    def sample(self, centre: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        """The action (..., A) that the noise (..., A) stands for."""

    @abstractmethod
    def bounded(self, action: Tensor) -> Tensor:
        """What is carried out of an action, (..., A)."""

    @abstractmethod
    def log_prob(self, action: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
        """Log-density or log-probability of actions (..., A), (...,)."""

    @abstractmethod
    def divergence(self, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> Tensor:
        """Kullback-Leibler divergence of new from old (centre, spread), KL(old ‖ new), (...,)."""

    @abstractmethod
    def entropy(self, centre: Tensor, spread: Tensor) -> Tensor:
        """(...,), nats."""

    @abstractmethod
    def derivatives(
        self, action: Tensor, centre: Tensor, spread: Tensor, pull: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Those of Σ pull · log π + Σ weight · entropy by centre (..., A) and by a common spread (A,), written out."""


class Gaussian(Distribution):
    def sample(self, centre: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        return centre + torch.exp(spread) * noise

    def bounded(self, action: Tensor) -> Tensor:
        return action.clamp(-1, 1)

    def log_prob(self, action: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
        scaled = (action - centre) * torch.exp(-spread)
        return -0.5 * (scaled**2).sum(-1) - spread.sum(-1) - 0.5 * math.log(2 * math.pi) * action.shape[-1]

    def divergence(self, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> Tensor:
        (mean, log_std), (other, other_log_std) = old, new
        ratio = torch.exp(2 * (log_std - other_log_std))
        distance = ((mean - other) * torch.exp(-other_log_std)) ** 2
        return (other_log_std - log_std + (ratio + distance - 1) / 2).sum(-1)

    def entropy(self, centre: Tensor, spread: Tensor) -> Tensor:
        each = spread + 0.5 * math.log(2 * math.pi * math.e)
        return each.expand_as(centre).sum(-1)

    def derivatives(
        self, action: Tensor, centre: Tensor, spread: Tensor, pull: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        inverse = torch.exp(-spread)
        scaled = (action - centre) * inverse
        pulled = scaled * pull[..., None]
        return pulled * inverse, (pulled * scaled).flatten(0, -2).sum(0) - pull.sum() + weight.sum()


class Categorical(Distribution):
    """Noise becomes Gumbel noise by the inverse of its own distribution; the greatest sum is chosen (Gumbel 1954)."""

    def sample(self, centre: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        share = (0.5 * (1 + torch.erf(noise / math.sqrt(2)))).clamp(1e-7, 1 - 1e-6)
        chosen = torch.argmax(centre - torch.log(-torch.log(share)), dim=-1, keepdim=True)
        return (chosen == torch.arange(centre.shape[-1], device=centre.device)).to(centre.dtype)

    def bounded(self, action: Tensor) -> Tensor:
        return action

    def log_prob(self, action: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
        return (centre * action).sum(-1) - torch.logsumexp(centre, dim=-1)

    def divergence(self, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> Tensor:
        before, after = torch.log_softmax(old[0], dim=-1), torch.log_softmax(new[0], dim=-1)
        return (torch.exp(before) * (before - after)).sum(-1)

    def entropy(self, centre: Tensor, spread: Tensor) -> Tensor:
        log_probs = torch.log_softmax(centre, dim=-1)
        return -(torch.exp(log_probs) * log_probs).sum(-1)

    def derivatives(
        self, action: Tensor, centre: Tensor, spread: Tensor, pull: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        log_probs = torch.log_softmax(centre, dim=-1)
        probs = torch.exp(log_probs)
        entropy = -(probs * log_probs).sum(-1, keepdim=True)
        d_centre = (action - probs) * pull[..., None] - probs * (log_probs + entropy) * weight[..., None]
        return d_centre, torch.zeros_like(spread)


def distribution_of(interface: Interface) -> Distribution:
    """The one that suits the actions."""
    return Categorical() if interface.discrete else Gaussian()
