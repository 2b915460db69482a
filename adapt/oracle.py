"""The privileged oracle: domain randomisation with the true hidden parameters in the fast state.

What a learner could reach that knew its robot from the first step; on a real robot it starts from the nominal one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapt.actor_critic import ActorCritic, ActorCriticSettings
from hardware_io.interface import Interface


class Oracle(ActorCritic):
    """A perceptron on the observation, the previous action and the hidden parameters."""

    def __init__(self, interface: Interface, settings: ActorCriticSettings) -> None:
        super().__init__(interface, settings, memory=len(interface.bounds))
        self.register_buffer("nominal", torch.tensor(interface.nominal, dtype=torch.float32))
        self.nominal: Tensor
        self.finish_setup()

    def policy_input_size(self) -> int:
        return self.input_size + self.memory_size

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        fast = super().fast0(batch)
        known = self.nominal.expand(batch, -1) if dynamics is None else dynamics
        fast[:, : self.memory_size] = self.normalise(known)
        return fast

    def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(torch.cat([inputs, memory], dim=-1)), memory

    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        known = memory[:, None, None].expand(*inputs.shape[:3], -1)
        return torch.cat([inputs, known], dim=-1), memory
