"""Train a memory on a memory task, and count wrong bits at lengths it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hardware_io.config import option
from policies.memory import MemoryModule
from policies.memory_tasks import MemoryTask, Sequences


@dataclass(frozen=True)
class MemoryTrainingSettings:
    """Adam with clipped gradients; longer sequences come in as training goes on."""

    shortest: int = option(1, min=1)
    longest: int = option(10, min=1, help="of the training; tests go further")
    steps: int = option(5000, min=1)
    batch: int = option(16, min=1)
    rate: float = option(2e-3, min=1e-6, max=1.0, help="falls to a hundredth over the second half")
    clip: float = option(10.0, min=0.0, help="of each number in a gradient, as in the paper")
    grown: float = option(0.3, min=0.0, max=1.0, help="share of the training after which all lengths are drawn")


@dataclass(frozen=True)
class RecallErrors:
    """Of test sequences of one length: wrong bits a sequence, and the share of sequences with any."""

    length: int
    bits: float
    sequences: float


class Answerer(nn.Module):
    """A memory and a linear layer that turns what it reads into the logits of bits."""

    def __init__(self, memory: MemoryModule, bits: int) -> None:
        super().__init__()
        self.memory = memory
        self.output = nn.Linear(memory.reads, bits)

    def forward(self, given: Sequences) -> Tensor:
        """Logits (B, asked steps, O)."""
        batch, time, _ = given.inputs.shape
        reads, _ = self.memory.unroll(given.inputs, self.memory.initial(batch), torch.ones(batch, time))
        logits: Tensor = self.output(reads[:, given.asked])
        return logits


def train_memory(
    make: Callable[[int], MemoryModule],
    task: MemoryTask,
    settings: MemoryTrainingSettings,
    seed: int,
    report: Callable[[int, float, Answerer], None] | None = None,
) -> Answerer:
    """Train what `make` builds from the size of its inputs. `report` is told the step, the loss in bits and the net."""
    torch.manual_seed(seed)
    data = torch.Generator().manual_seed(seed)
    net = Answerer(make(task.size_in), task.bits)
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.rate)
    for step in range(settings.steps):
        done = step / settings.steps
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * (1.0 if done < 0.5 else 0.01 ** (2 * done - 1))
        reach = min(1.0, (done + 0.02) / settings.grown) if settings.grown else 1.0
        longest = settings.shortest + round(reach * (settings.longest - settings.shortest))
        length = int(torch.randint(settings.shortest, longest + 1, (), generator=data))
        given = task.sample(settings.batch, length, data)
        loss = functional.binary_cross_entropy_with_logits(net(given), given.targets[:, given.asked])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), settings.clip)
        optimiser.step()
        if report is not None:
            report(step, float(loss.detach()) / math.log(2), net)
    return net


@torch.no_grad()
def recall_errors(net: Answerer, task: MemoryTask, lengths: Sequence[int], count: int, seed: int) -> list[RecallErrors]:
    """Errors on `count` new sequences of each length."""
    data, found = torch.Generator().manual_seed(seed), []
    for length in lengths:
        given = task.sample(count, length, data)
        wrong = ((net(given) > 0) != (given.targets[:, given.asked] > 0.5)).flatten(1).sum(1)
        found.append(RecallErrors(length, float(wrong.float().mean()), float((wrong > 0).float().mean())))
    return found
