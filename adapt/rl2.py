"""RL² (Duan et al. 2016, https://arxiv.org/abs/1611.02779): a recurrent policy that learns while it acts.

Its fast state is the hidden state of a GRU, carried through the rollouts of a robot.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapt.actor_critic import input_size
from adapt.memory_based import MemoryBased, MemoryBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.networks import Memory


@dataclass(frozen=True)
class RL2Settings(MemoryBasedSettings):
    memory: int = option(64, min=1, help="units of the GRU")


class RL2(MemoryBased):
    Settings = RL2Settings

    def __init__(self, interface: Interface, settings: RL2Settings) -> None:
        super().__init__(interface, settings, Memory(input_size(interface, settings), settings.memory))
