"""A policy with Meta Networks' fast weights (Munkhdalai & Yu 2017, https://arxiv.org/abs/1703.00837).

Its fast state is a memory of weights that were made from what the network foretold wrongly, carried through the
rollouts of a robot.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapt.actor_critic import input_size
from adapt.memory_based import MemoryBased, MemoryBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.meta_networks import FastWeights, FastWeightsSettings


@dataclass(frozen=True)
class MetaNetworksLearnerSettings(MemoryBasedSettings):
    memory: FastWeightsSettings = option(FastWeightsSettings)


class MetaNetworks(MemoryBased):
    Settings = MetaNetworksLearnerSettings

    def __init__(self, interface: Interface, settings: MetaNetworksLearnerSettings) -> None:
        super().__init__(interface, settings, FastWeights(input_size(interface, settings), settings.memory))
