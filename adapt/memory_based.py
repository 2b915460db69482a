"""What memory-based learners share: a memory inside the graph that PPO trains through time over whole trials.

What the first rollout shows of a robot serves the next, because the memory is carried through the rollouts of a trial.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.actor_critic import ActorCritic, ActorCriticSettings
from adapt.episodes import Episodes
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.memory import MemoryModule


@dataclass(frozen=True)
class MemoryBasedSettings(ActorCriticSettings):
    """Those of the policy and the optimiser."""

    critic_reads_memory: bool = option(False, help="where the worth of a state depends on what is known by then")


class MemoryBased(ActorCritic):
    """Base of learners that differ in their `MemoryModule` alone, whose inputs are as wide as `input_size` says."""

    memory: MemoryModule
    carried = True  # from rollout to rollout

    def __init__(self, interface: Interface, settings: MemoryBasedSettings, memory: MemoryModule) -> None:
        self._reads, self._shared = memory.reads, settings.critic_reads_memory
        super().__init__(interface, settings, memory=memory.size)
        self.memory = memory
        self.kept &= self.carried
        self.finish_setup()

    def policy_input_size(self) -> int:
        return self.input_size + self._reads  # the present reaches the head directly as well

    def critic_input_size(self) -> int:
        return super().critic_input_size() + self._reads * self._shared

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        fast = super().fast0(batch)
        return torch.cat([self.memory.initial(batch), fast[:, self.memory_size :]], dim=-1)

    def critic_inputs(self, inputs: Tensor, episodes: Episodes) -> Tensor:
        known = super().critic_inputs(inputs, episodes)
        if not self._shared:
            return known
        start = episodes.fast[:, 0, : self.memory_size]
        reads = self.read_through(inputs[:, :, :-1], start, episodes.valid)[0][..., -self._reads :]
        return torch.cat([known, torch.cat([reads, reads[:, :, -1:]], dim=2)], dim=-1)

    def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        read, memory = self.memory.step(inputs, memory)
        return self.head(torch.cat([inputs, read], dim=-1)), memory

    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        reads = []
        for k in range(inputs.shape[1]):
            if k > 0 and not self.carried:
                memory = self.memory.initial(len(memory))
            read, memory = self.memory.unroll(inputs[:, k], memory, valid[:, k])
            reads.append(read)
        return torch.cat([inputs, torch.stack(reads, dim=1)], dim=-1), memory
