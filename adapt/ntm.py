"""A policy with a Neural Turing Machine (Graves et al. 2014, https://arxiv.org/abs/1410.5401).

Its fast state is a memory matrix with the heads' weightings and the controller's state, carried through the rollouts of
a robot as that of RL² is.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapt.actor_critic import input_size
from adapt.memory_based import MemoryBased, MemoryBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.ntm import NeuralTuringMachine, NTMSettings


@dataclass(frozen=True)
class NTMLearnerSettings(MemoryBasedSettings):
    memory: NTMSettings = option(NTMSettings)


class NTM(MemoryBased):
    Settings = NTMLearnerSettings

    def __init__(self, interface: Interface, settings: NTMLearnerSettings) -> None:
        super().__init__(interface, settings, NeuralTuringMachine(input_size(interface, settings), settings.memory))
