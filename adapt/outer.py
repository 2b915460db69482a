"""Outer steps of gradient-based meta-learners: trust region, or Adam on a clipped surrogate.

What is optimised is a mean over tasks. Its gradient is gathered from chunks of tasks, so that memory is bounded and
what one chunk needs stays in the processor's cache; the result does not depend on the chunks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from adapt.trpo import TRPOSettings, trust_region_step
from hardware_io.config import option


class DivergenceError(RuntimeError):
    """Numbers that are not finite where a learner would go on with them; it stays as it was before."""


@dataclass(frozen=True)
class AdamSettings:
    """Of the clipped surrogate (Schulman et al. 2017): every epoch is one step on all samples."""

    epochs: int = option(5, min=1)
    learning_rate: float = option(1e-3, min=0.0)
    clip: float = option(0.3, min=0.0)
    max_gradient: float = option(0.5, min=1e-6, help="norm to which gradients are shortened")


@dataclass(frozen=True)
class OuterSettings:
    """How shared parameters are moved."""

    method: str = option("trpo", choices=("trpo", "ppo"))
    trpo: TRPOSettings = option(TRPOSettings)
    ppo: AdamSettings = option(AdamSettings)
    divergence_share: float = option(1.0, min=0.01, max=1.0, help="of the tasks, on which the divergence is measured")
    warm_up: int = option(0, min=0, unit="iterations", help="over which steps grow to their full length")


@dataclass(frozen=True)
class ClippedSettings(OuterSettings):
    """The same with another default."""

    method: str = option("ppo", choices=("trpo", "ppo"))


class Outer:
    """Moves `parameters`; counts iterations for the warm-up."""

    def __init__(self, parameters: list[nn.Parameter], settings: OuterSettings) -> None:
        self.parameters, self.settings, self.iteration = parameters, settings, 0
        self.adam = torch.optim.Adam(parameters, settings.ppo.learning_rate)

    def step(self, surrogate: Callable[[], Tensor], divergence: Callable[[], Tensor]) -> dict[str, float]:
        """Raise the surrogate; returns metrics. Raises DivergenceError, and then nothing has changed."""
        share = self.warm_up_share()
        metrics = self._trust_region(surrogate, divergence, share) if self.settings.method == "trpo" else \
            self._adam(surrogate, divergence, share)  # fmt: skip
        self.iteration += 1
        return metrics

    def warm_up_share(self) -> float:
        """Length of the present step as a share of its full length."""
        return min(1.0, (self.iteration + 1) / max(self.settings.warm_up, 1))

    def check(self, move: Tensor) -> None:
        """Raises DivergenceError for a gradient or step that is not finite."""
        if not move.isfinite().all():
            raise DivergenceError(f"outer step {self.iteration + 1}: the move of the shared parameters is not finite")

    def _trust_region(
        self, surrogate: Callable[[], Tensor], divergence: Callable[[], Tensor], share: float
    ) -> dict[str, float]:
        trpo = self.settings.trpo
        settings = replace(trpo, max_kl=trpo.max_kl * share**2)  # the length goes with the root
        return trust_region_step(self.parameters, surrogate, divergence, settings)

    def _adam(
        self, surrogate: Callable[[], Tensor], divergence: Callable[[], Tensor], share: float
    ) -> dict[str, float]:
        settings, before = self.settings.ppo, copy.deepcopy((self.parameters, self.adam.state_dict()))
        self.adam.param_groups[0]["lr"] = settings.learning_rate * share
        values = []
        for _ in range(settings.epochs):
            value = surrogate()
            gradients = torch.autograd.grad(value, self.parameters, materialize_grads=True)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient.neg()
            norm = nn.utils.clip_grad_norm_(self.parameters, settings.max_gradient)
            if not norm.isfinite():
                self._restore(*before)
                self.check(norm)
            self.adam.step()
            values.append(value.item())
        with torch.no_grad():
            kl, last = divergence().item(), surrogate().item()
        return {"improvement": last - values[0], "kl": kl, "rate": settings.learning_rate * share}

    @torch.no_grad()
    def _restore(self, parameters: list[nn.Parameter], state: dict[str, Any]) -> None:
        for parameter, value in zip(self.parameters, parameters, strict=True):
            parameter.copy_(value)
        self.adam.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        return {"iteration": self.iteration, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration = state["iteration"]
        self.adam.load_state_dict(state["adam"])


def total(function: Callable[[slice], Tensor], chunks: Sequence[slice], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Σ `function`(chunk), a scalar; its gradient by `parameters` is there at once and no graph outlives its chunk."""
    if not torch.is_grad_enabled():
        return torch.stack([function(chunk) for chunk in chunks]).sum()
    result: Tensor = Gathered.apply(function, chunks, *parameters)
    return result


class Gathered(torch.autograd.Function):
    """Sum over chunks, with its gradient gathered on the way."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[[slice], Tensor], chunks: Sequence[slice], *parameters: nn.Parameter
    ) -> Tensor:
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        value = torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)
        for chunk in chunks:
            with torch.enable_grad():
                part = function(chunk)
                gained = torch.autograd.grad(part, parameters, materialize_grads=True)
            value += part.detach()
            for gradient, more in zip(gradients, gained, strict=True):
                gradient += more
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    def backward(ctx: Any, *pull: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(pull[0] * gradient for gradient in ctx.saved_tensors)
