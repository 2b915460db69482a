"""Small networks: a GRU that can be trained fused and exported as a cell, and the head that gives actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hardware_io.interface import Interface
from policies.distributions import Gaussian, distribution_of
from policies.gru import UnrolledGRU
from policies.memory import MemoryModule
from policies.perceptron import Perceptron


class Memory(MemoryModule):
    """A GRU: `unroll` over sequences for training, `step` as plain arithmetic on the same weights.

    The step is what is exported: ONNX Runtime's fused GRU turns NaN into finite numbers and so hides a fault.
    """

    def __init__(self, size_in: int, size: int) -> None:
        super().__init__()
        self.size = self.reads = size
        self.w_in = nn.Parameter(torch.empty(3 * size, size_in))
        self.w_state = nn.Parameter(torch.empty(3 * size, size))
        self.b_in, self.b_state = nn.Parameter(torch.zeros(3 * size)), nn.Parameter(torch.zeros(3 * size))
        for weight in (self.w_in, self.w_state):
            for gate in weight.chunk(3):
                nn.init.orthogonal_(gate)

    def unroll(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.w_in, self.w_state, self.b_in, self.b_state
        states: Tensor = UnrolledGRU.apply(inputs.transpose(0, 1), memory, *weights)
        lived = valid.sum(-1).long()[:, None, None].expand(-1, 1, self.size)  # the memory stops where a rollout ended
        every = torch.cat([memory[:, None], states.transpose(0, 1)], dim=1)
        return every[:, 1:], every.gather(1, lived)[:, 0]

    def step(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Cho et al. 2014, with PyTorch's placing of the reset gate."""
        reset_in, update_in, new_in = (inputs @ self.w_in.T + self.b_in).chunk(3, dim=-1)
        reset_state, update_state, new_state = (memory @ self.w_state.T + self.b_state).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_in + reset_state)
        update = torch.sigmoid(update_in + update_state)
        candidate = torch.tanh(new_in + reset * new_state)
        state = candidate + update * (memory - candidate)
        return state, state


class ActionHead(nn.Module):
    """Features → centre of the distribution of actions; a Gaussian's standard deviation is learned, but not a function.

    `LOWEST` and `HIGHEST` bound its logarithm.
    """

    LOWEST, HIGHEST = math.log(0.05), math.log(1.0)

    def __init__(self, sizes: list[int], interface: Interface, initial_std: float) -> None:
        super().__init__()
        self.distribution = distribution_of(interface)
        self.network = Perceptron([*sizes, interface.actions], output_gain=0.01)
        gaussian = isinstance(self.distribution, Gaussian)
        start = torch.full((interface.actions if gaussian else 0,), math.log(initial_std))
        self._log_std = nn.Parameter(start, requires_grad=gaussian)

    @property
    def spread(self) -> Tensor:
        """Log standard deviation (A,), or (0,) for choices."""
        return self._log_std.clamp(self.LOWEST, self.HIGHEST)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) → centre (..., A)."""
        return self.network(inputs)

    def pull_spread(self, derivative: Tensor) -> None:
        """Add to the parameter's gradient one by the spread (A,), which beyond the bounds only leads back."""
        if self._log_std.grad is not None:
            beyond = self._log_std - self.spread
            leads = (beyond == 0) | (beyond * derivative > 0)
            self._log_std.grad.addcmul_(derivative, leads.to(derivative.dtype))
