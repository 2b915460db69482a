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

Layer = tuple[Tensor, Tensor]  # weight (B or 1, O, I), as it is fastest for few outputs, and bias (B or 1, 1, O)


class TaskPerceptron:
    """Linear layers with `activation` ("relu" or "tanh") between them. Holds no weights: `initial` makes a vector.

    With one vector of weights (1, F) all tasks share it.
    """

    def __init__(self, sizes: list[int], activation: str, output_gain: float = 0.01) -> None:
        self.sizes, self.relu, self._gain = sizes, activation == "relu", output_gain
        self._parts = [part for i, o in pairwise(sizes) for part in (o * i, o)]
        self.size = sum(self._parts)  # F

    def initial(self) -> Tensor:
        """(F,): orthogonal weights (gain √2, and `output_gain` in the last layer), biases of zero."""
        parts = []
        for index, (size_in, size_out) in enumerate(pairwise(self.sizes)):
            last = index == len(self.sizes) - 2
            weight = nn.init.orthogonal_(torch.empty(size_out, size_in), self._gain if last else math.sqrt(2))
            parts += [weight.reshape(-1), torch.zeros(size_out)]
        return torch.cat(parts)

    def layers(self, weights: Tensor) -> list[Layer]:
        """Views of weights (B, F)."""
        parts = weights.split(self._parts, dim=1)
        pairs = zip(parts[::2], parts[1::2], self.sizes[1:], strict=True)
        return [(weight.unflatten(1, (size_out, -1)), bias[:, None]) for weight, bias, size_out in pairs]

    def activate(self, values: Tensor) -> Tensor:
        return torch.relu(values) if self.relu else torch.tanh(values)

    def activate_(self, values: Tensor) -> Tensor:
        return values.relu_() if self.relu else values.tanh_()

    def through_(self, pull: Tensor, value: Tensor) -> Tensor:
        """`pull` times the activation's derivative, where it gave `value`; in place, for memory is what takes time."""
        if self.relu:
            torch.ops.aten.threshold_backward.grad_input(pull, value, 0, grad_input=pull)
        else:
            torch.ops.aten.tanh_backward.grad_input(pull, value, grad_input=pull)
        return pull

    def __call__(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Inputs (B, N, I), weights (B, F) → (B, N, O), by operations that autograd knows."""
        *hidden, last = self.layers(weights)
        for layer in hidden:
            inputs = self.activate(affine(inputs, layer))
        return affine(inputs, last)

    def train_on(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """The same for training: faster, first derivatives only."""
        result: Tensor = Outputs.apply(self, inputs, weights)
        return result

    def forward(self, inputs: Tensor, layers: list[Layer]) -> tuple[list[Tensor], Tensor]:
        """What each layer reads, and the outputs; no graph."""
        values = [inputs]
        for layer in layers[:-1]:
            values.append(self.activate_(affine(values[-1], layer)))
        return values, affine(values[-1], layers[-1])

    def backward(self, pull: Tensor, values: list[Tensor], layers: list[Layer]) -> tuple[list[Tensor], list[Tensor]]:
        """From that by outputs: parts of the gradient by weights (B, F), and those by what each layer gave."""
        parts, pulled = list[Tensor](), list[Tensor]()  # last layer first
        for index in reversed(range(len(layers))):
            pulled.append(pull)
            parts += [pull.sum(1), torch.bmm(pull.mT, values[index]).flatten(1)]
            if index:
                pull = self.through_(product(pull, layers[index][0]), values[index])
        return parts[::-1], pulled[::-1]

    def gradient(self, inputs: Tensor, weights: Tensor, spread: Tensor, loss: Loss) -> Tensor:
        """Of `loss` by weights (B or 1, F) and spread (B or 1, A), (B, F + A) for each task alone.

        `loss` takes outputs (B, N, O) and spread (B, 1, A), and sums over samples and tasks. The result can be
        differentiated once more, by inputs (B, N, I), weights and spread.
        """
        result: Tensor = WrittenOut.apply(self, loss, inputs, weights, spread)
        return result


Loss = Callable[[Tensor, Tensor], Tensor]


class Outputs(torch.autograd.Function):
    """Those of a `TaskPerceptron`, as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, network: TaskPerceptron, inputs: Tensor, weights: Tensor) -> Tensor:
        values, outputs = network.forward(inputs, network.layers(weights))
        ctx.network = network
        ctx.save_for_backward(weights, *values)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor | None, ...]:
        weights, *values = ctx.saved_tensors
        shared, layers = len(weights) == 1, ctx.network.layers(weights)
        together = [merged(value, shared) for value in values]
        parts, pulled = ctx.network.backward(merged(pulls[0], shared), together, layers)
        d_inputs = product(pulled[0], layers[0][0]).view_as(values[0]) if ctx.needs_input_grad[1] else None
        return None, d_inputs, torch.cat(parts, dim=1)


class WrittenOut(torch.autograd.Function):
    """The gradient of a loss by the weights of a `TaskPerceptron`; its backward is a product with the Hessian."""

    @staticmethod
    def forward(
        ctx: Any, network: TaskPerceptron, loss: Loss, inputs: Tensor, weights: Tensor, spread: Tensor
    ) -> Tensor:
        layers = network.layers(weights)
        values, result = network.forward(inputs, layers)
        given = result, spread[:, None].expand(len(inputs), 1, -1)
        with torch.enable_grad():  # the loss has few numbers beside the network: its derivatives are autograd's
            outputs = [output.detach().requires_grad_() for output in given]
            pulls = torch.autograd.grad(loss(*outputs), outputs, create_graph=True, materialize_grads=True)
        parts, pulled = network.backward(pulls[0].detach(), values, layers)
        ctx.network, ctx.outputs, ctx.pulls = network, outputs, pulls
        ctx.save_for_backward(weights, *values, *pulled)
        return torch.cat([*parts, pulls[1].detach()[:, 0]], dim=1)

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
            risen.append(move if network.relu else move.clone())  # only tanh needs it again
            moved.append(network.through_(move, value))
            move = add_product(affine(value, turn), moved[-1], weight.mT)
        # Backward: how the pulls move.
        with torch.enable_grad():
            push, push_spread = torch.autograd.grad(
                ctx.pulls, ctx.outputs, (move, spread[:, None]), retain_graph=True, materialize_grads=True
            )
        parts = [push_spread[:, 0].sum(0, keepdim=True) if shared else push_spread[:, 0]]
        for index in reversed(range(len(layers))):
            value, pull = values[index], pulled[index]
            pushed = merged(push, shared)
            turned = torch.bmm(pushed.mT, merged(value, shared))
            if index:
                turned.baddbmm_(merged(pull, shared).mT, merged(moved[index - 1], shared))
            parts += [pushed.sum(1), turned.flatten(1)]
            if index or ctx.needs_input_grad[2]:
                push = add_product(torch.bmm(pull, turns[index][0]), push, layers[index][0])
            if index:
                network.through_(push, value)
                if not network.relu:
                    push.addcmul_(value * pulled[index - 1], risen[index - 1], value=-2)
        d_inputs = push if ctx.needs_input_grad[2] else None
        return None, None, d_inputs, torch.cat(parts[:0:-1], dim=1), parts[0]


def merged(values: Tensor, shared: bool) -> Tensor:
    """(B, N, ·), or (1, B N, ·) where tasks share their weights, so that sums go over all of them."""
    return values.flatten(0, 1)[None] if shared else values


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
        return torch.baddbmm(bias, values, weight.mT)
    return torch.addmm(bias[0], values.flatten(0, 1), weight[0].t()).unflatten(0, values.shape[:2])
