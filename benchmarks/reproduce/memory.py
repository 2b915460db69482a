"""External memories beyond the lengths that they were trained on: wrong bits in copying and in associative recall.

Graves et al. 2014, sections 4.1 and 4.3 (https://arxiv.org/abs/1410.5401). The paper shows pictures and learning
curves, so what is to be reproduced is its statement: at the lengths of training and beyond them an external memory
makes fewer mistakes than a recurrent network. That is here a GRU with as many parameters as the Neural Turing Machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from adapt.train import one_thread
from benchmarks.reproduce.result import LOWER, Aim, Estimate, Row, estimate
from benchmarks.reproduce.session import Session, made_once
from benchmarks.reproduce.variants import MEMORY, MEMORY_QUICK
from hardware_io.state import Array
from policies.mann import MANNSettings, MemoryAugmented
from policies.memory import MemoryModule
from policies.memory_tasks import AssociativeRecall, Copy, MemoryTask
from policies.memory_training import Answerer, MemoryTrainingSettings, recall_errors, train_memory
from policies.networks import Memory
from policies.ntm import NeuralTuringMachine, NTMSettings

TASKS: dict[str, MemoryTask] = {"copy": Copy(), "recall": AssociativeRecall()}
FURTHER = (1.0, 1.5, 2.0)  # lengths of tests, as multiples of the longest in training
SEQUENCES, AT_ONCE = 400, 20  # of a test, and of one number in its interval
SEED = 34_000


@dataclass(frozen=True)
class MemorySettings:
    """Training of one network; every slot is to hold one vector of the longest test."""

    memory: str
    task: str
    slots: int
    training: MemoryTrainingSettings


def ntm(slots: int, size_in: int) -> MemoryModule:
    return NeuralTuringMachine(size_in, NTMSettings(slots=slots))


def mann(slots: int, size_in: int) -> MemoryModule:
    """Wider than its default: narrower ones did not learn associative recall."""
    return MemoryAugmented(size_in, MANNSettings(slots=slots, width=32, hidden=64))


def gru(slots: int, size_in: int) -> MemoryModule:
    """The smallest with as many parameters as the Neural Turing Machine, that of its output layer included."""
    wanted, units = _parameters(ntm(slots, size_in)), 1
    while _parameters(Memory(size_in, units)) < wanted:
        units += 1
    return Memory(size_in, units)


MEMORIES: dict[str, Callable[[int, int], MemoryModule]] = {"GRU": gru, "NTM": ntm, "MANN": mann}


def trained(settings: MemorySettings, seed: int) -> dict[str, Tensor]:
    """Weights of a memory with its output layer."""
    make = partial(MEMORIES[settings.memory], settings.slots)
    return train_memory(make, TASKS[settings.task], settings.training, seed).state_dict()


def wrong_bits(settings: MemorySettings, weights: dict[str, Tensor], lengths: list[int], sequences: int) -> Array:
    """Wrong bits a sequence at each length, (sequences / AT_ONCE, lengths): means of a few sequences each."""
    task = TASKS[settings.task]
    net = Answerer(MEMORIES[settings.memory](settings.slots, task.size_in), task.bits)
    net.load_state_dict(weights)
    with one_thread():
        found = [recall_errors(net, task, lengths, AT_ONCE, SEED + index) for index in range(sequences // AT_ONCE)]
    return np.array([[each.bits for each in errors] for errors in found])


def rows(session: Session) -> Iterator[Row]:
    """Every memory on each task, at the longest length of training and beyond it."""
    for task, training in (MEMORY_QUICK if session.quick else MEMORY).items():
        budget = MemoryTrainingSettings(**{**training, **({"steps": session.steps} if session.steps else {})})
        lengths = [round(share * budget.longest) for share in FURTHER]
        slots = lengths[-1] * getattr(TASKS[task], "vectors", 1)
        rivals: list[Estimate] = []
        for memory in MEMORIES:
            settings = MemorySettings(memory, task, slots, budget)
            name = f"memory-{task}-{memory.lower()}"
            made = [
                made_once(session.folder / f"{name}-s{seed}", settings, partial(trained, settings, seed))
                for seed in range(session.seeds)
            ]
            sequences = 2 * AT_ONCE if session.quick else SEQUENCES
            scores = [wrong_bits(settings, weights, lengths, sequences) for weights, _ in made]
            known = [estimate([values[:, index] for values in scores]) for index in range(len(lengths))]
            rivals = rivals or known
            seconds = sum(spent for _, spent in made) / len(made)
            for length, own, rival in zip(lengths, known, rivals, strict=True):
                aim = None if memory == "GRU" else Aim(rival.mean, 0.0, LOWER)
                note = f"trained to {budget.longest}"
                label = f"{task} of {length}: {memory}, wrong bits"
                yield Row(label, own, aim, "GRU" if aim else "", budget.steps, seconds, note)


def _parameters(memory: MemoryModule) -> int:
    """How many there are, with those of the layer that turns what is read into bits."""
    return sum(parameter.numel() for parameter in memory.parameters()) + memory.reads * Copy().bits
