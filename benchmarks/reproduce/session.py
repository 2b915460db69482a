"""What an experiment is given, and ordinary trainings in ordinary folders, each made once."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from adapt.run_folder import Run, load_run, read_config
from adapt.train import Trainer, one_thread, train_with_bar
from benchmarks.reproduce.result import Aim, Row, estimate
from hardware_io.config import ConfigError, dump
from policies.checkpoint import load_checkpoint, save_checkpoint

CONFIGS = Path(__file__).parents[2] / "configs"


class Interrupted(KeyboardInterrupt):
    """A training was interrupted; the same command goes on with it."""


@dataclass(frozen=True)
class Session:
    """How much is to be done, and where trainings lie."""

    folder: Path
    quick: bool = False  # tiny budgets: to see that everything works, not for figures
    seeds: int = 1
    steps: int | None = None  # of every training, in place of its own budget
    robots: int | None = None  # or tasks of an evaluation, in place of the experiment's own number


@dataclass(frozen=True)
class Variant:
    """A training: a file in `configs/` with keys laid on top, as by `acclimate train --set`."""

    name: str  # of its folders, which are NAME-sSEED
    config: str
    overrides: dict[str, Any] = field(default_factory=dict)
    after: Variant | None = None  # whose weights it begins with

    def on(self, overrides: dict[str, Any]) -> Variant:
        """The same with more laid on top."""
        return replace(self, overrides={**self.overrides, **overrides})

    def settings(self, session: Session, seed: int) -> dict[str, Any]:
        """Everything laid on top of the file: KEY → value."""
        budget: dict[str, Any] = {} if session.steps is None else {"steps": session.steps}
        if self.after is not None:
            budget["begin_with"] = str(self.after.folder(session, seed))
        return {**self.overrides, **budget, "seed": seed}

    def folder(self, session: Session, seed: int) -> Path:
        """Of the training with this seed."""
        return session.folder / f"{self.name}-s{seed}"


@dataclass(frozen=True)
class Trained:
    """A finished training and what it took, with those before it whose weights it began with."""

    run: Run
    steps: int
    seconds: float


def train(session: Session, variant: Variant, seed: int) -> Trained:
    """The training of a variant: from its folder if it is finished, continued or begun if not.

    Raises ConfigError where the folder holds another configuration, and Interrupted after Ctrl-C.
    """
    before = None if variant.after is None else train(session, variant.after, seed)
    path = CONFIGS / variant.config
    config = read_config(path, [f"{key}={value}" for key, value in variant.settings(session, seed).items()])
    folder = variant.folder(session, seed)
    trainer = Trainer(config, folder, str(path))
    if trainer.progress.steps < config.steps:
        print(folder, flush=True)
        finished = trainer.run() if session.quick else train_with_bar(trainer)
        if not finished:
            raise Interrupted
    steps, seconds = trainer.progress.steps, trainer.progress.seconds
    if before is not None:
        steps, seconds = steps + before.steps, seconds + before.seconds
    return Trained(load_run(folder), steps, seconds)


def trainings(session: Session, variant: Variant) -> list[Trained]:
    """Those of a variant with each seed of a session. Raises as `train`."""
    return [train(session, variant, seed) for seed in range(session.seeds)]


def row_of(
    what: str,
    scores: Sequence[ArrayLike],
    trained: list[Trained],
    note: str = "",
    aim: Aim | None = None,
    source: str = "",
) -> Row:
    """What trainings came to, from the scores of each one's tasks, (B,) each."""
    seconds = sum(one.seconds for one in trained) / len(trained)
    return Row(what, estimate(scores), aim, source, trained[0].steps, seconds, note)


def answered(work: Callable[[], None]) -> int:
    """Exit status of a program: 0, 2 for input that cannot be, and 130 when it was interrupted; both are said."""
    try:
        work()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def positive(text: str) -> int:
    """A whole number from a command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {value}; allowed: at least 1")
    return value


def made_once(folder: Path, settings: Any, make: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
    """The weights that a short training gives, one of no meta-learner, and the seconds it took.

    From its folder if they are there; it begins anew when it is interrupted. Raises ConfigError for a folder of other
    settings.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        print(folder, flush=True)
        begun = time.perf_counter()
        with one_thread():
            made = make()
        seconds = time.perf_counter() - begun
        save_checkpoint(path, {"settings": dump(settings), "weights": made, "seconds": seconds})
    content = load_checkpoint(path)
    if content["settings"] != dump(settings):
        raise ConfigError(str(path), "settings", dump(settings), f"{content['settings']}, or another --out folder")
    return content["weights"], content["seconds"]
