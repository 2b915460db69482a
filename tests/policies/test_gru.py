"""The written-out GRU against PyTorch's own, and its two forms against each other."""

import torch
from torch import nn

from policies.gru import UnrolledGRU
from policies.networks import Memory


def weights(memory: Memory) -> tuple[torch.Tensor, ...]:
    return memory.w_in, memory.w_state, memory.b_in, memory.b_state


def test_values_and_gradients_equal_those_of_pytorch() -> None:
    torch.manual_seed(0)
    theirs = nn.GRU(5, 7)
    inputs, start = torch.randn(11, 3, 5, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    own = [theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0, theirs.bias_hh_l0]
    wanted, _ = theirs(inputs, start[None])
    got = UnrolledGRU.apply(inputs, start, *own)
    assert torch.allclose(got, wanted, atol=1e-6)
    pull = torch.randn_like(wanted)
    expected = torch.autograd.grad((wanted * pull).sum(), [inputs, start, *own])
    actual = torch.autograd.grad((got * pull).sum(), [inputs, start, *own])
    for a, b in zip(actual, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_gradients_against_finite_differences() -> None:
    torch.manual_seed(1)
    memory = Memory(3, 4).double()
    inputs, start = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    arguments = tuple(x.detach().requires_grad_() for x in (inputs, start, *weights(memory)))
    assert torch.autograd.gradcheck(UnrolledGRU.apply, arguments)


def test_unroll_is_step_after_step() -> None:
    torch.manual_seed(2)
    memory = Memory(4, 6)
    inputs, hidden = torch.randn(3, 9, 4), torch.randn(3, 6)
    states, last = memory.unroll(inputs, hidden, torch.ones(3, 9))
    for t in range(9):
        hidden, _ = memory.step(inputs[:, t], hidden)
        assert torch.allclose(states[:, t], hidden, atol=1e-6)
    assert torch.equal(last, states[:, -1])


def test_nan_is_not_hidden() -> None:
    memory = Memory(2, 3)
    assert torch.isnan(memory.step(torch.tensor([[float("nan"), 0.0]]), torch.zeros(1, 3))[0]).all()
