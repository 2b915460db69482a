"""A causal transformer over the last steps of a robot, as a memory of fixed size.

The memory is the keys and values of the last steps in every layer (Transformer-XL's cache, Dai et al. 2019,
https://arxiv.org/abs/1901.02860). Layers normalise before they compute and add to a path that is left alone, which
keeps them trainable by reinforcement (Parisotto et al. 2019, https://arxiv.org/abs/1910.06764). Where a step lies is
told by a learned bias of each head for each distance, begun like ALiBi (Press et al. 2022,
https://arxiv.org/abs/2108.12409), so that entries of the cache stay as they are while they move back.

`W` window, `H` heads, `S` = width / heads, `B` batch, `T` time; a cache is (B, 2, H, W-1, S): keys before values, the
oldest first. Each layer reaches W-1 steps further back: what is read depends on the last layers · (W-1) + 1 steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hardware_io.config import ConfigError, option
from policies.memory import MemoryModule

NEVER = -1e9  # added to a score, leaves a weight of exactly 0; finite, because 0 times infinity would be NaN


@dataclass(frozen=True)
class TransformerSettings:
    """Sizes; the memory has (window - 1) (2 layers · width + 1) numbers."""

    layers: int = option(2, min=1)
    width: int = option(32, min=1, help="of every layer, a multiple of heads")
    heads: int = option(2, min=1, help="more take time in training: 4 a third more than 2")
    window: int = option(32, min=2, unit="steps", help="that a layer sees, the present one included")

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError("", "width", self.width, f"a multiple of heads, {self.heads}")


class Transformer(MemoryModule):
    """`step` works on a sliding window, `unroll` on all of time at once, both with the same weights.

    The memory is the cache of every layer, then for each of its W-1 steps whether there was one (1 or 0): a fault that
    makes NaN of any of these numbers shows in what is read, also in the one that is about to leave the window.
    """

    def __init__(self, size_in: int, settings: TransformerSettings) -> None:
        super().__init__()
        layers, width, heads, window = settings.layers, settings.width, settings.heads, settings.window
        self.cache_shape = (2, heads, window - 1, width // heads)
        self.reads, self.window = width, window
        self.sizes = [*[math.prod(self.cache_shape)] * layers, window - 1]
        self.size = sum(self.sizes)
        self.embed = linear(size_in, width, gain=math.sqrt(2))
        gain = 1 / math.sqrt(2 * layers)  # of what each of the two parts of a layer adds
        stack = nn.ModuleList(Layer(width, heads, window, gain) for _ in range(layers))
        self.layers = cast(Iterable[Layer], stack)
        self.norm = nn.LayerNorm(width)

    def step(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Roll every cache by one step and attend to what is in it."""
        *caches, present = memory.split(self.sizes, dim=-1)
        present = torch.cat([present, torch.ones_like(memory[:, :1])], dim=-1)  # (B, W), 1 where there was a step
        absent = (1 - present)[:, None, None] * NEVER
        x, after = self.embed(inputs), list[Tensor]()
        for layer, flat in zip(self.layers, caches, strict=True):
            x, cache = layer.step(x, flat.unflatten(-1, self.cache_shape), absent)
            after.append(cache.flatten(1))
        return self.norm(x), torch.cat([*after, present[:, 1:]], dim=-1)

    def unroll(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """All steps at once.

        What is read after a rollout's end means nothing, and nothing depends on inputs there.
        """
        time, (*caches, present) = inputs.shape[1], memory.split(self.sizes, dim=-1)
        # Queries attend in blocks of about the window's length, so that the work grows with T and not with T².
        count = math.ceil(time / self.window)
        block = math.ceil(time / count)
        inputs = torch.where(valid[..., None] > 0, inputs, 0.0)
        inputs = functional.pad(inputs, (0, 0, 0, count * block - time))
        present = torch.cat([present, present.new_ones(len(present), count * block)], dim=-1)
        absent = ((1 - present) * NEVER).unfold(1, self.window - 1 + block, block)[:, None, :, None]
        kept = (valid > 0).sum(-1)[:, None] + torch.arange(self.window - 1, device=valid.device)  # (B, W-1)
        x, after = self.embed(inputs), list[Tensor]()
        for layer, flat in zip(self.layers, caches, strict=True):
            x, entries = layer.unroll(x, flat.unflatten(-1, self.cache_shape), absent, block)
            index = kept[:, None, None, :, None].expand(-1, *self.cache_shape)
            after.append(entries.gather(3, index).flatten(1))
        return self.norm(x[:, :time]), torch.cat([*after, present.gather(1, kept)], dim=-1)


class Layer(nn.Module):
    """Attention, then a small perceptron; both add to what comes in."""

    def __init__(self, width: int, heads: int, window: int, gain: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1 / math.sqrt(width // heads)
        self.attend_norm, self.think_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = linear(width, 3 * width, gain=1.0)
        self.merge = linear(width, width, gain)
        self.widen, self.narrow = linear(width, 2 * width, math.sqrt(2)), linear(2 * width, width, gain)
        slopes = torch.exp2(-8 * torch.arange(1, heads + 1) / heads)
        self.bias = nn.Parameter(slopes[:, None] * torch.arange(1 - window, 1))  # (H, W), the present last

    def step(self, x: Tensor, cache: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, width), its cache and what to add to scores (B, 1, 1, W) → x and the cache after this step."""
        now = self.project(self.attend_norm(x)).view(-1, 3, self.heads, 1, x.shape[-1] // self.heads)
        entries = torch.cat([cache, now[:, 1:]], dim=3)
        scores = (self.scale * now[:, 0]) @ entries[:, 0].mT + self.bias[:, None] + absent  # (B, H, 1, W)
        mixed = torch.softmax(scores, dim=-1) @ entries[:, 1]
        return self.finish(x, mixed.flatten(1)), entries[:, :, :, 1:]

    def unroll(self, x: Tensor, cache: Tensor, absent: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """x (B, T, width) for T of whole blocks → x and all keys and values (B, 2, H, W-1+T, S)."""
        now = self.project(self.attend_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(0, 2, 3, 1, 4)
        entries = torch.cat([cache, now[:, 1:]], dim=3)
        windows = entries.unfold(3, cache.shape[3] + block, block)  # (B, 2, H, blocks, S, W-1+block)
        query = (self.scale * now[:, 0]).unflatten(2, (-1, block))  # (B, H, blocks, block, S)
        scores = (query @ windows[:, 0]).add_(self.banded_bias(block)).add_(absent)
        mixed = torch.softmax(scores, dim=-1) @ windows[:, 1].mT
        return self.finish(x, mixed.permute(0, 2, 3, 1, 4).reshape(x.shape)), entries

    def banded_bias(self, block: int) -> Tensor:
        """The bias of each query for each key it may see, NEVER for others: (H, 1, block, W-1+block).

        Each row is the one above moved by one: rows that are one too long, cut to length as if they were one line.
        """
        outside = self.bias.new_full((len(self.bias), block), NEVER)
        row = torch.cat([self.bias, outside], dim=-1)
        length = row.shape[-1] - 1
        return row.repeat(1, block)[:, : block * length].view(-1, 1, block, length)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention, alike at every step."""
        x = x + self.merge(mixed)
        thought: Tensor = self.narrow(torch.relu(self.widen(self.think_norm(x))))
        return x + thought


def linear(size_in: int, size_out: int, gain: float) -> nn.Linear:
    """Orthogonal weights and no offset to begin with, as in `Perceptron`."""
    layer = nn.Linear(size_in, size_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
