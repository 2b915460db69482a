"""From the weights of one task's network to those of another's: a linear map that both tasks' representations make.

A matrix between all weights of two networks would have W² entries. Here each layer has a map of its own, I + U Vᵀ of
low rank, which turns and scales what the layer's units give. `B` tasks, `C` sources of each, `Z` representation,
`W` weights, `O` and `I` units after and before a layer, `R` rank.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from policies.perceptron import Perceptron


class MappingNetwork(nn.Module):
    """`sizes` are the units of all layers of the networks that are mapped. Begins near the identity."""

    def __init__(self, sizes: list[int], latent: int, rank: int, hidden: int) -> None:
        super().__init__()
        self.rank, self.layers = rank, list(pairwise(sizes))
        factors = rank * sum(size_out for _, size_out in self.layers)
        self.left = Perceptron([2 * latent, hidden, factors], output_gain=0.01)
        self.right = Perceptron([2 * latent, hidden, factors], output_gain=1.0)

    def forward(self, weights: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Weights (B, C, W) of sources (B, C, Z), for targets (B, Z) → weights (B, C, W)."""
        pair = torch.cat([source, target[:, None].expand_as(source)], dim=-1)
        widths = [self.rank * size_out for _, size_out in self.layers]
        factors = self.left(pair).split(widths, dim=-1), self.right(pair).split(widths, dim=-1)
        parts = weights.split([size for i, o in self.layers for size in (o * i, o)], dim=-1)
        mapped = []
        for (size_in, size_out), weight, bias, left, right in zip(
            self.layers, parts[::2], parts[1::2], *factors, strict=True
        ):
            layer = torch.cat([weight.unflatten(-1, (size_out, size_in)), bias[..., None]], dim=-1)  # (B, C, O, I + 1)
            u, v = (factor.unflatten(-1, (size_out, self.rank)) for factor in (left, right))
            layer = layer + u @ (v.mT @ layer) / size_out**0.5
            mapped += [layer[..., :-1].flatten(2), layer[..., -1]]
        return torch.cat(mapped, dim=-1)
