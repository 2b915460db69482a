"""GrBAL (Nagabandi et al. 2019, https://arxiv.org/abs/1803.11347): a gradient step on the last steps adapts the model.

Training looks for a model from which one step on the error over the last M steps foretells the next K (equation 4).
What adapts is a context that the model reads (Zintgraf et al. 2019, https://arxiv.org/abs/1810.03642), so that little
is kept: the memory holds the gradient of each of the last M steps, and their mean is the step. Its length is learned
for each entry. Steps are worked out inside the graph, on the robot as in training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.model_based import ModelBased, ModelBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface


@dataclass(frozen=True)
class GrBALSettings(ModelBasedSettings):
    context: int = option(8, min=1, help="entries that adapt")
    past: int = option(16, min=1, unit="steps", help="whose error the context follows (M)")
    future: int = option(16, min=1, unit="steps", help="that it foretells in training (K)")
    inner_rate: float = option(10.0, min=1e-6, help="of the gradient step, as training begins")


class GrBAL(ModelBased):
    Settings = GrBALSettings

    def __init__(self, interface: Interface, settings: GrBALSettings) -> None:
        past, size = settings.past, settings.context
        super().__init__(interface, settings, size, memory=past * size, past=past, future=settings.future)
        self.log_rate = nn.Parameter(torch.full((size,), math.log(settings.inner_rate)))

    def learn(self, before: Tensor, action: Tensor, after: Tensor, memory: Tensor) -> Tensor:
        size = len(self.log_rate)
        gradient = self.model.context_gradient(before, action, after, torch.zeros_like(memory[:, :size]))
        return torch.cat([gradient, memory[:, :-size]], dim=-1)

    def read(self, memory: Tensor) -> Tensor:
        return -self.log_rate.exp() * memory.unflatten(-1, (self.past, -1)).mean(-2)
