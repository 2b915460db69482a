"""Planning with a learned model: the cross-entropy method over action sequences, with trajectory sampling.

PETS (Chua et al. 2018, https://arxiv.org/abs/1805.12114, section 5). Every candidate is followed by a particle of each
member of the ensemble: a particle stays with its member (TS∞), or changes it at random at every step (TS1).
`B` robots, `n` candidates, `H` horizon, `A` action, `E` members.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hardware_io.config import ConfigError, option
from policies.dynamics_model import DynamicsModel


@dataclass(frozen=True)
class PlannerSettings:
    """How far and how hard to look ahead."""

    horizon: int = option(20, min=1, help="steps")
    candidates: int = option(64, min=2, help="action sequences of an iteration")
    elites: int = option(8, min=1, help="of them, to which the next iteration is fitted")
    iterations: int = option(4, min=1)
    inertia: float = option(0.1, min=0.0, max=0.99, help="share of the last iteration's mean and deviation that stays")
    initial_std: float = option(0.5, min=0.01, max=2.0, help="of an action, whose limits are -1 and 1")
    particles: str = option("ts_infinity", choices=("ts_infinity", "ts1"), help="stay with a member, or change it")

    def __post_init__(self) -> None:
        if self.elites > self.candidates:
            raise ConfigError("", "elites", self.elites, f"at most candidates ({self.candidates})")


@torch.no_grad()
def plan(
    model: DynamicsModel, observation: Tensor, context: Tensor, start: Tensor, settings: PlannerSettings
) -> Tensor:
    """Actions (B, H, A) within ±1 from observations (B, O), contexts (B, C) and the plan to begin with (B, H, A)."""
    mean, std = start, torch.full_like(start, settings.initial_std)
    for _ in range(settings.iterations):
        noise = torch.randn(len(start), settings.candidates, *start.shape[1:], device=start.device)
        actions = torch.addcmul(mean[:, None], std[:, None], noise).clamp_(-1, 1)
        paid = returns(model, observation, context, actions, settings.particles)
        best = paid.topk(settings.elites, dim=1).indices
        elites = actions.take_along_dim(best[..., None, None], dim=1)
        mean = torch.lerp(elites.mean(1), mean, settings.inertia)
        std = torch.lerp(elites.std(1, correction=0), std, settings.inertia)
    return mean


def later(actions: Tensor) -> Tensor:
    """The plan (B, H, A) one step on, to begin the next one with; nothing is known of its end."""
    return torch.cat([actions[:, 1:], torch.zeros_like(actions[:, :1])], dim=1)


def returns(model: DynamicsModel, observation: Tensor, context: Tensor, actions: Tensor, particles: str) -> Tensor:
    """Expected return (B, n) of action sequences (B, n, H, A): what is paid while a rollout goes on."""
    batch, candidates = actions.shape[:2]
    seen, known = (values.repeat_interleave(candidates, dim=0) for values in (observation, context))
    state = seen.expand(model.members, -1, -1)
    going = total = torch.zeros(state.shape[:2], device=state.device)
    going = going + 1
    for action in actions.flatten(0, 1).unbind(1):
        if particles == "ts1":
            shuffled = torch.rand(state.shape[:2], device=state.device).argsort(dim=0)
            state = state.take_along_dim(shuffled[..., None], dim=0)
            going, total = going.take_along_dim(shuffled, dim=0), total.take_along_dim(shuffled, dim=0)
        state, paid, goes_on = model.imagine(
            state, action.expand(model.members, -1, -1), known.expand(model.members, -1, -1)
        )
        total = total + going * paid
        going = going * goes_on
    return total.mean(0).view(batch, candidates)
