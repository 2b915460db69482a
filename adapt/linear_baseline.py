"""The linear feature baseline (Duan et al. 2016, https://arxiv.org/abs/1604.06778): a critic fitted anew to each robot.

Gradient-based meta-learners take it because values of a robot have to come from the few rollouts of that robot, with
nothing learned between robots. `B` robots, `K` rollouts, `T` steps, `O` observation, `D` = 2 O + 4 features.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-5  # as the paper's authors; grows tenfold for a robot whose equations cannot be solved
TRIES = 6


def discounted(reward: Tensor, valid: Tensor, discount: float) -> Tensor:
    """Sum of the discounted rewards from each step to the end of its rollout, (..., T); zero where not `valid` (bool).

    A rollout that ran out of time counts like one that ended: what would have followed is left out.
    """
    running, result = torch.zeros_like(reward[..., 0]), list[Tensor]()
    for gained, lived in zip(reversed(reward.unbind(-1)), reversed(valid.unbind(-1)), strict=True):
        running = torch.where(lived, gained + discount * running, 0.0)
        result.append(running)
    return torch.stack(result[::-1], dim=-1)


@torch.no_grad()
def fit_values(observation: Tensor, returns: Tensor, valid: Tensor) -> Tensor:
    """Values (B, K, T) by ridge regression of returns (B, K, T) on features of observations (B, K, T, O), per robot.

    Only steps that are `valid` (bool) take part; values elsewhere are zero. No gradient flows.
    """
    lived = valid[..., None]
    table = torch.where(lived, features(observation), 0.0).flatten(1, 2)  # (B, K T, D)
    target = torch.where(lived, returns[..., None].double(), 0.0).flatten(1, 2)
    weights = _solve(table.mT @ table, table.mT @ target)
    return (table @ weights).view_as(returns).to(returns.dtype)


def features(observation: Tensor) -> Tensor:
    """Observations (B, K, T, O) of whole rollouts → their features and those of time (B, K, T, D), float64."""
    clipped = observation.double().clamp(-10, 10)
    time = torch.arange(clipped.shape[2], dtype=clipped.dtype, device=clipped.device) / 100
    powers = torch.stack([time, time**2, time**3, torch.ones_like(time)], dim=-1)
    return torch.cat([clipped, clipped**2, powers.expand(*clipped.shape[:3], -1)], dim=-1)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """x (B, D, 1) with (matrix (B, D, D) + ridge) x = right; NaN for a robot whose numbers are not finite."""
    ridge = matrix.new_full((len(matrix), 1, 1), RIDGE)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(TRIES):
        solution, info = torch.linalg.solve_ex(matrix + ridge * identity, right)
        failed = (info[:, None, None] != 0) | ~solution.isfinite().all(1, keepdim=True)
        if not failed.any():
            break
        ridge = torch.where(failed, 10 * ridge, ridge)
    return torch.where(failed, torch.nan, solution)
