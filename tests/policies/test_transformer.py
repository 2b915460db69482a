"""The transformer's two forms against each other, against a window worked by hand, and in ONNX Runtime."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

from hardware_io.config import ConfigError
from policies.memory import MemoryModule
from policies.transformer import Layer, Transformer, TransformerSettings
from tests.policies.memory_contract import SIZE_IN, exported_step


def make(layers: int = 2, window: int = 5, heads: int = 2, width: int = 8, seed: int = 0) -> Transformer:
    """Small, with offsets, scales and biases as different from each other as those of a trained one."""
    torch.manual_seed(seed)
    memory = Transformer(SIZE_IN, TransformerSettings(layers=layers, width=width, heads=heads, window=window))
    with torch.no_grad():
        for weight in memory.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return memory


def assert_unroll_is_stepping(memory: Transformer, inputs: Tensor, start: Tensor, valid: Tensor) -> Tensor:
    """Compare what is read while the rollouts last and what they leave behind; returns the latter."""
    reads, after = memory.unroll(inputs, start, valid)
    wanted_reads, wanted_after = MemoryModule.unroll(memory, inputs, start, valid)
    assert reads.shape == wanted_reads.shape and after.shape == wanted_after.shape
    assert torch.allclose(reads[valid], wanted_reads[valid], atol=1e-5)
    assert torch.allclose(after, wanted_after, atol=1e-5)
    return after


@pytest.mark.parametrize("time", [1, 4, 5, 6, 13, 23])
def test_unroll_is_step_after_step_within_the_window_and_beyond(time: int) -> None:
    memory = make(window=5)
    assert_unroll_is_stepping(memory, torch.randn(3, time, SIZE_IN), memory.initial(3), torch.ones(3, time) > 0)


def test_a_rollout_goes_on_from_what_the_one_before_left_also_where_it_ended_early() -> None:
    memory, start = make(window=5), torch.zeros(6, make(window=5).size)
    for lived in ([3, 9, 0, 4, 5, 1], [0, 2, 1, 9, 4, 6], [9, 9, 9, 0, 1, 3]):
        valid = torch.arange(9) < torch.tensor(lived)[:, None]
        after = assert_unroll_is_stepping(memory, torch.randn(6, 9, SIZE_IN), start, valid)
        for robot in (robot for robot, steps in enumerate(lived) if steps == 0):
            assert torch.equal(after[robot], start[robot])
        start = after.detach()


def test_two_halves_are_the_whole() -> None:
    memory, inputs, valid = make(window=4), torch.randn(2, 12, SIZE_IN), torch.ones(2, 12)
    whole, end = memory.unroll(inputs, memory.initial(2), valid)
    first, middle = memory.unroll(inputs[:, :7], memory.initial(2), valid[:, :7])
    second, last = memory.unroll(inputs[:, 7:], middle, valid[:, 7:])
    assert torch.allclose(torch.cat([first, second], dim=1), whole, atol=1e-6)
    assert torch.allclose(last, end, atol=1e-6)


@pytest.mark.parametrize("form", ["unroll", "step"])
@pytest.mark.parametrize(("layers", "window"), [(1, 4), (2, 4), (3, 2)])
def test_each_layer_sees_so_many_steps_and_no_other(layers: int, window: int, form: str) -> None:
    memory, time = make(layers, window), 14
    inputs = torch.randn(1, time, SIZE_IN, requires_grad=True)
    unroll = memory.unroll if form == "unroll" else lambda *given: MemoryModule.unroll(memory, *given)
    reads, _ = unroll(inputs, memory.initial(1), torch.ones(1, time))
    (gradient,) = torch.autograd.grad(reads[0, 11, 0], inputs)
    seen = gradient[0].abs().sum(-1) > 0
    assert seen.nonzero()[:, 0].tolist() == list(range(11 - layers * (window - 1), 12))


def test_attention_by_hand() -> None:
    """One head of width 2 and a window of 2: of steps (2, 0) and (0, 2), normalised to (1, −1) and (−1, 1)."""
    layer = Layer(width=2, heads=1, window=2, gain=1.0)
    with torch.no_grad():
        eye = torch.eye(2)
        layer.project.weight.copy_(torch.cat([eye, eye, 2 * eye]))
        layer.merge.weight.copy_(eye)
        layer.narrow.weight.zero_()
        layer.bias.copy_(torch.tensor([[math.log(3), 0.0]]))
    cache = torch.zeros(1, 2, 1, 1, 2)
    alone, cache = layer.step(torch.tensor([[2.0, 0.0]]), cache, torch.tensor([-1e9, 0.0]).view(1, 1, 1, 2))
    assert alone[0].tolist() == pytest.approx([2 + 2, 0 - 2], abs=1e-4)  # all weight on its own value, twice (1, −1)
    assert cache.flatten().tolist() == pytest.approx([1, -1, 2, -2], abs=1e-4)
    both, _ = layer.step(torch.tensor([[0.0, 2.0]]), cache, torch.zeros(1, 1, 1, 2))
    # Scores: −2/√2 + log 3 of the step before, 2/√2 of its own.
    before, own = 3 * math.exp(-math.sqrt(2)), math.exp(math.sqrt(2))
    lean = 2 * (before - own) / (before + own)
    assert both[0].tolist() == pytest.approx([lean, 2 - lean], abs=1e-4)


def test_the_banded_bias_by_hand() -> None:
    layer = Layer(width=2, heads=1, window=3, gain=1.0)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([[3.0, 2.0, 1.0]]))  # two steps ago, one step ago, now
    n = -1e9
    assert layer.banded_bias(4)[0, 0].tolist() == [
        [3, 2, 1, n, n, n],
        [n, 3, 2, 1, n, n],
        [n, n, 3, 2, 1, n],
        [n, n, n, 3, 2, 1],
    ]


def test_gradients_against_finite_differences() -> None:
    memory = make(window=3).double()
    inputs, valid = torch.randn(2, 7, SIZE_IN, dtype=torch.float64), torch.arange(7) < torch.tensor([[7], [4]])
    start = torch.randn(2, memory.size, dtype=torch.float64)
    start[:, -2:] = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    names = [name for name, _ in memory.named_parameters()]
    pull = torch.randn(2, 7, memory.reads, dtype=torch.float64) * valid[..., None]

    def outputs(given: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        arguments = (given, start, valid)
        called = torch.func.functional_call(Unroll(memory), named(names, weights), arguments)
        return (called[0] * pull).sum(), called[1]

    weights = [weight.detach().requires_grad_() for weight in memory.parameters()]
    assert torch.autograd.gradcheck(outputs, (inputs.requires_grad_(), *weights), fast_mode=True)


class Unroll(nn.Module):
    """`unroll` where `functional_call` looks for it."""

    def __init__(self, memory: Transformer) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, inputs: Tensor, start: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        return self.memory.unroll(inputs, start, valid)


def named(names: list[str], weights: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"memory.{name}": weight for name, weight in zip(names, weights, strict=True)}


def test_gradients_reach_the_given_memory() -> None:
    """So that a rollout learns to leave what the next one needs, further back than a window reaches."""
    memory = make()
    start = torch.randn(2, memory.size, requires_grad=True)
    reads, after = memory.unroll(torch.randn(2, 3, SIZE_IN), start, torch.ones(2, 3))
    (gradient,) = torch.autograd.grad(reads.sum() + after.sum(), start)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_what_comes_after_the_end_does_no_harm() -> None:
    memory, inputs = make(), torch.randn(2, 6, SIZE_IN)
    valid = torch.arange(6) < torch.tensor([[6], [2]])
    inputs[1, 2:] = torch.nan
    reads, after = memory.unroll(inputs, memory.initial(2), valid)
    (reads[valid].sum() + after.sum()).backward()
    assert reads[valid].isfinite().all() and after.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in memory.parameters())


@pytest.fixture(scope="module")
def exported() -> tuple[Transformer, InferenceSession, Counter[str]]:
    memory = make(window=8, width=16)
    return memory, *exported_step(memory)


def test_exported_step_agrees_over_600_steps_left_alone(exported: tuple) -> None:
    memory, session, operators = exported
    assert not {"GRU", "LSTM", "RNN", "If", "Loop", "Scan"} & set(operators)
    for batch in (1, 3):
        ours = memory.initial(batch)
        theirs = ours.numpy()
        for inputs in torch.randn(600, batch, SIZE_IN):
            with torch.no_grad():
                read, ours = memory.step(inputs, ours)
            got, theirs = session.run(None, {"inputs": inputs.numpy(), "memory": theirs})
            assert np.abs(got - read.numpy()).max() <= 1e-5
        assert np.abs(theirs - ours.numpy()).max() <= 1e-5


@pytest.mark.parametrize("steps", [0, 3, 9])
def test_nan_in_any_number_shows(exported: tuple, steps: int) -> None:
    """Also where no step was yet, and in the oldest step, which is about to leave."""
    memory, session, _ = exported
    _, after = memory.unroll(torch.randn(1, 9, SIZE_IN), memory.initial(1), torch.arange(9)[None] < steps)
    for place in range(SIZE_IN + memory.size):
        row = torch.cat([torch.zeros(1, SIZE_IN), after.detach()], dim=-1).numpy()
        row[0, place] = np.nan
        read, following = session.run(None, {"inputs": row[:, :SIZE_IN], "memory": row[:, SIZE_IN:]})
        assert np.isnan(read).any() or np.isnan(following).any()
        assert place >= SIZE_IN or np.isnan(read).all()


def test_it_learns_to_recall_a_bit_seen_ten_steps_before() -> None:
    torch.manual_seed(3)
    memory = Transformer(2, TransformerSettings(layers=2, width=16, heads=2, window=12))
    answer = nn.Linear(memory.reads, 1)
    optimiser = torch.optim.Adam([*memory.parameters(), *answer.parameters()], lr=5e-3)
    valid = torch.ones(64, 11)
    for _ in range(120):
        inputs = torch.randn(64, 11, 2)
        bit = (inputs[:, 0, 0] > 0).float()  # nothing marks it but where it stands
        reads, _ = memory.unroll(inputs, memory.initial(64), valid)
        said = answer(reads[:, 10])[:, 0]
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(said, bit).backward()
        optimiser.step()
    assert ((said > 0) == (bit > 0)).float().mean() > 0.9


def test_heads_share_the_width() -> None:
    with pytest.raises(ConfigError, match="width: got 30; allowed: a multiple of heads, 4"):
        TransformerSettings(width=30, heads=4)
