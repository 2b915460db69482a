"""The written-out perceptron against PyTorch's own."""

import pytest
import torch

from policies.perceptron import Perceptron, Room, WrittenOut, backward_pass, forward_pass


def test_values_and_gradients_equal_those_of_pytorch() -> None:
    torch.manual_seed(0)
    network, inputs = Perceptron([5, 7, 6, 2], output_gain=1.0), torch.randn(3, 4, 5, requires_grad=True)
    wanted, got = network(inputs), network.train_on(inputs)
    assert got.shape == (3, 4, 2) and torch.allclose(got, wanted, atol=1e-6)
    pull, every = torch.randn_like(wanted), [inputs, *network.parameters()]
    expected = torch.autograd.grad((wanted * pull).sum(), every)
    actual = torch.autograd.grad((got * pull).sum(), every)
    for a, b in zip(actual, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("sizes", [[3, 2], [3, 4, 2]])
def test_gradients_against_finite_differences(sizes: list[int]) -> None:
    torch.manual_seed(1)
    network = Perceptron(sizes, output_gain=1.0).double()
    inputs = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(WrittenOut.apply, (inputs, *network.parameters()))


@pytest.mark.parametrize("rows", [6, 1200])
@pytest.mark.parametrize("sizes", [[3, 2], [2, 6, 4, 1], [7, 5, 5, 3]])
def test_passes_without_autograd_add_the_same_gradients(sizes: list[int], rows: int) -> None:
    torch.manual_seed(2)
    network, inputs = Perceptron(sizes, output_gain=1.0), torch.randn(rows, sizes[0], requires_grad=True)
    outputs, pull = network(inputs), torch.randn(rows, sizes[-1]) / rows
    weights = list(network.parameters())
    *expected, d_inputs = torch.autograd.grad((outputs * pull).sum(), [*weights, inputs])
    gradients, room = [torch.ones_like(weight) for weight in weights], Room()
    with torch.no_grad():
        *values, got = forward_pass(weights, inputs, room)
        assert torch.allclose(got, outputs, atol=1e-6)
        back = backward_pass(weights, gradients, values, pull.clone(), room, to_inputs=True)
        assert backward_pass(weights, gradients, values, pull, room, to_inputs=False) is None
    assert back is not None and torch.allclose(back, d_inputs, atol=1e-6)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, 1 + 2 * wanted, atol=2e-6)


def test_tanh_keeps_its_limits() -> None:
    network = Perceptron([1, 1, 1], output_gain=1.0)
    with torch.no_grad():
        for weight, value in zip(network.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            weight.fill_(value)
        steps = torch.tensor([-1e4, -30.0, -1.0, 0.0, 1e-3, 1.0, 30.0, 1e4])[:, None]
        assert torch.allclose(network.train_on(steps), torch.tanh(steps), rtol=0, atol=2e-7)
