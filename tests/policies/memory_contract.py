"""What memories are held to: whole sequences, gradients, and the exported step."""

import logging
import warnings
from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch

from policies.addressing import ExternalMemory
from policies.memory import MemoryModule

SIZE_IN = 5


class MemoryContract:
    """Inherited by the tests of each memory."""

    def make(self) -> MemoryModule:
        """A small memory with inputs of SIZE_IN."""
        raise NotImplementedError

    @pytest.fixture
    def memory(self) -> MemoryModule:
        torch.manual_seed(0)
        return self.make()

    def test_unroll_is_step_after_step_until_the_rollout_ends(self, memory: MemoryModule) -> None:
        inputs, lived = torch.randn(4, 9, SIZE_IN), torch.tensor([9, 5, 1, 0])
        valid = torch.arange(9) < lived[:, None]
        start = memory.initial(4) + 0.1 * torch.rand(4, memory.size)
        reads, after = memory.unroll(inputs, start, valid)
        wanted_reads, wanted_after = MemoryModule.unroll(memory, inputs, start, valid)
        assert reads.shape == (4, 9, memory.reads)
        assert torch.allclose(reads[valid], wanted_reads[valid], atol=1e-5)
        assert torch.allclose(after, wanted_after, atol=1e-5)
        assert torch.equal(after[3], start[3])

    def test_a_robot_starts_with_constants(self, memory: MemoryModule) -> None:
        start = memory.initial(3)
        assert start.shape == (3, memory.size) and not start.requires_grad
        assert torch.equal(start[0], start[2])

    def test_gradients_against_finite_differences(self, memory: MemoryModule) -> None:
        memory = memory.double()
        inputs, valid = torch.randn(2, 4, SIZE_IN, dtype=torch.float64), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
        weights = list(memory.parameters())
        pulls = torch.randn(2, 4, memory.reads).double(), torch.randn(2, memory.size).double()

        def loss() -> torch.Tensor:
            reads, after = memory.unroll(inputs, memory.initial(2), valid)
            return (reads * pulls[0]).sum() + (after * pulls[1]).sum()

        gradients = torch.autograd.grad(loss(), weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            direction = torch.randn_like(weight)
            with torch.no_grad():
                weight += 1e-6 * direction
                above = loss()
                weight -= 2e-6 * direction
                below = loss()
                weight += 1e-6 * direction
            slope = (gradient * direction).sum()
            assert slope.isfinite() and slope.abs() > 0
            assert torch.allclose((above - below) / 2e-6, slope, rtol=1e-4, atol=1e-6)

    def test_gradients_stay_finite_over_a_rollout(self, memory: MemoryModule) -> None:
        inputs = 3 * torch.randn(2, 200, SIZE_IN)
        reads, _ = memory.unroll(inputs, memory.initial(2), torch.ones(2, 200))
        reads.square().mean().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in memory.parameters())

    def test_it_learns_to_tell_robots_apart(self, memory: MemoryModule) -> None:
        """Half of the robots answer a command with its opposite; what the next one gives is to be foretold."""
        output = torch.nn.Linear(memory.reads + SIZE_IN, 1)
        optimiser = torch.optim.Adam([*memory.parameters(), *output.parameters()], lr=2e-2)
        data, losses = torch.Generator().manual_seed(0), []
        for _ in range(150):
            command = torch.randint(2, (32, 8, 1), generator=data) * 2.0 - 1
            answer = command * (torch.randint(2, (32, 1, 1), generator=data) * 2.0 - 1)
            before = torch.cat([torch.zeros(32, 1, 2), torch.cat([command, answer], dim=-1)[:, :-1]], dim=1)
            inputs = torch.cat([command, before, torch.zeros(32, 8, SIZE_IN - 3)], dim=-1)
            reads, _ = memory.unroll(inputs, memory.initial(32), torch.ones(32, 8))
            foretold = output(torch.cat([reads, inputs], dim=-1))
            loss = (foretold - answer)[:, 2:].square().mean()  # 1 for who cannot tell
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-10:]) / 10 < 0.2

    def test_nan_is_not_hidden(self, memory: MemoryModule) -> None:
        read, after = memory.step(torch.full((1, SIZE_IN), torch.nan), memory.initial(1))
        assert read.isnan().any() and after.isnan().any()

    def test_exported_step_agrees_over_600_steps_left_alone(self, memory: MemoryModule) -> None:
        session, operators = exported_step(memory)
        assert not {"GRU", "LSTM", "RNN", "If", "Loop", "Scan"} & set(operators)
        for batch, steps in ((1, 600), (3, 20)):
            ours = memory.initial(batch)
            theirs = ours.numpy()
            for inputs in torch.randn(steps, batch, SIZE_IN):
                with torch.no_grad():
                    read, ours = memory.step(inputs, ours)
                got, theirs = session.run(None, {"inputs": inputs.numpy(), "memory": theirs})
                assert np.abs(got - read.numpy()).max() <= 1e-5
            assert np.abs(theirs - ours.numpy()).max() <= 1e-5


class SlotsContract(MemoryContract):
    """Inherited by the tests of those with slots."""

    def make(self) -> ExternalMemory:
        raise NotImplementedError

    def test_slots_part(self, memory: ExternalMemory) -> None:
        _, after = memory.unroll(torch.randn(1, 6, SIZE_IN), memory.initial(1), torch.ones(1, 6))
        slots = memory.split(after)[-1][0].flatten(1)
        assert (torch.cdist(slots, slots) + torch.eye(len(slots)) > 1e-4).all()


class Step(torch.nn.Module):
    """`step` where the exporter looks for it."""

    def __init__(self, memory: MemoryModule) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, inputs: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.memory.step(inputs, memory)


def exported_step(memory: MemoryModule) -> tuple[onnxruntime.InferenceSession, Counter[str]]:
    """`step` in ONNX Runtime, traced with a batch of two, and its operators."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = torch.export.Dim("batch", min=1, max=2**16)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Step(memory).eval(),
            (torch.zeros(2, SIZE_IN), memory.initial(2)),
            dynamo=True,
            opset_version=20,
            external_data=False,
            input_names=["inputs", "memory"],
            dynamic_shapes=({0: batch}, {0: batch}),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session, Counter(node.op_type for node in model.graph.node)
