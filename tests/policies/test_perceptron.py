"""The written-out perceptron against PyTorch's own."""

import pytest
import torch

from policies.perceptron import Perceptron, WrittenOut


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
