"""Least recently used access by hand, and the contract of memories."""

from typing import Any

import pytest
import torch

from policies import addressing
from policies.addressing import ExternalMemory, Several
from policies.mann import MANNSettings, MemoryAugmented
from tests.policies.memory_contract import SIZE_IN, SlotsContract


def machine(reuse: float) -> MemoryAugmented:
    """Weights of zero but for a bias that writes 0.5; `reuse` is the share of writing that goes where it last read."""
    memory = MemoryAugmented(SIZE_IN, MANNSettings(hidden=3, slots=3, width=2, decay=0.5))
    with torch.no_grad():
        for weight in memory.parameters():
            weight.zero_()
        memory.writer.bias[:2] = torch.atanh(torch.tensor(0.5))
        memory.writer.bias[2] = torch.logit(torch.tensor(reuse))
    return memory


def test_the_least_used_slot_and_the_first_of_equals() -> None:
    memory = machine(0.5)
    usage = torch.tensor([[0.3, 0.1, 0.2], [0.4, 0.2, 0.2], [0.0, 0.0, 0.0]])
    assert torch.equal(memory.least_used(usage), torch.tensor([[0.0, 1, 0], [0, 1, 0], [1, 0, 0]]))


def test_slots_are_written_in_turn() -> None:
    memory = machine(reuse=0.0)
    state, third = memory.initial(1), torch.full((1, 3), 1 / 3)  # equal slots are read equally
    seen = []
    for _ in range(3):
        _, state = memory.step(torch.zeros(1, SIZE_IN), state)
        seen.append(memory.split(state))
    assert torch.allclose(seen[0][4][0], torch.tensor([[0.5, 0.5], [0, 0], [0, 0]]))
    assert torch.allclose(seen[2][4][0], torch.full((3, 2), 0.5))
    # A key of zeros resembles every slot equally: usage is what it was, halved, and a third, and one where it wrote.
    assert torch.allclose(seen[0][3], third + torch.tensor([[1.0, 0, 0]]))
    assert torch.allclose(seen[1][3], 1.5 * third + torch.tensor([[0.5, 1.0, 0]]))


def test_the_least_used_slot_is_emptied_and_the_write_is_shared_with_the_last_read() -> None:
    memory = machine(reuse=0.25)
    where, usage = torch.tensor([[0.0, 0.8, 0.2]]), torch.tensor([[0.1, 0.5, 0.9]])
    slots = torch.tensor([[[4.0, 4.0], [1.0, 2.0], [0.0, 0.0]]])
    parts = torch.zeros(1, 3), torch.zeros(1, 2), where, usage, slots
    _, after = memory.advance((torch.zeros(1, 9),), parts)
    # 0.75 to the emptied first slot, 0.25 · (0, 0.8, 0.2) where it last read, each times 0.5.
    assert torch.allclose(after[4][0], torch.tensor([[0.375, 0.375], [1.1, 2.1], [0.025, 0.025]]))
    assert torch.allclose(after[3], 0.5 * usage + 1 / 3 + torch.tensor([[0.75, 0.2, 0.05]]))


def test_a_strong_key_reads_the_slot_it_resembles() -> None:
    memory = machine(reuse=0.0)
    with torch.no_grad():
        memory.lookup.bias[:] = torch.tensor([1.0, 0.0, 30.0])
    slots = torch.tensor([[[0.0, 1.0], [3.0, 0.1], [0.0, 0.0]]])
    parts = torch.zeros(1, 3), torch.zeros(1, 2), torch.zeros(1, 3), torch.tensor([[1.0, 1.0, 0.0]]), slots
    read, after = memory.advance((torch.zeros(1, 9),), parts)
    assert torch.allclose(read[0, 3:], slots[0, 1], atol=1e-3)
    assert torch.allclose(after[2], torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-3)


@pytest.mark.slow
def test_machine_code_gives_the_same_and_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes most of a minute, so one memory stands for all: what is compiled differs, not how."""
    torch.manual_seed(0)
    memory = MemoryAugmented(SIZE_IN, MANNSettings(hidden=6, slots=4, width=3))
    monkeypatch.setattr(addressing, "PIECE", 2)  # quick to compile; the last of five steps is none
    inputs, valid = torch.randn(3, 5, SIZE_IN), torch.arange(5) < torch.tensor([5, 3, 0])[:, None]

    def lived() -> tuple[torch.Tensor, ...]:
        reads, after = memory.unroll(inputs, memory.initial(3), valid)
        reads = reads * valid[..., None]
        return reads, after, *torch.autograd.grad(reads.square().sum() + after.square().sum(), memory.parameters())

    wanted, compiling, pieces = lived(), torch.compile, list[int]()

    def counted(several: Several, **options: Any) -> Several:
        compiled = compiling(several, **options)
        return lambda prepared, parts: pieces.append(prepared[0].shape[1]) or compiled(prepared, parts)

    monkeypatch.setattr(torch, "compile", counted)
    memory.compile_steps()
    found = lived()
    assert pieces == [2, 2]
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


class Sum(ExternalMemory):
    """Of what it was given."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size, [torch.zeros(size)])
        self.weight = torch.nn.Parameter(torch.ones(size))

    def prepare(self, inputs: torch.Tensor, parts: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs * self.weight,)

    def advance(
        self, prepared: tuple[torch.Tensor, ...], parts: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        total = parts[0] + prepared[0]
        return total, (total,)


@pytest.mark.slow
def test_any_number_of_memories_is_compiled_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._dynamo.config.recompile_limit", 2)  # the first piece, and those after it
    for size in (1, 2, 3):
        memory = Sum(size)
        memory.compile_steps()
        reads, after = memory.unroll(torch.ones(2, 10, size), memory.initial(2), torch.ones(2, 10))
        assert torch.equal(reads[:, :, 0], torch.arange(1.0, 11).expand(2, 10)) and torch.equal(after, reads[:, -1])


class TestContract(SlotsContract):
    def make(self) -> ExternalMemory:
        return MemoryAugmented(SIZE_IN, MANNSettings(hidden=7, slots=5, width=4, read_heads=2))
