"""A perceptron with weights of each task: against plain layers, autograd and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from policies.task_perceptron import TaskPerceptron

B, N, SIZES = 3, 5, [4, 6, 5, 2]


def loss(outputs: Tensor, spread: Tensor) -> Tensor:
    """Something that is curved in both."""
    return (torch.exp(0.3 * outputs) * torch.exp(-spread)).sin().sum()


def setting(activation: str, shared: bool) -> tuple[TaskPerceptron, Tensor, Tensor, Tensor]:
    """A network with inputs (B, N, I), weights and spread, in float64."""
    torch.manual_seed(0)
    network, rows = TaskPerceptron(SIZES, activation, output_gain=1.0), 1 if shared else B
    weights = network.initial().double() + 0.3 * torch.randn(rows, network.size, dtype=torch.float64)
    inputs = torch.randn(B, N, 4, dtype=torch.float64)
    spread = torch.randn(rows, 2, dtype=torch.float64)
    return network, *(value.requires_grad_() for value in (inputs, weights, spread))


def by_autograd(network: TaskPerceptron, inputs: Tensor, weights: Tensor, spread: Tensor) -> Tensor:
    own = weights.expand(B, -1), spread.expand(B, -1)
    value = loss(network(inputs, own[0]), own[1][:, None])
    return torch.cat(torch.autograd.grad(value, own, create_graph=True), dim=1)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_task_has_a_perceptron_of_its_own(activation: str) -> None:
    network, inputs, weights, _ = setting(activation, shared=False)
    outputs = network(inputs, weights)
    for task in range(B):
        values, rest = inputs[task], weights[task]
        for index, (i, o) in enumerate(((4, 6), (6, 5), (5, 2))):
            weight, bias, rest = rest[: i * o].view(o, i), rest[i * o : i * o + o], rest[i * o + o :]
            values = values @ weight.T + bias
            values = values if index == 2 else getattr(torch, activation)(values)
        assert len(rest) == 0 and torch.allclose(outputs[task], values)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradient_and_hessian_product_are_those_of_autograd(activation: str, shared: bool) -> None:
    network, *values = setting(activation, shared)
    ours, theirs = network.gradient(*values, loss), by_autograd(network, *values)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    direction = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, values, direction), torch.autograd.grad(theirs, values, direction), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_hessian_product_is_that_of_finite_differences() -> None:
    network, *values = setting("tanh", shared=True)
    assert torch.autograd.gradcheck(lambda *all_: network.gradient(*all_, loss), values)


def test_shared_weights_give_what_repeated_ones_do() -> None:
    network, inputs, weights, spread = setting("tanh", shared=True)
    repeated = network.gradient(inputs, weights.repeat(B, 1), spread.repeat(B, 1), loss)
    assert torch.allclose(network.gradient(inputs, weights, spread, loss), repeated)
    assert torch.allclose(network(inputs, weights), network(inputs, weights.repeat(B, 1)))


def test_without_a_spread() -> None:
    network, inputs, weights, _ = setting("tanh", shared=True)
    nothing = torch.zeros(1, 0, dtype=torch.float64)
    gradient = network.gradient(inputs, weights, nothing, lambda outputs, _: outputs.square().sum())
    assert gradient.shape == (B, network.size) and gradient.abs().sum() > 0


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_training_gives_the_same_outputs_and_derivatives(activation: str, shared: bool) -> None:
    network, inputs, weights, _ = setting(activation, shared)
    ours, theirs = network.train_on(inputs, weights), network(inputs, weights)
    assert torch.allclose(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours.sin().sum(), (inputs, weights)),
        torch.autograd.grad(theirs.sin().sum(), (inputs, weights)),
        strict=True,
    ):
        assert torch.allclose(one, other)
