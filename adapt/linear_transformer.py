"""A policy with a transformer of linear attention (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236).

Its fast state is a table a layer of what it has lived through, whose size does not grow with time, carried through the
rollouts of a robot.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapt.actor_critic import input_size
from adapt.memory_based import MemoryBased, MemoryBasedSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.linear_transformer import LinearTransformer, LinearTransformerSettings


@dataclass(frozen=True)
class LinearTransformerLearnerSettings(MemoryBasedSettings):
    memory: LinearTransformerSettings = option(LinearTransformerSettings)


class LinearTransformerPolicy(MemoryBased):
    Settings = LinearTransformerLearnerSettings

    def __init__(self, interface: Interface, settings: LinearTransformerLearnerSettings) -> None:
        super().__init__(interface, settings, LinearTransformer(input_size(interface, settings), settings.memory))
