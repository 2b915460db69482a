"""How alike tasks are: by what represents them, by what happened in them, or by how well one foretells the other.

`B` tasks, `S` others, `C` chosen ones, `N` transitions, `X` numbers of a transition, `Z` representation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.task_model import TaskModel

LATENT, ROLLOUTS, MODELS, RANDOM = KINDS = ("latent", "rollouts", "models", "random")


@dataclass(frozen=True)
class Tasks:
    """What is known of tasks."""

    transitions: Tensor  # (B, N, X), scaled
    latent: Tensor  # (B, Z)

    @staticmethod
    def of(model: TaskModel, transitions: Tensor) -> Tasks:
        """Transitions (B, N, X) of each."""
        return Tasks(transitions, model.encode(transitions))


def distances(kind: str, model: TaskModel, own: Tasks, others: Tasks) -> Tensor:
    """Of every task to every other, (B, S); `random` ones are drawn, the same in every call, to compare with."""
    if kind == LATENT:
        return torch.cdist(own.latent, others.latent)
    if kind == ROLLOUTS:
        return energy(own.transitions, others.transitions)
    if kind == MODELS:
        return surprise(model, own.transitions, others.latent)
    drawn = torch.rand(len(own.latent), len(others.latent), generator=torch.Generator().manual_seed(0))
    return drawn.to(own.latent)


def energy(own: Tensor, others: Tensor) -> Tensor:
    """Energy distance (Székely and Rizzo 2013) between samples (B, N, X) and (S, M, X), (B, S): 0 for the same one.

    2 E|x − y| − E|x − x'| − E|y − y'|.
    """
    between = torch.stack([torch.cdist(own, other).mean((1, 2)) for other in others], dim=1)
    within, beyond = (torch.cdist(each, each).mean((1, 2)) for each in (own, others))
    return 2 * between - within[:, None] - beyond


def surprise(model: TaskModel, own: Tensor, latent: Tensor) -> Tensor:
    """Error with which each of the others (S, Z) foretells transitions (B, N, X), (B, S)."""
    pairs = len(own), len(latent)
    return model.error(latent.expand(*pairs, -1), own[:, None].expand(*pairs, -1, -1))


def nearest(distance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which of the others, at a distance (B, S), are nearest, (B, C), and what share each has, (B, C) of sum 1.

    C is `count`, or S where there are fewer.
    """
    near, chosen = distance.topk(min(count, distance.shape[1]), largest=False)
    scale = near.mean(1, keepdim=True).clamp(min=1e-6)
    return chosen, torch.softmax(-near / scale, dim=1)


def report(distance: Tensor, chosen: Tensor) -> dict[str, float]:
    """Of distances (B, S) and the choice (B, C): how near sources are, beside all of them, and how many are used."""
    near = distance.gather(1, chosen)
    return {
        "sources": float(distance.shape[1]),
        "sources_used": float(len(chosen.unique())),
        "nearest_source": near[:, 0].mean().item(),
        "chosen_sources": near.mean().item(),
        "all_sources": distance.mean().item(),
    }
