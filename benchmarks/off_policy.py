"""Off-policy updates: samples a second of soft actor-critic, ours and Stable-Baselines3's, of PEARL and of the replay.

Equal are: hidden layers of policy and critics, samples a gradient step, threads, widths of what networks read and give,
and that a step moves policy, both critics and temperature once. Ours draws and features the samples of all steps of an
update at once; both draw from a full replay. A turn is one update of `updates` steps.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapt.episodes import Episodes
from adapt.learner import make_learner
from adapt.off_policy import OffPolicy
from adapt.replay import Replay, ReplaySettings
from benchmarks.measure import Figure, compare, rate, summary, take_turns, torch_threads
from benchmarks.updates import Blank
from hardware_io.interface import Interface

OURS, SB3 = "SAC update", "SB3 SAC.train"
AIM = 2.0
UNIT = "samples/s"
CHEETAH = Interface(observation=17, limit=(1.0,) * 6)


@dataclass(frozen=True)
class Size:
    """Of two hidden layers and of an update; Stable-Baselines3 has 256 units unless told otherwise."""

    hidden: int = 64
    batch: int = 256
    updates: int = 20


def episodes_of(robots: int, rollouts: int, steps: int) -> Episodes:
    """Rollouts of a half-cheetah's widths, none ended early."""
    shape, generator = (robots, rollouts, steps), torch.Generator().manual_seed(0)

    def normal(*extra: int) -> torch.Tensor:
        return torch.randn(*shape, *extra, generator=generator)

    action, never = normal(6).clamp(-1, 1), torch.zeros(shape, dtype=torch.bool)
    observation = torch.randn(robots, rollouts, steps + 1, 17, generator=generator)
    fast = torch.zeros(robots, rollouts, 6)
    return Episodes(observation, action, action, normal(6), normal(), ~never, never, fast, fast[:, 0], None)


class Ours:
    """The gradient steps of one of ours; calling it is one turn, whose rate counts `each` for a step."""

    def __init__(self, name: str, size: Size, each: int) -> None:
        self.learner, self._count = learner_of(name, size), size.updates * each

    def __call__(self) -> float:
        return rate(self._learn, self._count)

    def _learn(self) -> None:
        self.learner.learn()


def learner_of(name: str, size: Size) -> OffPolicy:
    """One of ours with a replay that has something in it."""
    hidden = [size.hidden] * 2
    settings = {"hidden": hidden, "critic_hidden": hidden, "updates": size.updates, "warm_up": 1}
    if name == "sac":
        settings["batch"] = size.batch
    learner = make_learner(name, CHEETAH, "benchmarks", settings)
    assert isinstance(learner, OffPolicy)
    learner.meta_update([], episodes_of(16, 2, 100))
    return learner


class Theirs:
    """Stable-Baselines3's update; calling it is one turn."""

    def __init__(self, size: Size, width: int) -> None:
        from stable_baselines3 import SAC
        from stable_baselines3.common.logger import configure
        from stable_baselines3.common.vec_env import DummyVecEnv

        env = DummyVecEnv([partial(Blank, width, 6)])
        network = {"net_arch": [size.hidden] * 2}
        self._model = SAC("MlpPolicy", env, buffer_size=3200, policy_kwargs=network, device="cpu")
        self._model.set_logger(configure(None, []))
        rng = np.random.default_rng(0)
        buffer: Any = self._model.replay_buffer
        for _ in range(3200):
            seen, after = rng.standard_normal((2, 1, width)).astype(np.float32)
            action, reward = rng.uniform(-1, 1, (1, 6)).astype(np.float32), rng.standard_normal(1)
            buffer.add(seen, after, action, reward, np.zeros(1), [{}])
        self._size = size

    def __call__(self) -> float:
        size = self._size
        return rate(partial(self._model.train, size.updates, size.batch), size.updates * size.batch)


def updates(size: Size, turns: int) -> list[Figure]:
    """Soft actor-critics beside each other."""
    ours = Ours("sac", size, size.batch)
    contestants: dict[str, Callable[[], float]] = {OURS: ours, SB3: Theirs(size, ours.learner.input_size)}
    section = f"SAC update: perceptron 2x{size.hidden}, {size.batch} samples a step, {torch.get_num_threads()} thread"
    return compare(section, take_turns(contestants, turns), UNIT, OURS, {SB3: AIM})


def pearl(size: Size, turns: int) -> list[Figure]:
    """Gradient steps of PEARL as configured by default: 16 tasks, of each 32 samples and up to 64 of context."""
    values = take_turns({"PEARL": Ours("pearl", size, 1)}, turns)["PEARL"]
    return [summary(f"PEARL: perceptrons 2x{size.hidden}", "PEARL gradient steps", values, "steps/s")]


def replay(turns: int, robots: int) -> list[Figure]:
    """Throughput and size of the replay, in memory and on disk."""
    section, episodes = "replay: transitions of a half-cheetah", episodes_of(robots, 2, 100)
    figures, count = list[Figure](), robots * 200
    for name, folder, priority in (("in memory", None, 0.0), ("on disk", "disk", 0.0), ("prioritised", None, 0.6)):
        with store(folder, priority) as kept:
            append = partial(more, kept, episodes)
            append()
            drawn: dict[str, Callable[[], float]] = {
                "append": partial(rate, append, count),
                "sample": partial(rate, partial(many, kept), 256 * 20),
            }
            values = take_turns(drawn, turns)
            figures += [summary(section, f"{what}, {name}", each, "transitions/s") for what, each in values.items()]
            size = kept.bytes
    return [*figures, summary(section, "size on disk", [float(size)], "bytes a transition")]


def more(kept: Replay, episodes: Episodes) -> None:
    """Trials of new robots."""
    known = len(kept.partitions)
    kept.append(episodes, range(known, known + episodes.robots))


def many(kept: Replay) -> None:
    """Twenty draws of a gradient step's size."""
    for _ in range(20):
        kept.sample(256)


@contextmanager
def store(folder: str | None, priority: float) -> Iterator[Replay]:
    """A replay, on disk where a folder is named, which is gone afterwards."""
    kept = Replay(CHEETAH, ReplaySettings(capacity=200_000, priority=priority))
    place = None if folder is None else Path(tempfile.mkdtemp(prefix=folder))
    if place is not None:
        kept.keep_in(place)
    try:
        yield kept
    finally:
        if place is not None:
            shutil.rmtree(place)


def measure(quick: bool, threads: int) -> list[Figure]:
    """Everything about learning from a replay, on the CPU."""
    turns = 2 if quick else 5
    with torch_threads(threads):
        sizes = (Size(8, 16, 2),) if quick else (Size(), Size(256))
        figures = [figure for size in sizes for figure in updates(size, turns)]
        figures += pearl(sizes[0], turns)
        return figures + replay(turns, 2 if quick else 64)
