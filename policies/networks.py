"""Small networks: a GRU that can be trained fused and exported as a cell, a Gaussian head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from policies.gru import UnrolledGRU
from policies.perceptron import Perceptron


class Memory(nn.Module):
    """A GRU: `unroll` over sequences for training, `step` as plain arithmetic on the same weights.

    The step is what is exported: ONNX Runtime's fused GRU turns NaN into finite numbers and so hides a fault.
    """

    def __init__(self, size_in: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.w_in = nn.Parameter(torch.empty(3 * size, size_in))
        self.w_state = nn.Parameter(torch.empty(3 * size, size))
        self.b_in, self.b_state = nn.Parameter(torch.zeros(3 * size)), nn.Parameter(torch.zeros(3 * size))
        for weight in (self.w_in, self.w_state):
            for gate in weight.chunk(3):
                nn.init.orthogonal_(gate)

    def unroll(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """Inputs (B, T, I) and the state before them (B, H) → states after each (B, T, H)."""
        weights = self.w_in, self.w_state, self.b_in, self.b_state
        states: Tensor = UnrolledGRU.apply(inputs.transpose(0, 1), hidden, *weights)
        return states.transpose(0, 1)

    def step(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """Inputs (B, I) and state (B, H) → next state (B, H) (Cho et al. 2014, with PyTorch's placing of the reset)."""
        reset_in, update_in, new_in = (inputs @ self.w_in.T + self.b_in).chunk(3, dim=-1)
        reset_state, update_state, new_state = (hidden @ self.w_state.T + self.b_state).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_in + reset_state)
        update = torch.sigmoid(update_in + update_state)
        candidate = torch.tanh(new_in + reset * new_state)
        return candidate + update * (hidden - candidate)


class GaussianHead(nn.Module):
    """Features → mean of a diagonal Gaussian with a learned, state-independent standard deviation."""

    LOWEST, HIGHEST = math.log(0.05), math.log(1.0)

    def __init__(self, sizes: list[int], initial_std: float) -> None:
        super().__init__()
        self.network = Perceptron(sizes, output_gain=0.01)
        self._log_std = nn.Parameter(torch.full((sizes[-1],), math.log(initial_std)))

    @property
    def log_std(self) -> Tensor:
        """(A,)"""
        return self._log_std.clamp(self.LOWEST, self.HIGHEST)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) → mean (..., A)."""
        return self.network(inputs)

    def train_on(self, inputs: Tensor) -> Tensor:
        """The same as `forward`, for training: first derivatives only."""
        return self.network.train_on(inputs)


def gaussian_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of actions (..., A) under a diagonal Gaussian, (...,)."""
    scaled = (action - mean) * torch.exp(-log_std)
    return -0.5 * (scaled**2).sum(-1) - log_std.sum(-1) - 0.5 * math.log(2 * math.pi) * action.shape[-1]
