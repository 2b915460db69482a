"""The memory tasks: what is given and asked, and that training on them learns."""

import pytest
import torch

from policies.memory_tasks import AssociativeRecall, Copy
from policies.memory_training import Answerer, MemoryTrainingSettings, recall_errors, train_memory
from policies.networks import Memory
from policies.ntm import NeuralTuringMachine, NTMSettings


def test_copy_asks_for_the_same_vectors_after_the_delimiter() -> None:
    task = Copy(bits=3)
    given = task.sample(2, 4, torch.Generator().manual_seed(0))
    assert given.inputs.shape == (2, 9, task.size_in) and given.targets.shape == (2, 9, 3)
    assert torch.equal(given.inputs[..., 3], (torch.arange(9) == 4).float().expand(2, 9))
    assert torch.equal(given.targets[:, given.asked], given.inputs[:, :4, :3])
    assert not given.inputs[:, 5:].any() and given.asked.sum() == 4


def test_recall_asks_for_the_item_after_the_one_shown_again() -> None:
    task = AssociativeRecall(bits=8, vectors=2)
    given = task.sample(5, 4, torch.Generator().manual_seed(0))
    assert given.inputs.shape == (5, 18, task.size_in)
    blocks = given.inputs.view(5, 6, 3, task.size_in)
    assert torch.equal(blocks[0, :, 0, 8], torch.tensor([1.0, 1, 1, 1, 0, 0]))
    assert torch.equal(blocks[0, :, 0, 9], torch.tensor([0.0, 0, 0, 0, 1, 1]))
    assert not blocks[:, :, 1:, 8:].any() and not blocks[:, 5, 1:].any()
    for row in range(5):
        items, query = blocks[row, :4, 1:, :8], blocks[row, 4, 1:, :8]
        chosen = next(i for i in range(3) if torch.equal(items[i], query))
        assert torch.equal(given.targets[row, given.asked], items[chosen + 1])


def test_recall_of_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match="1 items"):
        AssociativeRecall().sample(1, 1, torch.Generator())


def test_errors_count_wrong_bits() -> None:
    task = Copy(bits=4)
    net = Answerer(Memory(task.size_in, 3), task.bits)
    with torch.no_grad():
        net.output.weight.zero_()
        net.output.bias.fill_(1.0)  # says one every time
    found = recall_errors(net, task, [5, 1], 400, seed=0)
    zeros = task.sample(400, 5, torch.Generator().manual_seed(0)).inputs[:, :5, :4] == 0
    assert found[0].length == 5 and found[0].bits == pytest.approx(zeros.sum().item() / 400)
    assert found[1].bits == pytest.approx(2, abs=0.2) and found[1].sequences == pytest.approx(15 / 16, abs=0.05)


def test_training_is_repeatable_and_learns() -> None:
    task = Copy(bits=2)
    settings = MemoryTrainingSettings(longest=2, steps=350, rate=1e-2)

    def make(size_in: int) -> NeuralTuringMachine:
        return NeuralTuringMachine(size_in, NTMSettings(hidden=16, slots=4, width=4))

    losses: list[float] = []
    net = train_memory(make, task, settings, seed=0, report=lambda step, loss, net: losses.append(loss))
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    assert recall_errors(net, task, [1, 2], 50, seed=1)[1].bits < 0.5  # two for who guesses
    again: list[float] = []
    short = MemoryTrainingSettings(longest=2, steps=3, rate=1e-2)
    for _ in range(2):
        train_memory(make, task, short, seed=0, report=lambda step, loss, net: again.append(loss))
    assert again[:3] == again[3:]
