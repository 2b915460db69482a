"""ProMP (Rothfuss et al. 2019, https://arxiv.org/abs/1810.06784): MAML with a better estimate of curvature.

The inner objective is the likelihood ratio, whose second derivatives estimate the Hessian with little variance (the
low-variance curvature estimator, eq. 9), where MAML's log-likelihood leaves a bias. The outer objective is clipped and
held to the policies that sampled before each adaptation (eq. 12).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.gradient_based import GradientBased, GradientBasedSettings, Samples
from adapt.outer import ClippedSettings
from hardware_io.config import option
from hardware_io.interface import Interface


@dataclass(frozen=True)
class ProMPSettings(GradientBasedSettings):
    kl_penalty: float = option(5e-4, min=0.0, help="of policies before adaptation (the paper's η)")
    outer: ClippedSettings = option(ClippedSettings)


class ProMP(GradientBased):
    Settings = ProMPSettings
    likelihood_ratio = True

    def __init__(self, interface: Interface, settings: ProMPSettings) -> None:
        super().__init__(interface, settings)
        self.kl_penalty = settings.kl_penalty

    def objective(self, stages: list[Samples]) -> Tensor:
        moved = torch.zeros((), dtype=self.shared.dtype, device=self.shared.device)
        for index, before in enumerate(stages[:-1]):
            moved = moved + self.divergence([*stages[:index], before])
        return super().objective(stages) - self.kl_penalty * moved
