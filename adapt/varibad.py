"""VariBAD (Zintgraf et al. 2020, https://arxiv.org/abs/1910.08348): a policy that knows how sure it is of its task.

A GRU turns what was lived into a belief, a normal distribution over a latent of the task, and the policy reads mean and
log-variance of it. Encoder and decoders are a variational auto-encoder of whole trials: from the belief at any step the
rewards and motions of all steps, past and future, are to be foretold (eq. 8 to 10). Policy gradients end at the belief.
`N` steps of a trial, `Z` latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from adapt.actor_critic import input_size
from adapt.episodes import Episodes
from adapt.memory_based import MemoryBased, MemoryBasedSettings
from adapt.ppo import PPO
from hardware_io.config import ConfigError, option
from hardware_io.interface import Interface
from policies.varibad import Belief, Decoder, divergence, draw


@dataclass(frozen=True)
class VariBADSettings(MemoryBasedSettings):
    """The encoder and decoders learn from the trials of the present iteration alone, each once."""

    critic_reads_memory: bool = option(True, help="the belief")
    memory: int = option(64, min=1, help="units of the encoder's GRU")
    latent: int = option(5, min=1, help="Z")
    decoder: tuple[int, ...] = option((32, 32), min=1, help="units of the decoders' hidden layers")
    decode_motion: bool = option(True, help="as well as rewards that are seen; false where all tasks move alike")
    kl_weight: float = option(0.1, min=0.0)
    updates: int = option(8, min=1, help="steps of encoder and decoders an iteration, each on as many of its trials")
    sampled: int = option(32, min=1, help="steps of a trial whose belief foretells, and as many that it foretells")
    learning_rate: float = option(1e-3, min=0.0, help="of encoder and decoders")
    max_gradient: float = option(1.0, min=1e-6, help="norm to which their gradients are shortened")


class VariBAD(MemoryBased):
    Settings = VariBADSettings
    settings: VariBADSettings

    def __init__(self, interface: Interface, settings: VariBADSettings) -> None:
        super().__init__(interface, settings, Belief(input_size(interface, settings), settings.memory, settings.latent))
        self.interface = interface
        shown = {interface.previous_reward, interface.rollout_start}  # tell of the past, and that of rewards too much
        entries = [index for index in range(self.features.size) if index not in shown]
        self.register_buffer("state_entries", torch.tensor(entries), persistent=False)
        self.state_entries: Tensor
        state, known = len(entries), settings.latent + len(entries) + interface.actions
        self.decoders = dict[str, Decoder]()
        if interface.previous_reward is not None:
            self.decoders["reward"] = Decoder(known + state, settings.decoder, 1)
        if settings.decode_motion:
            self.decoders["motion"] = Decoder(known, settings.decoder, state)
        if not self.decoders:
            raise ConfigError("learner", "decode_motion", False, "true where the observation shows no rewards")
        self.decoder = nn.ModuleDict(self.decoders)
        self._coders = [*self.memory.parameters(), *self.decoder.parameters()]
        self.vae = torch.optim.Adam(self._coders, settings.learning_rate)

    def finish_setup(self) -> None:
        """The policy's gradients do not reach the encoder (section 3.4)."""
        self.optimiser = PPO(list(self.head.parameters()), self.head, self.critic, self.settings.ppo)

    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return super().read_through(inputs, memory, valid)

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        metrics = super().meta_update(support, query)
        return metrics | self._learn_to_believe(reduce(Episodes.then, [*support, query]))

    def transitions(self, episodes: Episodes) -> dict[str, tuple[Tensor, Tensor]]:
        """What each decoder is told of every step beside a latent, and what it is to foretell, (B, N, ·)."""
        state = self.state(episodes.observation)
        before, after = state[:, :, :-1], state[:, :, 1:]
        done = [before, episodes.asked / self.limit]
        both = {
            "reward": (torch.cat([*done, after], dim=-1), episodes.reward[..., None]),
            "motion": (torch.cat(done, dim=-1), after - before),
        }
        return {name: (both[name][0].flatten(1, 2), both[name][1].flatten(1, 2)) for name in self.decoders}

    def state(self, observation: Tensor) -> Tensor:
        """What decoders see of observations (..., O): all but what was paid and what begins, (..., D)."""
        return self.features(observation).index_select(-1, self.state_entries)

    def beliefs(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> Tensor:
        """The belief at each step of trials, (B, N, 2Z), with gradients; after a rollout's end, its last one."""
        read, _ = super().read_through(inputs, memory, valid)
        last = valid.sum(-1, keepdim=True) - 1
        lived = torch.arange(valid.shape[-1], device=valid.device).minimum(last)[..., None]
        belief = read[..., self.input_size :]
        return belief.gather(2, lived.expand_as(belief)).flatten(1, 2)

    def _learn_to_believe(self, episodes: Episodes) -> dict[str, float]:
        """Steps of encoder and decoders on the negative evidence lower bound; returns metrics."""
        with torch.no_grad():
            inputs, known = self.inputs(episodes)[:, :, :-1], self.transitions(episodes)
        told = episodes.valid.clone()
        if self.interface.rollout_start is not None:  # where an episode of a rollout begins, nobody moved there
            told &= episodes.observation[:, :, 1:, self.interface.rollout_start] == 0
        told = told.flatten(1)
        for name, (_, target) in known.items():
            self.decoders[name].scale.update(target[told])
        memory, lived = episodes.fast[:, 0, : self.memory_size], episodes.valid.flatten(1)
        totals = torch.zeros(2, device=inputs.device)
        parts = torch.randperm(len(inputs)).to(inputs.device).split(math.ceil(len(inputs) / self.settings.updates))
        for part in parts:
            belief = self.beliefs(inputs[part], memory[part], episodes.valid[part])
            transitions = {name: (what[part], target[part]) for name, (what, target) in known.items()}
            surprise, kl = self._bound(belief, transitions, lived[part], told[part])
            self.vae.zero_grad()
            (surprise + self.settings.kl_weight * kl).backward()
            nn.utils.clip_grad_norm_(self._coders, self.settings.max_gradient)
            self.vae.step()
            totals += torch.stack([surprise, kl]).detach()
        surprise, kl = (totals / len(parts)).tolist()
        return {"surprise": surprise, "belief_kl": kl}

    def _bound(
        self, belief: Tensor, transitions: dict[str, tuple[Tensor, Tensor]], lived: Tensor, told: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both terms of the bound (eq. 8), means over steps: −log p of a trial; divergence from the belief before.

        The first is estimated from some steps of the trial (B, N), as seen from the belief at others. `lived` (B, N)
        says which steps were, and `told` of which of them what came next was seen.
        """
        before = torch.cat([torch.zeros_like(belief[:, :1]), belief[:, :-1]], dim=1)  # at first, standard normal
        kl = (divergence(belief, before) * lived).sum() / lived.sum()
        moments, steps = (torch.randperm(belief.shape[1])[: self.settings.sampled].to(belief.device) for _ in range(2))
        latent = draw(belief.index_select(1, moments))
        weight = lived.index_select(1, moments)[:, :, None] * told.index_select(1, steps)[:, None]
        surprise = torch.stack(
            [
                self.decoders[name].surprise(latent, what.index_select(1, steps), target.index_select(1, steps))
                for name, (what, target) in transitions.items()
            ]
        ).sum(0)
        return (surprise * weight).sum() / weight.sum().clamp(min=1) * told.sum() / len(told), kl

    def optimiser_state(self) -> dict[str, Any]:
        return {"ppo": super().optimiser_state(), "vae": self.vae.state_dict()}

    def load_optimiser_state(self, state: dict[str, Any]) -> None:
        super().load_optimiser_state(state["ppo"])
        self.vae.load_state_dict(state["vae"])
