"""RMA (Kumar et al. 2021, https://arxiv.org/abs/2107.04034): a policy of few extrinsics, which its own motion tells.

First an expert is trained by PPO: an encoder makes extrinsics z of the true hidden parameters, and the policy reads
them (section III-A). Then the expert stays as it is, acts on what a module estimates from the last steps, and the
module learns by regression to z (section III-B). What is exported is policy and module. Without an encoder the module
tells the hidden parameters themselves: system identification (Yu et al. 2017, https://arxiv.org/abs/1702.02453).
`P` hidden parameters, `Z` extrinsics, `I` inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from adapt.actor_critic import ActorCritic, ActorCriticSettings, input_size
from adapt.episodes import Episodes
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.perceptron import Perceptron
from policies.rma import WINDOW, AdaptationModule


@dataclass(frozen=True)
class RMASettings(ActorCriticSettings):
    """Module and expert have their numbers of epochs and minibatches in common."""

    extrinsics: int = option(8, min=0, help="Z; 0: the hidden parameters themselves, P")
    encoder: tuple[int, ...] = option((64, 32), min=1, help="units of the encoder's hidden layers")
    channels: int = option(32, min=1, help="of the module's convolutions")
    expert_share: float = option(
        0.8, min=0.0, max=0.99, help="of the training, for the expert; the rest is the module's"
    )
    module_every: int = option(1, min=1, unit="policy steps", help="between two estimates")
    module_learning_rate: float = option(1e-3, min=0.0)


class RMA(ActorCritic):
    """The memory: true parameters (P), whether they are known (1), z, steps since an estimate (1), the last inputs.

    Only while the expert is trained `fast0` reads true parameters. They are zeros ever after, as on a robot.
    """

    Settings = RMASettings
    settings: RMASettings

    def __init__(self, interface: Interface, settings: RMASettings) -> None:
        parameters, inputs = len(interface.bounds), input_size(interface, settings)
        extrinsics = settings.extrinsics or parameters
        self.parts = [parameters, 1, extrinsics, 1, (WINDOW - 1) * inputs]
        super().__init__(interface, settings, memory=sum(self.parts))
        self.kept[sum(self.parts[:3])] = False  # each rollout begins with an estimate
        self.encoder = Perceptron([parameters, *settings.encoder, extrinsics], 1.0) if settings.extrinsics else None
        self.register_buffer("estimates", torch.tensor(False))  # whether it acts on estimates by now
        self.estimates: Tensor
        self.finish_setup()  # what follows is no part of what PPO optimises
        self.module = AdaptationModule(inputs, extrinsics, settings.channels)
        self.module_optimiser = torch.optim.Adam(self.module.parameters(), settings.module_learning_rate)

    def policy_input_size(self) -> int:
        return self.input_size + self.parts[2]

    def encode(self, known: Tensor) -> Tensor:
        """Extrinsics (..., Z) of hidden parameters (..., P) on the scale of `normalise`."""
        return known if self.encoder is None else self.encoder.train_on(known)

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        if dynamics is None or bool(self.estimates):
            return super().fast0(batch)
        return self.fast_of_expert(dynamics)

    def fast_of_expert(self, dynamics: Tensor) -> Tensor:
        """The initial fast state (B, F) with which robots act on true parameters (B, P) and never on estimates."""
        fast, known = super().fast0(len(dynamics)), self.normalise(dynamics)
        with torch.no_grad():
            told = torch.cat([known, torch.ones_like(known[:, :1]), self.encode(known)], dim=-1)
        fast[:, : told.shape[1]] = told
        return fast

    def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        known, told, extrinsics, count, before = memory.split(self.parts, dim=-1)
        window = torch.cat([before, inputs], dim=-1)
        found = self.module(window.unflatten(-1, (WINDOW, -1)))
        held = 1 - (1 - told) * (count == 0)
        extrinsics = extrinsics * held + found * (1 - held)  # exact, and a NaN in any of them stays one
        count = torch.where(count + 1 >= self.settings.module_every, torch.zeros_like(count), count + 1)
        after = torch.cat([known, told, extrinsics, count, window[:, self.input_size :]], dim=-1)
        return self.head(torch.cat([inputs, extrinsics], dim=-1)), after

    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        known, told, extrinsics, count, window = memory.split(self.parts, dim=-1)
        steps = torch.arange(inputs.shape[2], device=inputs.device)
        extrinsics = self.encode(known) * told + extrinsics * (1 - told)
        before, every, reads = window.unflatten(-1, (WINDOW - 1, -1)), self.settings.module_every, []
        for k in range(inputs.shape[1]):
            sequence, held = torch.cat([before, inputs[:, k]], dim=1), extrinsics[:, None].expand(-1, len(steps), -1)
            if not bool(told.all()):
                found = self.module.along(sequence).index_select(1, steps // every * every)
                held = held * told[:, None] + found * (1 - told[:, None])
            lived = valid[:, k].sum(-1).long()[:, None]
            extrinsics = _rows(torch.cat([extrinsics[:, None], held], dim=1), lived)[:, 0]
            before = _rows(sequence, lived + torch.arange(WINDOW - 1, device=lived.device))
            count = (lived % every).to(count.dtype)
            reads.append(held)
        memory = torch.cat([known, told, extrinsics, count, before.flatten(1)], dim=-1)
        return torch.cat([inputs, torch.stack(reads, dim=1)], dim=-1), memory

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        """Of the expert from rollouts that were told, of the module from those that were not."""
        told = bool((query.fast[:, 0, self.parts[0]] > 0).all())
        if told:
            metrics = super().meta_update(support, query)
        else:
            metrics = self._learn_to_estimate(reduce(Episodes.then, [*support, query]))
        self.estimates.fill_(self.trained >= self.settings.expert_share)
        return metrics

    def _learn_to_estimate(self, episodes: Episodes) -> dict[str, float]:
        """Regression of what the module says at every step to the extrinsics (eq. 4); returns metrics."""
        if episodes.dynamics is None:
            raise ValueError("episodes without dynamics cannot train the module; real rollouts only adapt")
        with torch.no_grad():
            inputs, target = self.inputs(episodes)[:, :, :-1], self.encode(self.normalise(episodes.dynamics))
        memory, valid, ppo = episodes.fast[:, 0, : self.memory_size], episodes.valid, self.settings.ppo
        errors = []
        for _ in range(ppo.epochs):
            for part in torch.randperm(len(inputs)).to(inputs.device).split(math.ceil(len(inputs) / ppo.minibatches)):
                read, _ = self.read_through(inputs[part], memory[part], valid[part])
                error = (read[..., self.input_size :] - target[part, None, None]).square().mean(-1)
                error = (error * valid[part]).sum() / valid[part].sum()
                self.module_optimiser.zero_grad()
                error.backward()
                self.module_optimiser.step()
                errors.append(error.detach())
        return {"estimation_error": float(torch.stack(errors).mean())}

    def optimiser_state(self) -> dict[str, Any]:
        return {"expert": super().optimiser_state(), "module": self.module_optimiser.state_dict()}

    def load_optimiser_state(self, state: dict[str, Any]) -> None:
        super().load_optimiser_state(state["expert"])
        self.module_optimiser.load_state_dict(state["module"])


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Those rows (B, n, ·) of values (B, T, ·) whose numbers are in (B, n)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
