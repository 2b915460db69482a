"""RL² (Duan et al. 2016, https://arxiv.org/abs/1611.02779): a recurrent policy that learns while it acts.

Its fast state is the hidden state of a GRU, carried through the rollouts of a robot; PPO trains it through time over
whole trials, so that what the first rollout shows of the robot serves the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.actor_critic import ActorCritic, ActorCriticSettings
from hardware_io.config import option
from hardware_io.spec import RobotSpec
from policies.networks import Memory
from sim.dynamics import DynamicsRange


@dataclass(frozen=True)
class RL2Settings(ActorCriticSettings):
    memory: int = option(64, min=1, help="units of the GRU")


class RL2(ActorCritic):
    Settings = RL2Settings

    def __init__(self, spec: RobotSpec, ranges: DynamicsRange, settings: RL2Settings) -> None:
        super().__init__(spec, ranges, settings, memory=settings.memory)
        self.memory = Memory(self.input_size, settings.memory)
        self.finish_setup()

    def policy_input_size(self) -> int:
        return self.input_size + self.memory_size  # the present reaches the head directly as well

    def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.memory.step(inputs, memory)
        return self.head(torch.cat([inputs, memory], dim=-1)), memory

    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        last = (valid.sum(-1) - 1).clamp(min=0).long()  # (B, K): the memory stops where a rollout ended
        states = []
        for k in range(inputs.shape[1]):
            states.append(self.memory.unroll(inputs[:, k], memory))
            memory = states[k].gather(1, last[:, k, None, None].expand(-1, 1, self.memory_size))[:, 0]
        return torch.cat([inputs, torch.stack(states, dim=1)], dim=-1), memory
