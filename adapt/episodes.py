"""What rollouts leave behind: the one shape that learners train on and adapt from, in simulation and from a robot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Episodes:
    """`K` rollouts of `T` steps of `B` robots, float32 unless said. `O` observation, `A` action, `F` fast state."""

    observation: Tensor  # (B, K, T+1, O) in the units of the channels
    asked: Tensor  # (B, K, T, A) command that the policy gave, N·m
    sent: Tensor  # (B, K, T, A) command that the robot got, N·m
    noise: Tensor  # (B, K, T, A) standard normal, zeros where the policy did not explore
    reward: Tensor  # (B, K, T)
    valid: Tensor  # (B, K, T) bool: the rollout had not ended before this step
    terminated: Tensor  # (B, K, T) bool: it ended with this step, not by running out of time
    fast: Tensor  # (B, K, F) at the start of each rollout
    last_fast: Tensor  # (B, F) after the last rollout
    dynamics: Tensor | None  # (B, P) true hidden parameters, each in its unit; None on a real robot
    extra: dict[str, Tensor] = field(default_factory=dict)  # per step, (B, K, T, ...)

    @property
    def robots(self) -> int:
        return self.reward.shape[0]

    @property
    def rollouts(self) -> int:
        return self.reward.shape[1]

    @property
    def returns(self) -> Tensor:
        """Sum of rewards of each rollout, (B, K)."""
        return (self.reward * self.valid).sum(-1)

    @property
    def gained(self) -> Tensor:
        """What training maximises, (B, K, T): the reward, or less noisy the regret, negative, where it was recorded."""
        return -self.extra["regret"] if "regret" in self.extra else self.reward

    def robots_at(self, index: Tensor | slice) -> Episodes:
        """The episodes of some of the robots."""
        return self._map(lambda values: values[index])

    def then(self, other: Episodes) -> Episodes:
        """The rollouts of the same robots that followed."""
        joined = {
            f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)], dim=1)
            for f in fields(self)
            if f.name not in ("last_fast", "dynamics", "extra")
        }
        extra = {name: torch.cat([values, other.extra[name]], dim=1) for name, values in self.extra.items()}
        return Episodes(**joined, last_fast=other.last_fast, dynamics=self.dynamics, extra=extra)

    def to(self, device: torch.device) -> Episodes:
        return self._map(lambda values: values.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Episodes:
        plain = {f.name: function(getattr(self, f.name)) for f in fields(self) if f.name not in ("dynamics", "extra")}
        dynamics = None if self.dynamics is None else function(self.dynamics)
        return Episodes(**plain, dynamics=dynamics, extra={name: function(v) for name, v in self.extra.items()})
