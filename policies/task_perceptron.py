"""A perceptron whose weights are a vector, one for every task: what gradient-based meta-learners adapt.

The gradient of a loss by the weights is written out, and so is its derivative: a step of MAML's inner loop is one node
of the graph, whose backward pass is one product with the Hessian (Pearlmutter 1994, Fast exact multiplication by the
Hessian). Tasks are one batched product, never a loop, and while they still share their weights one plain product.
`B` tasks, `N` samples of a task, `I` inputs, `O` outputs, `F` weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Layer = tuple[Tensor, Tensor]  # weight (B or 1, I, O) and bias (B or 1, 1, O)


class TaskPerceptron:
    """Linear layers with `activation` ("relu" or "tanh") between them. Holds no weights: `initial` makes a vector.

    With one vector of weights (1, F) all tasks share it.
    """

    def __init__(self, sizes: list[int], activation: str, output_gain: float = 0.01) -> None:
        self.sizes, self.relu, self._gain = sizes, activation == "relu", output_gain
        self._parts = [part for i, o in pairwise(sizes) for part in (i * o, o)]
        self.size = sum(self._parts)  # F

    def initial(self) -> Tensor:
        """(F,): orthogonal weights (gain √2, and `output_gain` in the last layer), biases of zero."""
        parts = []
        for index, (size_in, size_out) in enumerate(pairwise(self.sizes)):
            last = index == len(self.sizes) - 2
            weight = nn.init.orthogonal_(torch.empty(size_in, size_out), self._gain if last else math.sqrt(2))
            parts += [weight.reshape(-1), torch.zeros(size_out)]
        return torch.cat(parts)

    def layers(self, weights: Tensor) -> list[Layer]:
        """Views of weights (B, F)."""
        parts = weights.split(self._parts, dim=1)
        pairs = zip(parts[::2], parts[1::2], pairwise(self.sizes), strict=True)
        return [(weight.unflatten(1, shape), bias[:, None]) for weight, bias, shape in pairs]

    def activate(self, values: Tensor) -> Tensor:
        return torch.relu(values) if self.relu else torch.tanh(values)

    def activate_(self, values: Tensor) -> Tensor:
        return values.relu_() if self.relu else values.tanh_()

    def through(self, pull: Tensor, value: Tensor) -> Tensor:
        """`pull` times the activation's derivative, where it gave `value`."""
        if self.relu:
            return torch.ops.aten.threshold_backward(pull, value, 0)
        return torch.ops.aten.tanh_backward(pull, value)

    def __call__(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Inputs (B, N, I), weights (B, F) → (B, N, O), by operations that autograd knows."""
        *hidden, last = self.layers(weights)
        for layer in hidden:
            inputs = self.activate(affine(inputs, layer))
        return affine(inputs, last)

    def gradient(self, inputs: Tensor, weights: Tensor, spread: Tensor, loss: Loss) -> Tensor:
        """Of `loss` by weights (B or 1, F) and spread (B or 1, A), (B, F + A) for each task alone.

        `loss` takes outputs (B, N, O) and spread (B, 1, A), and sums over samples and tasks. The result can be
        differentiated once more, by inputs (B, N, I), weights and spread.
        """
        result: Tensor = WrittenOut.apply(self, loss, inputs, weights, spread)
        return result


Loss = Callable[[Tensor, Tensor], Tensor]


class WrittenOut(torch.autograd.Function):
    """The gradient of a loss by the weights of a `TaskPerceptron`; its backward is a product with the Hessian."""

    @staticmethod
    def forward(
        ctx: Any, network: TaskPerceptron, loss: Loss, inputs: Tensor, weights: Tensor, spread: Tensor
    ) -> Tensor:
        layers = network.layers(weights)
        values = [inputs]  # that each layer reads
        for layer in layers[:-1]:
            values.append(network.activate_(affine(values[-1], layer)))
        given = affine(values[-1], layers[-1]), spread[:, None].expand(len(inputs), 1, -1)
        with torch.enable_grad():  # the loss has few numbers beside the network: its derivatives are autograd's
            outputs = [output.detach().requires_grad_() for output in given]
            pulls = torch.autograd.grad(loss(*outputs), outputs, create_graph=True, materialize_grads=True)
        pull = pulls[0].detach()
        parts, pulled = [pulls[1].detach()[:, 0]], []  # last layer first
        for value, (weight, _) in zip(reversed(values), reversed(layers), strict=True):
            pulled.append(pull)
            parts += [pull.sum(1), torch.bmm(value.mT, pull).flatten(1)]
            if value is not inputs:
                pull = network.through(product(pull, weight.mT), value)
        ctx.network, ctx.outputs, ctx.pulls = network, outputs, pulls
        ctx.save_for_backward(weights, *values, *reversed(pulled))
        return torch.cat(parts[::-1], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        network: TaskPerceptron = ctx.network
        weights, *saved = ctx.saved_tensors
        values, pulled = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        shared = len(weights) == 1
        layers = network.layers(weights)
        direction, spread = gradients[0].split([network.size, gradients[0].shape[1] - network.size], dim=1)
        turns = network.layers(direction)  # how the weights move
        # Forward: how values and outputs move with the weights (the inputs do not).
        risen, moved = list[Tensor](), list[Tensor]()  # before and after the activation
        move = affine(values[0], turns[0])
        for value, (weight, _), turn in zip(values[1:], layers[1:], turns[1:], strict=True):
            risen.append(move)
            moved.append(network.through(move, value))
            move = add_product(affine(value, turn), moved[-1], weight)
        # Backward: how the pulls move.
        with torch.enable_grad():
            push, push_spread = torch.autograd.grad(
                ctx.pulls, ctx.outputs, (move, spread[:, None]), retain_graph=True, materialize_grads=True
            )
        parts = [push_spread[:, 0].sum(0, keepdim=True) if shared else push_spread[:, 0]]
        for index in reversed(range(len(layers))):
            value, pull = values[index], pulled[index]
            turned = outer(value, push, shared)
            if index:
                turned = turned + outer(moved[index - 1], pull, shared)
            parts += [push.sum((0, 1) if shared else 1).view(len(weights), -1), turned.flatten(1)]
            if index or ctx.needs_input_grad[2]:
                push = add_product(torch.bmm(pull, turns[index][0].mT), push, layers[index][0].mT)
            if index:
                push = network.through(push, value)
                if not network.relu:
                    push.addcmul_(value * pulled[index - 1], risen[index - 1], value=-2)
        d_inputs = push if ctx.needs_input_grad[2] else None
        return None, None, d_inputs, torch.cat(parts[:0:-1], dim=1), parts[0]


def product(values: Tensor, weight: Tensor) -> Tensor:
    """(B, N, I) times (B or 1, I, O)."""
    if weight.shape[0] == values.shape[0]:
        return torch.bmm(values, weight)
    return values @ weight[0]


def add_product(total: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Add (B, N, I) times (B or 1, I, O) to `total` (B, N, O), in place."""
    if weight.shape[0] == values.shape[0]:
        return total.baddbmm_(values, weight)
    total.view(-1, total.shape[2]).addmm_(values.flatten(0, 1), weight[0])
    return total


def affine(values: Tensor, layer: Layer) -> Tensor:
    """(B, N, I) through a layer, (B, N, O)."""
    weight, bias = layer
    if weight.shape[0] == values.shape[0]:  # len() would bake the batch into an exported graph
        return torch.baddbmm(bias, values, weight)
    return torch.addmm(bias[0], values.flatten(0, 1), weight[0]).unflatten(0, values.shape[:2])


def outer(values: Tensor, pull: Tensor, shared: bool) -> Tensor:
    """Sum over samples of (B, N, I) by (B, N, O): (B, I, O); over tasks as well where they share, (1, I, O)."""
    if shared:
        return (values.flatten(0, 1).mT @ pull.flatten(0, 1))[None]
    return torch.bmm(values.mT, pull)
