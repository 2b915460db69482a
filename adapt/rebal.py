"""ReBAL (Nagabandi et al. 2019, https://arxiv.org/abs/1803.11347): the model adapts by a memory of the last steps.

A GRU reads what each step led to, and its state is the context of the model. It is trained by what the model foretells
of the steps that follow (equation 5), and carried through the rollouts of a robot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.model_based import ModelBased, ModelBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.networks import Memory


@dataclass(frozen=True)
class ReBALSettings(ModelBasedSettings):
    memory: int = option(16, min=1, help="units of the GRU")
    past: int = option(16, min=1, unit="steps", help="through which it is trained (M)")
    future: int = option(16, min=1, unit="steps", help="that the model then foretells in training (K)")


class ReBAL(ModelBased):
    Settings = ReBALSettings

    def __init__(self, interface: Interface, settings: ReBALSettings) -> None:
        size = settings.memory
        super().__init__(interface, settings, size, memory=size, past=settings.past, future=settings.future)
        self.memory = Memory(self.model.features.size + interface.actions + interface.observation, size)

    def learn(self, before: Tensor, action: Tensor, after: Tensor, memory: Tensor) -> Tensor:
        inputs = torch.cat([self.model.features(before), action, self.model.moved(before, after)], dim=-1)
        return self.memory.step(inputs, memory)[1]
