"""A policy with a memory-augmented network (Santoro et al. 2016, https://proceedings.mlr.press/v48/santoro16.html).

Its fast state is a memory matrix, in which the least recently used slot is written, with the usage of its slots and the
controller's state, carried through the rollouts of a robot.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapt.actor_critic import input_size
from adapt.memory_based import MemoryBased, MemoryBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.mann import MANNSettings, MemoryAugmented


@dataclass(frozen=True)
class MANNLearnerSettings(MemoryBasedSettings):
    memory: MANNSettings = option(MANNSettings)


class MANN(MemoryBased):
    Settings = MANNLearnerSettings

    def __init__(self, interface: Interface, settings: MANNLearnerSettings) -> None:
        super().__init__(interface, settings, MemoryAugmented(input_size(interface, settings), settings.memory))
