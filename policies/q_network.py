"""Values of actions, and the choice among them inside the graph: what DQN acts by.

Each command of a continuous action is cut into levels and chosen for itself (action branching, Tavakoli et al. 2018,
https://arxiv.org/abs/1711.08946); a discrete action is one choice. `B` tasks, `N` samples of a task, `I` inputs,
`A` action, `D` choices, `L` levels of each, `F` weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardware_io.interface import Interface
from policies.task_perceptron import TaskPerceptron


class QNetwork:
    """A perceptron with the weights of each task, (B or 1, F). Holds none itself: `initial` makes a vector.

    With `dueling` there is one value of the state and an advantage of each level, whose mean over levels is taken away
    (Wang et al. 2016, https://arxiv.org/abs/1511.06581, equation 9). The two streams are linear here.
    """

    def __init__(self, size_in: int, hidden: tuple[int, ...], choices: int, levels: int, dueling: bool) -> None:
        self.dueling, self.levels = dueling, levels
        # tanh: ONNX Runtime's relu turns NaN into a number and so hides a fault.
        self.perceptron = TaskPerceptron([size_in, *hidden, choices * levels + dueling], "tanh")
        self.size = self.perceptron.size  # F

    def initial(self) -> Tensor:
        """(F,)"""
        return self.perceptron.initial()

    def __call__(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Inputs (B, N, I), weights (B or 1, F) → value of each level of each choice, (B, N, D, L)."""
        run = self.perceptron.train_on if torch.is_grad_enabled() else self.perceptron
        outputs = run(inputs, weights)
        if not self.dueling:
            return outputs.unflatten(-1, (-1, self.levels))
        advantage = outputs[..., 1:].unflatten(-1, (-1, self.levels))
        return outputs[..., :1, None] + advantage - advantage.mean(-1, keepdim=True)


class Choices:
    """How values become a command: one-hot for a discrete action, one of `bins` even levels for each other command."""

    def __init__(self, interface: Interface, bins: int) -> None:
        self.discrete = interface.discrete
        self.count = 1 if self.discrete else interface.actions  # D
        self.levels = interface.actions if self.discrete else bins  # L

    def draw(self, values: Tensor, noise: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Values (..., D, L), standard normal noise (..., A), exploration rate () → level (..., D), whether explored.

        A choice explores where its noise lies in the upper tail, which is hit with probability `rate`; the place in
        the tail says which level, all of them equally likely. Without noise, exactly 0, it is greedy at any rate.
        """
        noise = noise[..., : self.count]
        share = 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
        place = (share - (1 - rate)) / rate.clamp(min=1e-6)
        explored = (place > 0) & (noise != 0)
        anywhere = (place * self.levels).clamp(0, self.levels - 1).floor()
        greedy = torch.argmax(values, dim=-1).to(values.dtype)
        fault = 0 * (values.sum(-1) + noise)  # NaN where one of them is: a greatest one would be found among NaN, too
        return torch.where(explored, anywhere, greedy) + fault, explored

    def action(self, level: Tensor) -> Tensor:
        """Levels (..., D) → action (..., A): one-hot, or shares of each limit."""
        if self.discrete:
            return (level == torch.arange(self.levels, device=level.device)).to(level.dtype)
        return level * (2 / (self.levels - 1)) - 1

    def level(self, action: Tensor) -> Tensor:
        """The other way round, (..., A) → (..., D), whole numbers."""
        if self.discrete:
            return action.argmax(-1, keepdim=True)
        return ((action + 1) * ((self.levels - 1) / 2)).round().long()
