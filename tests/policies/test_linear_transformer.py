"""Reading a table by hand, chunks of time, and the contract of memories."""

import math

import pytest
import torch

import policies.linear_transformer as module
from hardware_io.config import ConfigError
from policies.linear_transformer import Layer, LinearTransformer, LinearTransformerSettings
from policies.memory import MemoryModule
from tests.policies.memory_contract import SIZE_IN, MemoryContract

SMALL = LinearTransformerSettings(layers=2, width=8, queries=2, keys=6, values=4, recent=3)


def test_what_is_read_is_a_mean_that_doubt_draws_towards_zero() -> None:
    layer = Layer(LinearTransformerSettings(width=4, queries=1, keys=2, values=1, recent=0), gain=1.0)
    with torch.no_grad():
        layer.narrow.weight.zero_()  # what is thought afterwards adds nothing
        layer.merge.weight.copy_(torch.eye(4, 2))
        layer.doubt.fill_(torch.tensor(0.5).log())
    sums = torch.tensor([[[6.0, 2.5]], [[0.0, 0.0]]])  # 2.5 entries that sum up to 6, and none
    after = layer.finish(torch.zeros(2, 4), sums)
    assert torch.allclose(after[0], torch.tensor([2.0, math.log(3.5), 0.0, 0.0]))
    assert torch.equal(after[1], torch.zeros(4))


def test_the_step_before_is_seen_also_across_rollouts() -> None:
    torch.manual_seed(0)
    memory = LinearTransformer(SIZE_IN, SMALL)
    first, second = torch.randn(1, SIZE_IN), torch.randn(1, SIZE_IN)
    _, after = memory.step(first, memory.initial(1))
    assert torch.equal(after[:, -SIZE_IN:], first)
    unseen = after.clone()
    unseen[:, -SIZE_IN:] = 0
    assert (memory.step(second, after)[0] - memory.step(second, unseen)[0]).abs().max() > 1e-3


def test_places_forget_at_their_own_pace() -> None:
    layer = Layer(LinearTransformerSettings(layers=1, width=4, keys=3, values=1, recent=2), gain=1.0)
    x, table = torch.zeros(1, 128, 4), torch.ones(1, 3, 2)
    lived = torch.zeros(1, 128)
    with torch.no_grad():
        lived[:, :8] = 1
        added = layer.unroll(x, torch.zeros(1, 3, 2), lived)[1]
        after = layer.unroll(x, table, lived)[1] - added
        assert torch.allclose(after[0, :, 0], torch.tensor([0.5, 0.5 ** (8 / 128), 1.0]), atol=1e-5)
        lived = torch.ones(1, 128)
        after = layer.unroll(x, table, lived)[1] - layer.unroll(x, torch.zeros(1, 3, 2), lived)[1]
        assert torch.allclose(after[0, :, 0], torch.tensor([0.5**16, 0.5, 1.0]), atol=1e-4)


def test_more_places_cannot_forget_than_there_are() -> None:
    with pytest.raises(ConfigError, match="recent: got 7; allowed: at most keys, 6"):
        LinearTransformerSettings(keys=6, recent=7)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    memory, inputs = LinearTransformer(SIZE_IN, SMALL), torch.randn(3, 10, SIZE_IN)
    start, valid = memory.initial(3) + 0.1, torch.arange(10) < torch.tensor([[10], [5], [0]])
    wanted, after = memory.unroll(inputs, start, valid)
    monkeypatch.setattr(module, "CHUNK", chunk)
    reads, state = memory.unroll(inputs, start, valid)
    assert torch.allclose(reads[valid], wanted[valid], atol=1e-6) and torch.allclose(state, after, atol=1e-6)


def test_nothing_that_was_not_lived_leaks_into_what_is_kept() -> None:
    torch.manual_seed(0)
    memory, inputs = LinearTransformer(SIZE_IN, SMALL), torch.randn(2, 6, SIZE_IN)
    valid = torch.arange(6) < torch.tensor([[6], [2]])
    inputs[1, 2:] = torch.nan
    reads, after = memory.unroll(inputs, memory.initial(2), valid)
    (reads[valid].sum() + after.sum()).backward()
    assert reads[valid].isfinite().all() and after.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in memory.parameters())


class TestContract(MemoryContract):
    def make(self) -> MemoryModule:
        return LinearTransformer(SIZE_IN, SMALL)
