"""Soft actor-critic (Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905): one policy for all tasks, from a replay.

Nothing adapts: the fast state is the history of a few steps. Beside a regulator critics judge what is carried out, and
entropy is that of what the policy adds to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.off_policy import Batch, OffPolicy, OffPolicySettings, backward
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.regulator import Regulator, RegulatorSettings, check_history
from policies.squashed import HIGHEST, LOWEST, SquashedGaussian


@dataclass(frozen=True)
class SACSettings(OffPolicySettings):
    initial_std: float = option(0.6, min=0.05, max=2.0, help="of the action before the tangent that bounds it")
    regulator: RegulatorSettings | None = option(None, help="a linear one around the goal, to which actions are added")

    def __post_init__(self) -> None:
        check_history(self.regulator, self.frames)


class SAC(OffPolicy):
    """Temperature α, discount γ; equations are those of the paper."""

    Settings = SACSettings
    settings: SACSettings
    discrete = False

    def __init__(self, interface: Interface, settings: SACSettings, memory: int = 0, latent: int = 0) -> None:
        actions = interface.actions
        regulator = None if settings.regulator is None else Regulator(interface, settings.regulator)
        super().__init__(interface, settings, 2 * actions, actions, 1, memory, latent, regulator)
        self.distribution = SquashedGaussian()

    def default_entropy(self) -> float:
        """A uniform distribution has log 2 nats for each action."""
        return -float(self.action_size)

    def policy(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        centre, spread = outputs.chunk(2, dim=-1)
        return centre, torch.clamp(spread + math.log(self.settings.initial_std), LOWEST, HIGHEST)

    def set_gradients(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        error, report, _ = self.set_gradients_of(batch, batch.inputs, batch.next_inputs, noise)
        return error, report

    def set_gradients_of(
        self, batch: Batch, reads: Tensor, next_reads: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same where policy and critics read more than the inputs, `reads` (N, ·).

        Also the gradient of the critics' loss by the sums of their first layers, (2, N, ·).
        """
        count, temperature = len(reads), self.log_temperature.exp()
        layers, critics = self.network.layers(self.actor), self.critic.layers(self.critics)
        read, outputs = self.network.forward(torch.cat([reads, next_reads])[None], layers)
        centre, spread = self.policy(outputs[0])
        drawn = self.distribution.sample(centre, spread, noise)
        action, log_prob = torch.tanh(drawn), self.distribution.log_prob(drawn, spread, noise)
        done = self.carried_out(action, torch.cat([batch.advice, batch.next_advice]))
        # Equation 3: the target, with the lesser of two critics, and no more than can be.
        following = torch.cat([next_reads, done[count:]], dim=-1).expand(2, -1, -1)
        _, value = self.critic.forward(following, self.critic.layers(self.targets))
        least = torch.minimum(value[..., 0].amin(0), batch.highest)
        target = batch.reward + batch.going_on * (least - temperature * log_prob[count:])
        # Critics judge what was done, and what the policy does there now.
        both = torch.cat([torch.cat([reads, batch.action], dim=-1), torch.cat([reads, done[:count]], dim=-1)])
        judged, value = self.critic.forward(both.expand(2, -1, -1), critics)
        error, worth = value[:, :count, 0] - target, value[:, count:, 0]
        lesser = (worth <= worth.flip(0)).to(worth.dtype)  # the one that the policy is moved by
        pull = torch.cat([error * batch.weight * 2, -lesser], dim=1).div_(count)[..., None]
        self.critics.grad, pull = backward(self.critic, pull, judged, critics, slice(count))
        # Equation 9, through the action that the noise stands for; log-densities rise by 2 tanh with what is drawn.
        by_action = (pull[:, count:] @ critics[0][0][..., reads.shape[1] :]).sum(0)
        if self.regulator is not None:
            by_action = by_action * self.regulator.slope(batch.advice[:, -1:], done[:count])
        action, drawn_by = action[:count], torch.exp(spread[:count]) * noise[:count]
        by_drawn = by_action * (1 - action**2) + 2 * temperature / count * action
        within = (spread[:count] > LOWEST) & (spread[:count] < HIGHEST)
        by_spread = (by_drawn * drawn_by - temperature / count) * within
        by_outputs = torch.cat([by_drawn, by_spread], dim=-1)[None]
        self.actor.grad, _ = backward(self.network, by_outputs, [v[:, :count] for v in read], layers, slice(count))
        entropy = -log_prob[:count].mean()
        self.log_temperature.grad = entropy - self.wanted  # equation 18
        report = torch.stack([(error**2).mean(), worth.amin(0).mean(), temperature, entropy])
        return error[0], report, pull[:, :count]
