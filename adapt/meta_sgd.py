"""Meta-SGD (Li et al. 2017, https://arxiv.org/abs/1707.09835): MAML that also learns how far each parameter steps.

Direction and length of the inner step are learned (algorithm 2); a step size may turn negative. They are learned as
factors of `inner_rate`, all one at first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adapt.gradient_based import GradientBased, GradientBasedSettings
from hardware_io.interface import Interface


class MetaSGD(GradientBased):
    def __init__(self, interface: Interface, settings: GradientBasedSettings) -> None:
        super().__init__(interface, settings)
        self.step_sizes = nn.Parameter(torch.ones_like(self.shared))

    def rates(self, count: Tensor) -> Tensor:
        return self.step_sizes * super().rates(count)
