"""Reptile (Nichol et al. 2018, https://arxiv.org/abs/1803.02999): move towards where several inner steps end.

The paper is about supervised tasks. With policy gradients a batch is the rollouts before or after an adaptation: the
inner loop takes `inner_steps` on each, those after the last adaptation included, and the shared parameters go a part
of the way, θ ← θ + ε (θ′ − θ), a mean over tasks (algorithm 2). No derivative of an inner step is needed. Steps that
follow the first on the same rollouts are weighed by the likelihood ratio, because another policy sampled them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.gradient_based import GradientBased, GradientBasedSettings, Samples
from hardware_io.config import option
from hardware_io.interface import Interface


@dataclass(frozen=True)
class ReptileSettings(GradientBasedSettings):
    inner_steps: int = option(3, min=1, help="on the same rollouts")
    outer_rate: float = option(0.25, min=0.0, max=1.0, help="part of the way to the adapted parameters (ε)")


class Reptile(GradientBased):
    Settings = ReptileSettings
    second_order = False
    likelihood_ratio = True

    def __init__(self, interface: Interface, settings: ReptileSettings) -> None:
        super().__init__(interface, settings)
        self.inner_steps, self.outer_rate = settings.inner_steps, settings.outer_rate

    def inner_step(self, fast: Tensor, samples: Samples) -> Tensor:
        for _ in range(self.inner_steps):
            fast = super().inner_step(fast, samples)
        return fast

    @torch.no_grad()
    def outer_step(self, stages: list[Samples]) -> dict[str, float]:
        outer, tasks = self.outer, len(stages[0].weight)
        share = outer.warm_up_share()
        ends = torch.cat([self.adapted([s.of(part) for s in stages]) for part in self.chunks(stages)])
        move = ends[:, :-1].sum(0) / tasks
        outer.check(move)
        self.shared.add_(move, alpha=self.outer_rate * share)
        outer.iteration += 1
        return {"move": move.norm().item(), "rate": self.outer_rate * share}
