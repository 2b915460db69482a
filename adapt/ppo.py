"""Proximal policy optimisation (Schulman et al. 2017) over episodes: the outer optimiser that learners share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hardware_io.config import option
from policies.distributions import Distribution


@dataclass(frozen=True)
class PPOSettings:
    """Settings of the optimiser."""

    epochs: int = option(4, min=1)
    minibatches: int = option(4, min=1, help="of one epoch")
    learning_rate: float = option(1e-3, min=0.0)
    critic_learning_rate: float = option(1e-3, min=0.0)
    target_kl: float = option(0.012, min=0.0, help="the actor's learning rate follows it; 0: constant")
    discount: float = option(0.99, min=0.0, max=1.0, help="a policy step")
    gae: float = option(0.95, min=0.0, max=1.0)
    clip: float = option(0.2, min=0.0)
    entropy: float = option(0.001, min=0.0)
    max_gradient: float = option(0.5, min=1e-6, help="norm to which gradients are shortened")


def advantages(reward: Tensor, value: Tensor, valid: Tensor, terminated: Tensor, discount: float, gae: float) -> Tensor:
    """Generalised advantages (..., T) of values (..., T+1) (Schulman et al. 2016, eq. 16).

    A rollout that ran out of time is bootstrapped from its last value; one that terminated is not.
    """
    going_on = (~terminated).float()
    delta = (reward + discount * value[..., 1:] * going_on - value[..., :-1]) * valid
    carried = discount * gae * going_on * valid
    steps = zip(delta.unbind(-1), carried.unbind(-1), strict=True)
    running, result = torch.zeros_like(reward[..., 0]), list[Tensor]()
    for gained, kept in reversed(list(steps)):
        running = torch.addcmul(gained, kept, running)
        result.append(running)
    return torch.stack(result[::-1], dim=-1)


@dataclass(frozen=True)
class Batch:
    """One minibatch; leading dimensions are free, `valid` weighs the samples."""

    centre: Tensor  # (..., A) of the new policy's distribution
    spread: Tensor  # (A,), or (0,) for choices
    value: Tensor  # (...,) of the new critic, normalised
    action: Tensor  # (..., A)
    log_prob: Tensor  # (...,) of the policy that acted
    advantage: Tensor  # (...,) normalised
    target: Tensor  # (...,) normalised return
    valid: Tensor  # (...,) whether a sample counts: bool, or 0 and 1


class PPO:
    """Optimises an actor, whose actions are drawn from `distribution`, and a critic."""

    def __init__(
        self,
        actor: list[nn.Parameter],
        critic: list[nn.Parameter],
        distribution: Distribution,
        settings: PPOSettings,
    ) -> None:
        self.settings, self.actor, self.critic = settings, Flat(actor), Flat(critic)
        self.distribution = distribution
        rates = (settings.learning_rate, settings.critic_learning_rate)
        groups = [{"params": [f.vector], "lr": rate} for f, rate in zip((self.actor, self.critic), rates, strict=True)]
        self.optimiser = torch.optim.Adam(groups, fused=True)

    def update(self, batches: Callable[[], Iterator[Batch]]) -> dict[str, float]:
        """`epochs` passes over the minibatches that `batches` makes; returns metrics."""
        for flat in (self.actor, self.critic):
            flat.gather(self.optimiser)
        settings, totals, count = self.settings, torch.zeros(4, device=self.actor.vector.device), 0
        for _ in range(settings.epochs):
            for batch in batches():
                totals += self._step(batch)
                count += 1
            if settings.target_kl:
                self._follow_kl(float(totals[2]) / count)
        policy_loss, value_loss, kl, clipped = (totals / max(count, 1)).tolist()
        rate = self.optimiser.param_groups[0]["lr"]
        return {"policy_loss": policy_loss, "value_loss": value_loss, "kl": kl, "clipped": clipped, "rate": rate}

    @torch.no_grad()
    def _step(self, batch: Batch) -> Tensor:
        """One minibatch: policy loss, value loss, divergence, share of clipped samples, (4,).

        The losses' derivatives are written out; PyTorch takes over where the networks begin.
        """
        settings = self.settings
        weight = batch.valid / batch.valid.sum().clamp(min=1)
        log_ratio = self.distribution.log_prob(batch.action, batch.centre, batch.spread) - batch.log_prob
        ratio = torch.exp(log_ratio)
        bounded = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        gain, bounded_gain = ratio * batch.advantage, bounded * batch.advantage
        error = batch.value - batch.target
        # Clipping flattens the loss where the bounded gain is the lesser.
        pull = gain * weight * (gain <= bounded_gain)
        d_centre, d_spread = self.distribution.derivatives(
            batch.action, batch.centre, batch.spread, -pull, -settings.entropy * weight
        )
        derivatives = ((batch.centre, d_centre), (batch.spread, d_spread), (batch.value, error * weight * 2))
        outputs, pulls = zip(*(pair for pair in derivatives if pair[0].requires_grad), strict=True)
        for flat in (self.actor, self.critic):
            flat.gradient.zero_()
        torch.autograd.backward(outputs, pulls)
        for flat in (self.actor, self.critic):
            flat.clip(settings.max_gradient)
        self.optimiser.step()
        each = torch.stack([torch.minimum(gain, bounded_gain).neg_(), error * error,
                            ratio - log_ratio - 1, ratio != bounded])  # fmt: skip
        return torch.mv(each.flatten(1), weight.flatten())  # third: Schulman's low-variance estimate

    def _follow_kl(self, kl: float) -> None:
        """Learning rate down when steps are too long, up when too short (the rule of legged_gym's runners)."""
        group = self.optimiser.param_groups[0]
        if kl > 2 * self.settings.target_kl:
            group["lr"] = max(group["lr"] / 1.5, 1e-5)
        elif kl < self.settings.target_kl / 2:
            group["lr"] = min(group["lr"] * 1.5, 3 * self.settings.learning_rate)

    def state_dict(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state)


class Flat:
    """Parameters as parts of one vector, so that clearing, clipping and stepping them all is one operation each."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.vector, self.gradient = nn.Parameter(self._joined()), torch.empty(0)

    def gather(self, optimiser: torch.optim.Optimizer) -> None:
        """Make the parameters parts of the vector, at first and after they were moved to another device or replaced."""
        sizes = [parameter.numel() for parameter in self.parameters]
        parts = self.vector.data.split(sizes)
        if all(p.data_ptr() == part.data_ptr() for p, part in zip(self.parameters, parts, strict=True)):
            return
        self.vector.grad = None
        self.vector.data = self._joined()
        self.vector.grad = self.gradient = torch.zeros_like(self.vector.data)
        for parameter, part, gradient in zip(
            self.parameters, self.vector.data.split(sizes), self.gradient.split(sizes), strict=True
        ):
            parameter.grad = None
            parameter.data = part.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)
        moments = optimiser.state[self.vector]
        for name, value in moments.items():
            moments[name] = value.to(self.vector.device)

    def clip(self, limit: float) -> None:
        """Shorten the gradient to `limit` where it is longer."""
        self.gradient.mul_(limit / self.gradient.norm().clamp_(min=limit))

    def _joined(self) -> Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
