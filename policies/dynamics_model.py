"""A probabilistic ensemble that foretells what an action leads to (PETS, Chua et al. 2018, section 4).

https://arxiv.org/abs/1805.12114. Each member gives a Gaussian of the change of observation, the reward, and how likely
the rollout ends. The reward is fitted by squared error: a likelihood takes the rare, high ones of a goal for noise. How
far members are apart is what more data would tell; the variance that they expect is noise.
All members are one batched perceptron. `E` members, `N` samples, `O` observation, `A` action, `C` context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hardware_io.config import option
from hardware_io.interface import Interface
from policies.features import Features, Normaliser

HIGHEST, LOWEST = 0.5, -10.0  # where the bounds of log-variances begin, as in the paper's code
PULL = 0.01  # with which they are drawn together
DOUBT = -math.log(10.0)  # log-variance that squared errors of rewards are weighed with


@dataclass(frozen=True)
class DynamicsSettings:
    """Size of the ensemble."""

    members: int = option(5, min=1, help="of the ensemble, each trained on samples of its own")
    hidden: tuple[int, ...] = option((64, 64), min=1, help="units of a member's hidden layers")


class Foretold(NamedTuple):
    """In units of usual changes: change of observation, then reward."""

    mean: Tensor  # (E, N, O+1)
    log_variance: Tensor  # (E, N, O) of the change
    ends: Tensor  # (E, N) logit of whether the rollout ends with the step

    @property
    def spread(self) -> Tensor:
        """Variance between members, (N, O+1): what the model does not know."""
        return self.mean.var(0, correction=0)

    @property
    def noise(self) -> Tensor:
        """Variance of changes that members expect, (N, O); with `spread` it is that of the mixture."""
        return self.log_variance.exp().mean(0)


class DynamicsModel(nn.Module):
    """Inputs are features of the observation, the action as share of its limit, and a context of the robot.

    Observations and contexts are (N, ·), or (E, N, ·) where every member has its own.
    """

    def __init__(self, interface: Interface, settings: DynamicsSettings, context: int = 0) -> None:
        super().__init__()
        self.members, self.context = settings.members, context
        self.changes = interface.observation  # entries that change; the reward follows them
        self.features, self.usual = Features(interface), Normaliser(self.changes + 1)
        sizes = [self.features.size + interface.actions + context, *settings.hidden, 2 * self.changes + 2]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for size_in, size_out in pairwise(sizes):
            weight = torch.empty(self.members, size_in, size_out)
            self.weights.append(nn.init.trunc_normal_(weight, std=1 / (2 * math.sqrt(size_in))))
            self.biases.append(torch.zeros(self.members, 1, size_out))
        self.highest = nn.Parameter(torch.full((self.changes,), HIGHEST))
        self.lowest = nn.Parameter(torch.full((self.changes,), LOWEST))

    def forward(self, observation: Tensor, action: Tensor, context: Tensor) -> Foretold:
        """What each member foretells of the step."""
        outputs = self._sums(observation, action, context)[-1]
        mean, log_variance, ends = outputs.split([self.changes + 1, self.changes, 1], dim=-1)
        log_variance = self.highest - functional.softplus(self.highest - log_variance)
        log_variance = self.lowest + functional.softplus(log_variance - self.lowest)
        return Foretold(mean, log_variance, ends[..., 0])

    def imagine(self, observation: Tensor, action: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A step of (E, N, ·): next observations, drawn; expected rewards and chances to go on, (E, N)."""
        told = self(observation, action, context)
        deviation = functional.pad(torch.exp(told.log_variance / 2), (0, 1))  # of the reward the mean is wanted
        drawn = self.usual.inverse(torch.addcmul(told.mean, torch.randn_like(told.mean), deviation))
        return observation + drawn[..., :-1], drawn[..., -1], torch.sigmoid(-told.ends)

    def loss(self, step: Step, context: Tensor) -> Tensor:
        """Negative log-likelihood of changes, squared error of rewards, mean over what counts; pull on the bounds."""
        told = self(step.observation, step.action, context)
        doubt = functional.pad(told.log_variance, (0, 1), value=DOUBT)
        error = (told.mean - self._targets(step)) ** 2 * torch.exp(-doubt) + doubt
        ends = functional.softplus(told.ends) - step.ended * told.ends  # cross-entropy
        each = (error.mean(-1) + ends) * step.weight
        return each.sum() / step.weight.sum().clamp(min=1) + PULL * (self.highest - self.lowest).sum()

    def learn_scales(self, observation: Tensor, after: Tensor, reward: Tensor) -> None:
        """Of steps (N, O), (N, O), (N,): what is usual."""
        self.features.normaliser.update(self.features.expand(observation))
        self.usual.update(torch.cat([after - observation, reward[:, None]], dim=-1))

    def moved(self, observation: Tensor, after: Tensor) -> Tensor:
        """Changes (..., O) of observations in units of usual ones."""
        return self.usual(functional.pad(after - observation, (0, 1)))[..., :-1]

    def context_gradient(self, observation: Tensor, action: Tensor, after: Tensor, context: Tensor) -> Tensor:
        """By the context, (N, C): that of half the squared error of changes, mean over entries and members.

        Written out, so that it is part of an exported graph, and can be differentiated.
        """
        *hidden, outputs = self._sums(observation, action, context)
        error = (outputs[..., : self.changes] - self.moved(observation, after)) / (self.changes * self.members)
        pull = error @ self.weights[-1][..., : self.changes].mT
        for value, weight in zip(reversed(hidden), reversed(list(self.weights)[:-1]), strict=True):
            gate = torch.sigmoid(value)
            pull = (pull * gate * (1 + value * (1 - gate))) @ weight.mT
        return pull[..., -self.context :].sum(0)

    def _sums(self, observation: Tensor, action: Tensor, context: Tensor) -> list[Tensor]:
        """What each layer gives before its activation (SiLU), (E, N, ·); the last are the outputs."""
        values = torch.cat([self.features(observation), action, context], dim=-1).expand(self.members, -1, -1)
        sums = list[Tensor]()
        for weight, bias in zip(self.weights, self.biases, strict=True):
            sums.append(torch.baddbmm(bias, functional.silu(sums[-1]) if sums else values, weight))
        return sums

    def _targets(self, step: Step) -> Tensor:
        return self.usual(torch.cat([step.after - step.observation, step.reward[..., None]], dim=-1))


class Step(NamedTuple):
    """Steps to learn from, (E, N, ·) or (N, ·)."""

    observation: Tensor  # (..., O)
    action: Tensor  # (..., A) share of its limit
    after: Tensor  # (..., O) observation that followed
    reward: Tensor  # (...,)
    ended: Tensor  # (...,) 1 where the rollout terminated with the step
    weight: Tensor  # (...,) 0 where there was no such step
