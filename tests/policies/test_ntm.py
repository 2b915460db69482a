"""The Neural Turing Machine: its addressing by hand, and the contract of memories."""

import math

import torch

from policies.addressing import ExternalMemory, circulant, content, sharpen, shift
from policies.ntm import SHIFTS, NeuralTuringMachine, NTMSettings
from tests.policies.memory_contract import SIZE_IN, SlotsContract


def test_content_is_a_softmax_of_cosines() -> None:
    slots = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]])
    keys, strength = torch.tensor([[[5.0, 0.0], [4.0, 4.0]]]), torch.tensor([[[2.0], [1.0]]])
    found = content(keys, strength, slots)
    by_hand = torch.tensor([[math.e**2, 1, 1], [math.e**0.5**0.5, math.e**0.5**0.5, 1]])
    assert torch.allclose(found[0], by_hand / by_hand.sum(1, keepdim=True), atol=1e-4)


def test_shift_moves_around_the_ring() -> None:
    weighting = torch.tensor([[[0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]])
    share = torch.tensor([[[1.0, 0.0, 0.0], [0.1, 0.2, 0.7]]])
    moved = shift(weighting, share, circulant(4, SHIFTS))
    wanted = torch.tensor([[[0.3, 0.0, 0.0, 0.7], [0.7, 0.0, 0.1, 0.2]]])
    assert torch.allclose(moved, wanted)


def test_sharpen_raises_to_a_power_and_sums_to_one() -> None:
    weighting = torch.tensor([[[0.6, 0.2, 0.2], [0.0, 0.5, 0.5]]])
    sharp = sharpen(weighting, torch.tensor([[[2.0], [1.0]]]))
    wanted = torch.tensor([[[0.36, 0.04, 0.04], [0.0, 0.22, 0.22]]]) / 0.44
    assert torch.allclose(sharp, wanted, atol=1e-5)


def steered(width: int) -> NeuralTuringMachine:
    """A machine whose heads always move on by one slot, whatever they see."""
    machine = NeuralTuringMachine(SIZE_IN, NTMSettings(hidden=3, slots=4, width=width))
    with torch.no_grad():
        for weight in machine.parameters():
            weight.zero_()
        asked = machine.heads.bias.view(2, -1)
        asked[:, width + 1] = 30  # power
        asked[:, width + 2] = -30  # gate: not by content
        asked[:, width + 5] = 30  # shift by +1
    return machine


def test_what_is_written_is_read_after_one_round() -> None:
    machine = steered(width=2)
    with torch.no_grad():
        machine.writer.bias[:2] = -30  # erase nothing
        machine.writer.bias[2:] = torch.atanh(torch.tensor([0.5, -0.25]))
    memory, reads = machine.initial(1), []
    for _ in range(6):
        read, memory = machine.step(torch.zeros(1, SIZE_IN), memory)
        reads.append(read[0, 3:])
    wanted = torch.tensor([0.5, -0.25])
    assert all(torch.allclose(read, torch.zeros(2), atol=1e-4) for read in reads[:4])
    assert torch.allclose(reads[4], wanted, atol=1e-4) and torch.allclose(reads[5], wanted, atol=1e-4)
    slots = machine.split(memory)[-1][0]
    assert torch.allclose(slots, torch.tensor([1.0, 2.0, 2.0, 1.0])[:, None] * wanted, atol=1e-3)


def test_erasing_comes_before_adding() -> None:
    machine = steered(width=2)
    with torch.no_grad():
        machine.writer.bias[:2] = 30  # erase all
        machine.writer.bias[2:] = torch.atanh(torch.tensor([0.5, 0.1]))
    memory = machine.initial(1)
    for _ in range(6):
        _, memory = machine.step(torch.zeros(1, SIZE_IN), memory)
    assert torch.allclose(machine.split(memory)[-1][0], torch.tensor([0.5, 0.1]).expand(4, 2), atol=1e-3)


def test_weightings_sum_to_one() -> None:
    torch.manual_seed(0)
    machine = NeuralTuringMachine(SIZE_IN, NTMSettings(hidden=8, slots=5, width=3, read_heads=2))
    _, memory = machine.unroll(torch.randn(2, 20, SIZE_IN), machine.initial(2), torch.ones(2, 20))
    weightings = machine.split(memory)[2]
    assert weightings.shape == (2, 3, 5) and torch.allclose(weightings.sum(-1), torch.ones(2, 3))


class TestContract(SlotsContract):
    def make(self) -> ExternalMemory:
        return NeuralTuringMachine(SIZE_IN, NTMSettings(hidden=7, slots=5, width=4, read_heads=2))
