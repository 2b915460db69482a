"""A diagonal Gaussian behind a hyperbolic tangent: actions that cannot leave their limits, with a density.

As in soft actor-critic (Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905, appendix C). Stateless.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

# Of the logarithm of the standard deviation: exploration neither dies out nor drowns what is done.
LOWEST, HIGHEST = math.log(0.01), math.log(3.0)


class SquashedGaussian:
    """`centre` and `spread` (..., A) are mean and log standard deviation before the tangent; ±1 is the limit after."""

    def sample(self, centre: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        """The action (..., A) before the tangent that standard normal noise (..., A) stands for."""
        return centre + torch.exp(spread) * noise

    def bounded(self, action: Tensor) -> Tensor:
        """What is carried out of an action, (..., A)."""
        return torch.tanh(action)

    def log_prob(self, action: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        """Log-density (...,) of what is carried out of the action (..., A) that the noise stands for.

        The tangent's log-derivative, log(1 - tanh²a), is written so that it is exact where it is tiny.
        """
        normal = -0.5 * noise**2 - spread - 0.5 * math.log(2 * math.pi)
        return (normal - 2 * (math.log(2) - action - softplus(-2 * action))).sum(-1)
