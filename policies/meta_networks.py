"""Meta Networks (Munkhdalai & Yu 2017, https://arxiv.org/abs/1703.00837), for a robot that has no labels.

Each layer of a small network has slow weights, which training changes, and fast weights, which are made on the robot
from gradients of a loss; its output is the sum of both (layer augmentation). Kept from the paper: gradients are those
of the slow weights alone; a generator, shared by all coordinates, turns each into a fast weight; the representation
layer has task-level fast weights, the base layer example-level ones that are read from a memory by attention over
representations. What differs, and why:
- a robot has no labelled support set, so the loss is the squared error with which the slow network foretold the present
  inputs from those of the step before. Two layers and a linear prediction have their gradients in closed form, as outer
  products, so that the graph needs no differentiation. Nothing trains the prediction to be right: like all slow weights
  it is trained for what the policy is paid for;
- examples come without end, so the memory has a fixed number of slots, each a running mean of the examples whose
  representation it resembles, in place of one slot an example. For the same reason task-level weights are a running
  mean with learned rates, in place of an LSTM over a support set;
- every robot of a batch has its own fast weights; both generators are two-layer perceptrons without bias, so that no
  gradient means no fast weight.
`B` batch, `T` time, `I` inputs, `E` units of a layer, `N` slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hardware_io.config import option
from policies.addressing import ExternalMemory, content

GAIN = 10.0  # gradients of a mean over inputs are a few hundredths; the generators' tanh wants tenths


@dataclass(frozen=True)
class FastWeightsSettings:
    """Sizes of the network and of its memory, which holds about slots · units² numbers."""

    units: int = option(12, min=2, help="of each of the three layers")
    slots: int = option(8, min=2)
    generator: int = option(6, min=1, help="units of the networks that turn gradients into fast weights")


class Generator(nn.Module):
    """A gradient → a fast weight, the same function for every coordinate; odd, so zero stays zero."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.randn(units))
        self.w_out = nn.Parameter(torch.randn(units) / math.sqrt(units))

    def forward(self, gradient: Tensor) -> Tensor:
        """(...,) → (...,)"""
        return torch.tanh(gradient[..., None] * (GAIN * self.w_in)) @ self.w_out


class FastWeights(ExternalMemory):
    """What is read is the base layer's output, (B, E)."""

    def __init__(self, size_in: int, settings: FastWeightsSettings) -> None:
        units, slots = settings.units, settings.slots
        # Keys at first: cosines of rising frequency, so that no two slots are alike (for fewer than 2 E slots).
        waves = torch.outer(torch.arange(slots) + 0.5, torch.arange(units) + 0.5) * math.pi / units
        keys = 0.5 * torch.cos(waves)
        super().__init__(
            size_in, units, [torch.zeros(units), torch.zeros(units, units), keys, torch.zeros(slots, units, units)]
        )
        self.sense = nn.Linear(size_in, units)
        # Without bias: before there is a step before, activations are zero, and so are all gradients.
        self.represent = nn.Linear(units, units, bias=False)
        self.base = nn.Linear(units, units, bias=False)
        self.foretell = nn.Linear(units, size_in, bias=False)
        self.task_weights, self.example_weights = Generator(settings.generator), Generator(settings.generator)
        self.task_rate = nn.Parameter(torch.full((units, units), -3.0))  # a running mean over some 20 steps
        self.example_rate = nn.Parameter(torch.tensor(-1.0))
        self.strength = nn.Parameter(torch.tensor(5.0))

    def gradients(self, before: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Of half the mean squared error of foretelling `inputs` (..., I) from what was sensed `before` (..., E).

        With respect to the slow weights of the representation layer and of the base layer, each (..., E, E).
        """
        represented = torch.tanh(self.represent(before))
        output = torch.tanh(self.base(represented))
        error = (self.foretell(output) - inputs) / inputs.shape[-1]
        of_base = (error @ self.foretell.weight) * (1 - output.square())
        of_represent = (of_base @ self.base.weight) * (1 - represented.square())
        return of_represent[..., None] * before[..., None, :], of_base[..., None] * represented[..., None, :]

    def prepare(self, inputs: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What was sensed before and now (B, T, 2, E), its slow representation, and new fast weights (B, T, E, E).

        Gradients are those of slow weights, so all that is costly needs no recurrence.
        """
        now = torch.tanh(self.sense(inputs))
        before = torch.cat([parts[0][:, None], now[:, :-1]], dim=1)
        of_task, of_example = self.gradients(before, inputs)
        both = torch.stack([before, now], dim=2)
        fast = self.task_weights(of_task), self.example_weights(of_example)
        return both, torch.tanh(self.represent(both)), *fast

    def advance(self, prepared: tuple[Tensor, ...], parts: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Parts: what was sensed (B, E), task-level weights (B, E, E), keys (B, N, E), example-level ones (B, N, E, E).

        Where an example is stored and where is read are both found with the keys of the step before.
        """
        both, slow, of_task, of_example = prepared
        _, task, keys, examples = parts
        task = torch.lerp(task, of_task, torch.sigmoid(self.task_rate))
        represented = slow + torch.tanh(both @ task.transpose(1, 2))  # before and now, (B, 2, E)
        store, read = content(represented, functional.softplus(self.strength), keys).unbind(1)
        share = (torch.sigmoid(self.example_rate) * store)[..., None]
        keys = torch.lerp(keys, represented[:, :1], share)
        examples = torch.lerp(examples, of_example[:, None], share[..., None])
        fast = (read[:, None] @ examples.flatten(2)).view_as(task)
        now = represented[:, 1]
        output = torch.tanh(self.base(now)) + torch.tanh((fast @ now[..., None]).squeeze(-1))
        return output, (both[:, 1], task, keys, examples)
