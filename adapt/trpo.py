"""Trust region policy optimisation (Schulman et al. 2015, https://arxiv.org/abs/1502.05477): one step at a time.

A step knows no learner: it moves parameters so that a surrogate grows while a divergence stays below its bound. Both
are closures that read the parameters, so they may adapt inside, as the outer loop of MAML does. Its authors take
curvature from differences of gradients, and so do we: a meta-gradient is second-order already, and networks whose
backward pass is written out (`policies/gru.py`, `policies/perceptron.py`) have no second derivative.
`P` is the number of parameters, all of them in one vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hardware_io.config import option


@dataclass(frozen=True)
class TRPOSettings:
    """Settings of one step."""

    max_kl: float = option(0.01, min=1e-8, help="bound of the divergence between two policies")
    cg_iterations: int = option(10, min=1)
    cg_tolerance: float = option(1e-4, min=0.0, help="residual, as a share of the gradient, that ends the solver")
    damping: float = option(1e-5, min=0.0, help="added to the curvature in every direction")
    backtrack_ratio: float = option(0.8, min=0.01, max=0.99, help="of the step to the one before in the line search")
    max_backtracks: int = option(15, min=0)


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float) -> Tensor:
    """x (P,) with `product(x)` = b (P,), for a symmetric positive definite linear map (Hestenes and Stiefel 1952).

    Ends when the residual is `tolerance` of b, or where curvature is not positive: what rounding leaves of zero.
    """
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    square = residual @ residual
    enough = tolerance**2 * square
    for _ in range(iterations):
        curved = product(direction)
        curvature = direction @ curved
        if not curvature > 0:  # NaN as well
            break
        length = square / curvature
        x = x + length * direction
        residual = residual - length * curved
        before, square = square, residual @ residual
        if square <= enough:
            break
        direction = residual + square / before * direction
    return x


def trust_region_step(
    parameters: list[nn.Parameter],
    surrogate: Callable[[], Tensor],
    divergence: Callable[[], Tensor],
    settings: TRPOSettings,
) -> dict[str, float]:
    """Raise `surrogate` as far as `divergence` allows, which is zero and least at the parameters as they are.

    Both return a scalar and are called with autograd on: the divergence 2 (`cg_iterations` + 1) times for curvature,
    then both once for every length that is tried. Parameters change in place. A step that does not improve, breaks the
    bound or is not finite is not taken; an error raised by a closure leaves the parameters as they were.
    Metrics: `accepted` (0 or 1), `kl` and `improvement` of the step (0 without one), `backtracks` (all without one).
    """
    start, taken = _vector(parameters), False
    try:
        before = surrogate()
        gradient = _gradient(before, parameters)
        step = _longest_step(parameters, start, gradient, divergence, settings) if _usable(gradient) else gradient
        lengths = [settings.backtrack_ratio**tries for tries in range(settings.max_backtracks + 1)]
        for backtracks, length in enumerate(lengths if _usable(step) else []):
            _assign(parameters, start + length * step)
            improvement, kl = surrogate().item() - before.item(), divergence().item()
            taken = 0 < improvement < math.inf and kl <= settings.max_kl  # NaN is neither
            if taken:
                return {"accepted": 1.0, "kl": kl, "improvement": improvement, "backtracks": float(backtracks)}
        return {"accepted": 0.0, "kl": 0.0, "improvement": 0.0, "backtracks": float(settings.max_backtracks)}
    finally:
        if not taken:
            _assign(parameters, start)


def _longest_step(
    parameters: list[nn.Parameter],
    start: Tensor,
    gradient: Tensor,
    divergence: Callable[[], Tensor],
    settings: TRPOSettings,
) -> Tensor:
    """The step (P,) that a quadratic model of the divergence allows (appendix C); zero or NaN without one."""

    def product(vector: Tensor) -> Tensor:
        return curvature_product(parameters, start, divergence, vector) + settings.damping * vector

    direction = conjugate_gradient(product, gradient, settings.cg_iterations, settings.cg_tolerance)
    if not _usable(direction):
        return direction
    curvature = direction @ product(direction)
    return direction * torch.sqrt(2 * settings.max_kl / curvature)


def curvature_product(
    parameters: list[nn.Parameter], start: Tensor, divergence: Callable[[], Tensor], vector: Tensor
) -> Tensor:
    """The divergence's Hessian at `start` (P,) times a vector (P,), from gradients on both sides.

    The parameters are left on one side: whoever calls puts them back.
    """
    # The cube root balances rounding and truncation of central differences. A fifth of it, because policies that adapt
    # inside are far from linear: measured in float32, their relative error is 1e-3 at worst, others' below 1e-4.
    reach = 0.2 * torch.finfo(start.dtype).eps ** (1 / 3) * (1 + start.norm())
    length = reach / vector.norm()
    sides = []
    for sign in (1, -1):
        _assign(parameters, start + sign * length * vector)
        sides.append(_gradient(divergence(), parameters))
    return (sides[0] - sides[1]) / (2 * length)


def _gradient(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """d value / d parameters, (P,); zero for those it does not depend on."""
    parts = torch.autograd.grad(value, parameters, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


def _usable(vector: Tensor) -> bool:
    """Whether a vector points anywhere."""
    return 0 < float(vector.norm()) < math.inf


def _vector(parameters: list[nn.Parameter]) -> Tensor:
    """A copy of the parameters, (P,)."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in parameters])


@torch.no_grad()
def _assign(parameters: list[nn.Parameter], vector: Tensor) -> None:
    """Copied into place: parameters may be parts of a vector of an optimiser."""
    parts = vector.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view_as(parameter))
