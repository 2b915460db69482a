"""What a task is, learned from what happened in it: a representation, and a model that it makes specific.

The encoder takes the mean over transitions, so that neither their order nor their number matters (Zaheer et al. 2017,
https://arxiv.org/abs/1703.06114). Both are trained to foretell rewards and changes of the state that the encoder has
not seen. `B` tasks, `N` transitions, `S` state, `A` action, `X` = 2 S + A + 1 transition, `Z` representation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policies.perceptron import Perceptron


class TaskModel(nn.Module):
    """A transition is state, action, reward and change of the state, all scaled, in this order."""

    def __init__(self, state: int, action: int, size: int, hidden: int) -> None:
        super().__init__()
        self.parts = [state + action, 1 + state]  # what a prediction starts from, what it foretells
        self.encoder = Perceptron([sum(self.parts), hidden, hidden, size], output_gain=1.0)
        self.predictor = Perceptron([size + self.parts[0], hidden, hidden, self.parts[1]], output_gain=0.1)

    def encode(self, transitions: Tensor) -> Tensor:
        """(..., N, X) → (..., Z)."""
        encoded: Tensor = self.encoder(transitions)
        return encoded.mean(-2)

    def error(self, latent: Tensor, transitions: Tensor) -> Tensor:
        """Mean squared error, (...,), of what a representation (..., Z) foretells of transitions (..., N, X)."""
        given, outcome = transitions.split(self.parts, dim=-1)
        latent = latent[..., None, :].expand(*given.shape[:-1], -1)
        foretold = self.predictor(torch.cat([latent, given], dim=-1))
        return (foretold - outcome).square().mean((-2, -1))
