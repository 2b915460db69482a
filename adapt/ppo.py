"""Proximal policy optimisation (Schulman et al. 2017) over episodes: the outer optimiser that learners share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from hardware_io.config import option
from policies.networks import ActionHead
from policies.perceptron import Perceptron, Room, backward_pass, forward_pass


@dataclass(frozen=True)
class PPOSettings:
    """Settings of the optimiser."""

    epochs: int = option(4, min=1)
    minibatches: int = option(4, min=1, help="of one epoch")
    learning_rate: float = option(1e-3, min=0.0)
    critic_learning_rate: float = option(1e-3, min=0.0)
    target_kl: float = option(0.012, min=0.0, help="the actor's learning rate follows it; 0: constant")
    anneal: float = option(0.0, min=0.0, max=1.0, help="share of target_kl and entropy that is gone when training ends")
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
    """One minibatch of `N` samples; `valid` weighs them."""

    read: Tensor  # (N, ·) what the head reads; gradients go on into whatever computed it
    known: Tensor  # (N, ·) what the critic reads
    action: Tensor  # (N, A)
    log_prob: Tensor  # (N,) of the policy that acted
    advantage: Tensor  # (N,) normalised
    target: Tensor  # (N,) normalised return
    valid: Tensor  # (N,) whether a sample counts: bool, or 0 and 1


class PPO:
    """Optimises an actor, a head and perhaps what computes its inputs (`actor`: parameters of both), and a critic."""

    def __init__(self, actor: list[nn.Parameter], head: ActionHead, critic: Perceptron, settings: PPOSettings) -> None:
        self.head, self.settings = head, settings
        # Modules look up their parameters anew each time, which takes longer than a layer.
        self._head, self._critic = list(head.network.parameters()), list(critic.parameters())
        self._room, self._entropy = Room(), settings.entropy
        self._flats = Flat(actor), Flat(list(critic.parameters()))
        rates = (settings.learning_rate, settings.critic_learning_rate)
        groups = [{"params": [flat.vector], "lr": rate} for flat, rate in zip(self._flats, rates, strict=True)]
        self.optimiser = torch.optim.Adam(groups, fused=True)

    def update(self, batches: Callable[[], Iterator[Batch]], trained: float = 0.0) -> dict[str, float]:
        """`epochs` passes over the minibatches that `batches` makes; returns metrics.

        `trained` is the share of the training that is over.
        """
        for flat in self._flats:
            flat.gather(self.optimiser)
        settings, totals, count = self.settings, torch.zeros(4, device=self._flats[0].vector.device), 0
        left = 1 - settings.anneal * trained
        self._entropy = settings.entropy * left
        for _ in range(settings.epochs):
            for batch in batches():
                totals += self._step(batch)
                count += 1
            if settings.target_kl:
                self._follow_kl(float(totals[2]) / count, settings.target_kl * left)
        policy_loss, value_loss, kl, clipped = (totals / max(count, 1)).tolist()
        rate = self.optimiser.param_groups[0]["lr"]
        return {"policy_loss": policy_loss, "value_loss": value_loss, "kl": kl, "clipped": clipped, "rate": rate}

    @torch.no_grad()
    def _step(self, batch: Batch) -> Tensor:
        """One minibatch: policy loss, value loss, divergence, share of clipped samples, (4,).

        Derivatives of head, critic and losses are written out; autograd takes over behind what the head reads.
        """
        for flat in self._flats:
            flat.gradient.zero_()
        weight = batch.valid / batch.valid.sum().clamp_(min=1)
        error = self._judge(batch, weight)
        gain, log_ratio, clipped = self._act(batch, weight)
        for flat in self._flats:
            flat.clip(self.settings.max_gradient)
        self._descend()
        # The third is Schulman's low-variance estimate.
        each = torch.stack([gain.neg_(), error.square_(), log_ratio.expm1().sub_(log_ratio), clipped.to(gain.dtype)])
        return torch.mv(each, weight)

    def _judge(self, batch: Batch, weight: Tensor) -> Tensor:
        """The critic's forward and backward pass: errors (N,)."""
        *values, value = forward_pass(self._critic, batch.known, self._room)
        error = value.squeeze(-1) - batch.target
        pull = (error * weight).mul_(2)[:, None]
        backward_pass(self._critic, gradients(self._critic), values, pull, self._room, to_inputs=False)
        return error

    def _act(self, batch: Batch, weight: Tensor) -> tuple[Tensor, ...]:
        """The actor's forward and backward pass: gains, log-ratios and whether they were clipped, (N,) each."""
        settings, distribution, spread = self.settings, self.head.distribution, self.head.spread
        *values, centre = forward_pass(self._head, batch.read.detach(), self._room)
        log_ratio = distribution.log_prob(batch.action, centre, spread).sub_(batch.log_prob)
        ratio = torch.exp(log_ratio)
        bounded = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        gain, bounded_gain = ratio * batch.advantage, bounded * batch.advantage
        # Clipping flattens the loss where the bounded gain is the lesser.
        pull = (gain * weight).mul_(gain <= bounded_gain).neg_()
        d_centre, d_spread = distribution.derivatives(batch.action, centre, spread, pull, weight * -self._entropy)
        self.head.pull_spread(d_spread)
        to_read = batch.read.requires_grad
        d_read = backward_pass(self._head, gradients(self._head), values, d_centre, self._room, to_read)
        if d_read is not None:
            batch.read.backward(d_read)
        return torch.minimum(gain, bounded_gain), log_ratio, ratio != bounded

    def _descend(self) -> None:
        """`optimiser.step()` without its bookkeeping, which on two vectors costs more than the arithmetic."""
        if not self.optimiser.state[self._flats[0].vector]:
            self.optimiser.step()  # makes the moments
            return
        for group in self.optimiser.param_groups:
            vector = group["params"][0]
            state, (beta1, beta2) = self.optimiser.state[vector], group["betas"]
            adam(
                [vector], [vector.grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]], fused=True,
                amsgrad=False, beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=0.0, eps=group["eps"],
                maximize=False,
            )  # fmt: skip

    def _follow_kl(self, kl: float, target: float) -> None:
        """Learning rate down when steps are too long, up when too short (the rule of legged_gym's runners)."""
        group = self.optimiser.param_groups[0]
        if kl > 2 * target:
            group["lr"] = max(group["lr"] / 1.5, 1e-5)
        elif kl < target / 2:
            group["lr"] = min(group["lr"] * 1.5, 3 * self.settings.learning_rate)

    def state_dict(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state)


def gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    """The places that backward passes add to."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


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
        self.gradient.div_(torch.linalg.vector_norm(self.gradient).div_(limit).clamp_(min=1))

    def _joined(self) -> Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
