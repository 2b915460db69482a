"""A transformer whose attention is linear: what it remembers is one matrix a layer, however long it lives.

Attention without the softmax over time sums value ⊗ key into a matrix that queries read (Katharopoulos et al. 2020,
https://arxiv.org/abs/2006.16236); the matrix is the fast weights of a network that another one programs (Schlag et al.
2021, https://arxiv.org/abs/2102.11174; by reinforcement, Irie et al. 2021, https://arxiv.org/abs/2106.06295). Here keys
and queries are shares of `keys` places, so the matrix is a table of sums and counts, and what is read is a mean that is
drawn towards zero where little was seen. Some of the places forget, each at its own pace (as the heads of Sun et al.
2023, https://arxiv.org/abs/2307.08621), because a mean over a whole life hardly tells what happened just now. Each step
sees the inputs of the one before as well: what was seen, what was done and what came of it are one entry.

`H` queries a step, `N` places, `V` values, `B` batch, `T` time, `I` inputs, `W` width.
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
from policies.transformer import linear

CHUNK = 64  # steps that attend to each other; those of earlier chunks are read from the matrix
HALF_LIVES = (8, 128)  # steps, of the places that forget; a chunk of much more than the first would overflow


@dataclass(frozen=True)
class LinearTransformerSettings:
    """Sizes; the memory has layers · keys · (values + 1) numbers and the inputs of one step."""

    layers: int = option(2, min=1)
    width: int = option(64, min=2)
    queries: int = option(4, min=1, help="a step and layer")
    keys: int = option(32, min=1, help="places of each layer's table")
    values: int = option(16, min=1, help="of each place")
    recent: int = option(16, min=0, help="places that forget, half in 8 to 128 steps")

    def __post_init__(self) -> None:
        if self.recent > self.keys:
            raise ConfigError("", "recent", self.recent, f"at most keys, {self.keys}")


class LinearTransformer(MemoryModule):
    """`step` adds to the tables, `unroll` works on chunks of time at once, both with the same weights."""

    def __init__(self, size_in: int, settings: LinearTransformerSettings) -> None:
        super().__init__()
        layers, width = settings.layers, settings.width
        self.table = (settings.keys, settings.values + 1)
        self.sizes = [*[math.prod(self.table)] * layers, size_in]
        self.size, self.reads = sum(self.sizes), width
        self.embed = linear(2 * size_in, width, gain=math.sqrt(2))
        gain = 1 / math.sqrt(2 * layers)  # of what each of the two parts of a layer adds
        stack = nn.ModuleList(Layer(settings, gain) for _ in range(layers))
        self.layers = cast(Iterable[Layer], stack)
        self.norm = nn.LayerNorm(width)

    def step(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        *tables, before = memory.split(self.sizes, dim=-1)
        x, after = self.embed(torch.cat([inputs, before], dim=-1)), list[Tensor]()
        for layer, flat in zip(self.layers, tables, strict=True):
            query, key, value = layer.address(x)
            table = flat.unflatten(-1, self.table) * layer.keeps[:, None] + key[..., None] * value[..., None, :]
            x = layer.finish(x, query @ table)
            after.append(table.flatten(1))
        return self.norm(x), torch.cat([*after, inputs], dim=-1)

    def unroll(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        *tables, before = memory.split(self.sizes, dim=-1)
        every = torch.cat([before[:, None], torch.where(valid[..., None] > 0, inputs, 0.0)], dim=1)
        x, after = self.embed(torch.cat([every[:, 1:], every[:, :-1]], dim=-1)), list[Tensor]()
        for layer, flat in zip(self.layers, tables, strict=True):
            x, table = layer.unroll(x, flat.unflatten(-1, self.table), valid.to(x.dtype))
            after.append(table.flatten(1))
        last = (valid > 0).sum(-1)[:, None, None].expand(-1, 1, every.shape[-1])
        return self.norm(x), torch.cat([*after, every.gather(1, last)[:, 0]], dim=-1)


class Layer(nn.Module):
    """Reading from the table, then a small perceptron; both add to what comes in."""

    def __init__(self, settings: LinearTransformerSettings, gain: float) -> None:
        super().__init__()
        width, self.queries, self.keys, self.values = settings.width, settings.queries, settings.keys, settings.values
        self.attend_norm, self.think_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = linear(width, (self.queries + 1) * self.keys + self.values, gain=1.0)
        self.doubt = nn.Parameter(torch.zeros(self.queries))  # log of how many entries the pull towards zero weighs
        self.merge = linear(self.queries * (self.values + 1), width, gain)
        self.widen, self.narrow = linear(width, 2 * width, math.sqrt(2)), linear(2 * width, width, gain)
        first, last = (math.log2(steps) for steps in HALF_LIVES)
        half_lives = torch.full((self.keys,), math.inf)
        half_lives[: settings.recent] = torch.exp2(torch.linspace(first, last, settings.recent))
        self.register_buffer("keeps", torch.exp2(-1 / half_lives), persistent=False)  # (N,) share of an entry, a step
        self.keeps: Tensor

    def address(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (..., W) → queries (..., H, N), key (..., N), values and a count (..., V+1)."""
        places, value = self.project(self.attend_norm(x)).tensor_split([-self.values], dim=-1)
        shares = torch.softmax(places.unflatten(-1, (self.queries + 1, self.keys)), dim=-1)
        query, key = shares.tensor_split([self.queries], dim=-2)
        return query, key.squeeze(-2), functional.pad(value, (0, 1), value=1.0)

    def unroll(self, x: Tensor, table: Tensor, lived: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, W) with the table before them (B, N, V+1) → x and the table after the steps that were lived."""
        query, key, value = self.address(x)
        key, reads = key * lived[..., None], list[Tensor]()
        for q, k, v, alive in zip(*(one.split(CHUNK, 1) for one in (query, key, value, lived)), strict=True):
            steps, kept = k.shape[1], self.keeps ** alive.cumsum(1)[..., None]  # (B, C, N) of what was before
            flat, k = (q * kept[:, :, None]).flatten(1, 2), k / kept  # (B, C·H, N)
            past = x.new_ones(steps, steps).tril_().repeat_interleave(self.queries, dim=0)
            read = (flat @ k.mT * past) @ v + flat @ table
            reads.append(read.unflatten(1, (steps, self.queries)))
            table = (table + k.mT @ v) * kept[:, -1, :, None]
        return self.finish(x, torch.cat(reads, dim=1)), table

    def finish(self, x: Tensor, sums: Tensor) -> Tensor:
        """What follows reading sums and counts (..., H, V+1), alike at every step."""
        total, count = sums.tensor_split([self.values], dim=-1)
        mean = total / (count + self.doubt.exp()[:, None])
        x = x + self.merge(torch.cat([mean, torch.log1p(count)], dim=-1).flatten(-2))
        thought: Tensor = self.narrow(torch.relu(self.widen(self.think_norm(x))))
        return x + thought
