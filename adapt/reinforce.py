"""REINFORCE (Williams 1992, https://doi.org/10.1007/BF00992696): the plain policy gradient, one policy for all tasks.

Softmax policies for discrete actions, Gaussian ones otherwise. The baseline is linear in features of each task's own
rollouts. Nothing adapts: the fast state is the count of adaptation steps, which stays zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.episodes import Episodes
from adapt.gradient_based import GradientBased, GradientBasedSettings, Samples
from adapt.outer import AdamSettings, OuterSettings
from hardware_io.config import option
from hardware_io.interface import Interface


@dataclass(frozen=True)
class OneEpoch(AdamSettings):
    """The gradient holds for the policy that sampled, so there is one step on each batch."""

    epochs: int = option(1, min=1, max=1)


@dataclass(frozen=True)
class OneStep(OuterSettings):
    method: str = option("ppo", choices=("ppo",))
    ppo: OneEpoch = option(OneEpoch)


@dataclass(frozen=True)
class ReinforceSettings(GradientBasedSettings):
    outer: OneStep = option(OneStep)


class Reinforce(GradientBased):
    Settings = ReinforceSettings
    in_graph = True  # there is nothing to do between rollouts

    def __init__(self, interface: Interface, settings: ReinforceSettings) -> None:
        super().__init__(interface, settings)
        self.kept = torch.ones(1, dtype=torch.bool)

    def weights(self, fast: Tensor) -> Tensor:
        return self.shared[None]

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        return fast

    def objective(self, stages: list[Samples]) -> Tensor:
        """Σ advantage · log π of all stages, summed over tasks."""
        gains = []
        for samples in stages:
            log_prob = self.distribution.log_prob(samples.action, *self.policy(samples.features, self.fast0(1)))
            gains.append((samples.advantage * log_prob).sum())
        return torch.stack(gains).mean()

    def divergence(self, stages: list[Samples]) -> Tensor:
        return super().divergence(stages[-1:])
