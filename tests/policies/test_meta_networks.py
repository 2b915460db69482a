"""Meta Networks: the loss's gradients, what fast weights do, and the contract of memories."""

import torch

from policies.addressing import ExternalMemory
from policies.meta_networks import FastWeights, FastWeightsSettings, Generator
from tests.policies.memory_contract import SIZE_IN, SlotsContract


def small() -> FastWeights:
    torch.manual_seed(1)
    return FastWeights(SIZE_IN, FastWeightsSettings(units=4, slots=3, generator=2))


def test_closed_form_gradients_equal_those_of_autograd() -> None:
    memory = small()
    before, inputs = torch.randn(1, 4), torch.randn(1, SIZE_IN)
    foretold = memory.foretell(torch.tanh(memory.base(torch.tanh(memory.represent(before)))))
    loss = 0.5 * (foretold - inputs).square().mean()
    wanted = torch.autograd.grad(loss, [memory.represent.weight, memory.base.weight])
    for ours, theirs in zip(memory.gradients(before, inputs), wanted, strict=True):
        assert torch.allclose(ours[0], theirs, atol=1e-6)


def test_no_gradient_no_fast_weight() -> None:
    assert torch.equal(Generator(3)(torch.zeros(2, 2)), torch.zeros(2, 2))
    memory = small()
    inputs = torch.randn(1, SIZE_IN)
    read, after = memory.step(inputs, memory.initial(1))
    _, task, _, examples = memory.split(after)
    assert not task.any() and not examples.any()  # nothing was foretold yet
    represented = torch.tanh(memory.represent(torch.tanh(memory.sense(inputs))))
    assert torch.allclose(read, torch.tanh(memory.base(represented)))


def test_an_example_goes_to_the_slot_it_resembles() -> None:
    memory = small()
    with torch.no_grad():
        memory.strength.fill_(60.0)
        memory.task_rate.fill_(-30.0)
    key = torch.tensor([0.6, -0.1, 0.2, 0.5])
    keys = torch.stack([torch.ones(4), 2 * key, -key])[None]
    example = torch.randn(4, 4)
    slow = torch.stack([key, -key])[None]
    prepared = torch.zeros(1, 2, 4), slow, torch.zeros(1, 4, 4), example[None]
    parts = torch.zeros(1, 4), torch.zeros(1, 4, 4), keys, torch.zeros(1, 3, 4, 4)
    read, (_, _, after, examples) = memory.advance(prepared, parts)
    rate = torch.sigmoid(memory.example_rate)
    assert torch.allclose(examples[0, 1], rate * example, atol=1e-3) and examples[0, [0, 2]].abs().max() < 1e-3
    assert torch.allclose(after[0, 1], 2 * key - rate * key, atol=1e-3)
    # It reads the third slot, whose fast weights are zero: only the slow layer speaks.
    assert torch.allclose(read[0], torch.tanh(memory.base(-key)), atol=1e-3)


class TestContract(SlotsContract):
    def make(self) -> ExternalMemory:
        return FastWeights(SIZE_IN, FastWeightsSettings(units=4, slots=5, generator=3))
