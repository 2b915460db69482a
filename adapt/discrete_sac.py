"""Soft actor-critic for choices (Christodoulou 2019, https://arxiv.org/abs/1910.07207): one policy for all tasks.

Critics judge all choices at once, so that means over what the policy may choose are exact. Nothing adapts: the fast
state is the history of a few steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adapt.off_policy import Batch, OffPolicy, OffPolicySettings, backward
from hardware_io.interface import Interface
from policies.distributions import Categorical

WANTED = 0.5  # share of the greatest entropy; the paper's 0.98 leaves a policy that hardly chooses


class DiscreteSAC(OffPolicy):
    """Temperature α, discount γ; equations are those of the paper."""

    Settings = OffPolicySettings
    continuous = False

    def __init__(self, interface: Interface, settings: OffPolicySettings) -> None:
        super().__init__(interface, settings, interface.actions, 0, interface.actions)
        self.distribution = Categorical()

    def default_entropy(self) -> float:
        return WANTED * math.log(self.action_size)

    def policy(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return outputs, outputs[..., :0]

    def extras(self, action: Tensor, centre: Tensor, spread: Tensor) -> dict[str, Tensor]:
        return {"log_prob": self.distribution.log_prob(action, centre, spread)}

    def set_gradients(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        count, temperature = len(batch.inputs), self.log_temperature.exp()
        layers, critics = self.network.layers(self.actor), self.critic.layers(self.critics)
        read, outputs = self.network.forward(torch.cat([batch.inputs, batch.next_inputs])[None], layers)
        log_prob = torch.log_softmax(outputs[0], dim=-1)
        share = torch.exp(log_prob)
        _, value = self.critic.forward(batch.next_inputs.expand(2, -1, -1), self.critic.layers(self.targets))
        least = torch.minimum(value.amin(0), batch.highest[:, None])
        following = (share[count:] * (least - temperature * log_prob[count:])).sum(-1)  # equation 10
        judged, value = self.critic.forward(batch.inputs.expand(2, -1, -1), critics)
        error = (value * batch.action).sum(-1) - (batch.reward + batch.going_on * following)  # (2, N)
        pull = (error * batch.weight * (2 / count))[..., None] * batch.action
        self.critics.grad, _ = backward(self.critic, pull, judged, critics, slice(count))
        share, log_prob, worth = share[:count], log_prob[:count], value.amin(0)
        cost = temperature * log_prob - worth  # equation 12, whose mean the policy lowers
        by_outputs = share * (cost - (share * cost).sum(-1, keepdim=True)) / count
        self.actor.grad, _ = backward(
            self.network, by_outputs[None], [v[:, :count] for v in read], layers, slice(count)
        )
        entropy = -(share * log_prob).sum(-1).mean()
        self.log_temperature.grad = entropy - self.wanted  # equation 11
        worth = (share * worth).sum(-1).mean()
        return error[0], torch.stack([(error**2).mean(), worth, temperature, entropy])
