"""A linear-quadratic regulator around the goal, inside the graph, on which a policy lays what it has learned.

Reinforcement finds it hard to balance what falls over within tenths of a second, and a regulator cannot swing up: the
policy acts alone far from the goal, and adds to the regulator where that one is at home (residual policy learning,
Silver et al. 2018, https://arxiv.org/abs/1812.06298; Johannink et al. 2019, https://arxiv.org/abs/1812.03201).
`J` joints, `A` action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_discrete_are
from torch import Tensor, nn

from hardware_io.config import ConfigError, option
from hardware_io.interface import Interface, Linear


@dataclass(frozen=True)
class RegulatorSettings:
    """Weights of the quadratic cost, a second, and where the regulator acts."""

    position: float = option(1.0, min=1e-6, unit="1/rad²", help="cost of an error of a joint")
    velocity: float = option(0.1, min=0.0, unit="s²/rad²")
    effort: float = option(0.5, min=1e-6, unit="1/(N·m)²")
    reach: float = option(0.5, min=0.0, help="cost-to-go below which it acts: no more than it can hold")
    share: float = option(0.25, min=0.0, max=1.0, help="of the limit, that the policy may add to it there")


def check_history(regulator: RegulatorSettings | None, frames: int) -> None:
    """Of learners whose regulator reads it. Raises ConfigError where none is kept."""
    if regulator is not None and not frames:
        raise ConfigError("", "frames", frames, "at least 1 with a regulator, which reads changes of position")


def gains(linear: Linear, settings: RegulatorSettings) -> tuple[np.ndarray, np.ndarray]:
    """Feedback (A, 2J) in N·m a unit of error, and cost-to-go (2J, 2J), of the infinite horizon in discrete time."""
    a, b = np.asarray(linear.state), np.asarray(linear.action)
    joints = len(linear.goal)
    weights = np.diag([settings.position] * joints + [settings.velocity] * joints) * linear.period
    effort = np.eye(b.shape[1]) * settings.effort * linear.period
    cost = solve_discrete_are(a, b, weights, effort)
    return np.linalg.solve(effort + b.T @ cost @ b, b.T @ cost @ a), cost


class Regulator(nn.Module):
    """What a command is, of an action and where the robot is.

    With `measured` velocities it can also be asked of an observation alone. Raises ConfigError for a task without a
    linear model, and for a robot that does not show what is read.
    """

    def __init__(self, interface: Interface, settings: RegulatorSettings, measured: bool = False) -> None:
        super().__init__()
        if interface.linear is None:
            raise _impossible("the task has no pose in which it could be linearised")
        if not interface.positions:
            raise _impossible("no channel of the robot shows positions of all joints")
        if measured and not interface.velocities:
            raise _impossible("no channel of the robot shows velocities of all joints, and the learner has no history")
        gain, cost = gains(interface.linear, settings)
        limit = np.asarray(interface.limit)
        self.reach, self.share = settings.reach, settings.share
        self.period = interface.linear.period
        self.register_buffer("goal", torch.tensor(interface.linear.goal, dtype=torch.float32))
        self.register_buffer("gain", torch.tensor(gain / limit[:, None], dtype=torch.float32))
        self.register_buffer("cost", torch.tensor(cost, dtype=torch.float32))
        self.register_buffer("positions", torch.tensor(interface.positions, dtype=torch.long), persistent=False)
        self.register_buffer("velocities", torch.tensor(interface.velocities, dtype=torch.long), persistent=False)
        self.goal: Tensor
        self.gain: Tensor
        self.cost: Tensor
        self.positions: Tensor
        self.velocities: Tensor

    def forward(self, position: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and how they just changed, (..., J) rad → command (..., A) of ±1 and cost-to-go (..., 1)."""
        return self.advise(position, moved / self.period)

    def observe(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """The same of observations (..., O), with velocities as they were measured."""
        return self.advise(observation.index_select(-1, self.positions), observation.index_select(-1, self.velocities))

    def advise(self, position: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """The same of positions (..., J) rad and velocities (..., J) rad/s."""
        error = position - self.goal
        error = error - 2 * math.pi * torch.round(error / (2 * math.pi))
        state = torch.cat([error, velocity], dim=-1)
        return -(state @ self.gain.T), ((state @ self.cost) * state).sum(-1, keepdim=True)

    def read(self, command: Tensor, cost: Tensor) -> Tensor:
        """What a policy is told of it: its command, and the cost-to-go on a logarithmic scale, (..., A+1)."""
        return torch.cat([command.clamp(-3, 3), torch.log1p(cost) - 2], dim=-1)

    def blend(self, command: Tensor, cost: Tensor, action: Tensor) -> Tensor:
        """The command (..., A) of ±1 that an action (..., A) of ±1 becomes beside the regulator's."""
        return torch.where(cost < self.reach, command + self.share * action, action).clamp(-1, 1)

    def slope(self, cost: Tensor, blended: Tensor) -> Tensor:
        """That of the command by the action, (..., A), where `blend` gave `blended`."""
        free = (blended.abs() < 1).to(blended.dtype)
        return torch.where(cost < self.reach, self.share * free, free)


def _impossible(why: str) -> ConfigError:
    return ConfigError("learner", "regulator", "settings", f"none: {why}")
