"""Domain randomisation (Tobin et al. 2017, Peng et al. 2018): one policy for all robots, with nothing to adapt."""

from __future__ import annotations

from torch import Tensor

from adapt.actor_critic import ActorCritic, ActorCriticSettings
from hardware_io.interface import Interface


class DomainRandomised(ActorCritic):
    """A perceptron on the present observation and the previous action."""

    def __init__(self, interface: Interface, settings: ActorCriticSettings) -> None:
        super().__init__(interface, settings, memory=0)
        self.finish_setup()

    def policy_input_size(self) -> int:
        return self.input_size

    def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(inputs), memory

    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, memory
