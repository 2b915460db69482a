"""A policy with a causal transformer over what happened (Parisotto et al. 2019, Melo 2022, https://arxiv.org/abs/2206.06614).

Its fast state is a bounded cache of keys and values, carried through the rollouts of a robot.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapt.actor_critic import input_size
from adapt.memory_based import MemoryBased, MemoryBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.transformer import Transformer, TransformerSettings


@dataclass(frozen=True)
class TransformerLearnerSettings(MemoryBasedSettings):
    memory: TransformerSettings = option(TransformerSettings)


class TransformerPolicy(MemoryBased):
    Settings = TransformerLearnerSettings

    def __init__(self, interface: Interface, settings: TransformerLearnerSettings) -> None:
        super().__init__(interface, settings, Transformer(input_size(interface, settings), settings.memory))
