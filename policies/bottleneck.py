"""A stochastic encoder with an information bottleneck (Alemi et al. 2017, https://arxiv.org/abs/1612.00410, eq. 17).

What it tells of its inputs costs KL(E(z | inputs) ‖ N(0, I)): it keeps to itself what a policy gains nothing by.
`B` batch, `I` inputs, `Z` latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from policies.perceptron import Perceptron
from policies.varibad import divergence

QUIET = -2.0  # log-variance to begin with


class Encoder(nn.Module):
    """A perceptron that gives mean and log-variance of a diagonal normal distribution of the latent."""

    def __init__(self, size_in: int, hidden: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.network = Perceptron([size_in, *hidden, 2 * latent], 1.0)
        *_, bias = self.network.parameters()
        with torch.no_grad():  # noise as wide as the prior would drown what a policy might learn to read
            bias[latent:] = QUIET

    def draw(self, inputs: Tensor, noise: Tensor, price: Tensor) -> Tensor:
        """Latents (B, Z) of inputs (B, I), with standard normal noise (B, Z).

        A backward pass also descends on `price` (B, 1) times the divergence, summed over the batch.
        """
        moments: Tensor = Priced.apply(self.network.train_on(inputs), price)
        mean, log_variance = moments.chunk(2, dim=-1)
        return mean + torch.exp(0.5 * log_variance) * noise

    def told(self, inputs: Tensor) -> Tensor:
        """KL(E(z | inputs) ‖ N(0, I)) of inputs (B, I), in nats, (B,)."""
        moments = self.network(inputs)
        return divergence(moments, torch.zeros_like(moments))


class Priced(torch.autograd.Function):
    """Moments (B, 2Z) as they are; on the way back the gradient of their divergence from N(0, I) is added."""

    @staticmethod
    def forward(ctx: Any, moments: Tensor, price: Tensor) -> Tensor:
        ctx.save_for_backward(moments, price)
        return moments.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        moments, price = ctx.saved_tensors
        mean, log_variance = moments.chunk(2, dim=-1)
        return gradients[0] + price * torch.cat([mean, 0.5 * torch.expm1(log_variance)], dim=-1), None
