"""What each learner comes to with one budget, after 0 to 5 adaptations: trainings of `make reproduce`, scored longer.

`S` seeds, `R` robots of each, `K` numbers of adaptations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path

import numpy as np

from adapt.learner import META_LEARNERS, class_of
from benchmarks.reproduce.locomotion import BASELINE, ORACLE, of_learner, robots_of, score
from benchmarks.reproduce.result import Estimate, estimate, interval
from benchmarks.reproduce.session import Session, Variant, train
from benchmarks.reproduce.variants import COMPARED
from hardware_io.config import ConfigError, write_atomically

TASKS = tuple(COMPARED)
REGULATED = {"pendubot swing-up": {"regulator": {"reach": 0.5}, "frames": 1}}  # settings of learners that have them
AFTER = (0, 1, 2, 3, 5)  # adaptations


@dataclass(frozen=True)
class Result:
    """One training of one learner on one task."""

    task: str
    learner: str
    seed: int
    returns: list[list[float]]  # (R, K)
    success: list[list[float]] | None  # (R, K)
    steps: int  # of the environment
    seconds: float  # of the training
    rollouts: int  # that an adaptation takes

    @property
    def key(self) -> tuple[str, str, int]:
        """Of results with the same one the last counts."""
        return self.task, self.learner, self.seed


def measure(
    session: Session, tasks: Sequence[str], learners: Sequence[str], known: Sequence[Result] = ()
) -> Iterator[Result]:
    """Trainings are made once, and found in the session's folder after that; so are measurements, among those `known`.

    Robots act without noise, but for those whose tasks are a family of their own.
    """
    for task, name, seed in product(tasks, learners, range(session.seeds)):
        trained = train(session, variant_of(task, name), seed)
        robots = math.prod(robots_of(session, trained.run))
        before = [one for one in known if one.key == (task, name, seed)]
        if any((one.seconds, len(one.returns)) == (trained.seconds, robots) for one in before):
            continue
        found = score(session, trained.run, max(AFTER), drawn=trained.run.config.robot is None)
        returns = found.returns[:, AFTER].tolist()
        success = None if found.success is None else found.success[:, AFTER].tolist()
        yield Result(task, name, seed, returns, success, trained.steps, trained.seconds, trained.run.config.copies)


def variant_of(task: str, name: str) -> Variant:
    """The training of a learner on a task; near upright it stands on a regulator if it can."""
    known = {field.name for field in fields(class_of(name).Settings)}
    settings = {key: value for key, value in REGULATED.get(task, {}).items() if key in known}
    return of_learner(COMPARED[task], name).on({f"learner.settings.{key}": value for key, value in settings.items()})


def read_results(file: Path) -> list[Result]:
    """What earlier calls left, nothing where there is none. Raises ConfigError for a file that is none of ours."""
    if not file.exists():
        return []
    try:
        return [Result(**row) for row in json.loads(file.read_text(encoding="utf-8"))["results"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(str(file), "results", str(error), "a file that `make compare` wrote") from error


def add_result(file: Path, result: Result) -> None:
    """Into the file, in place of an earlier one of the same training."""
    results = [one for one in read_results(file) if one.key != result.key] + [result]
    write_atomically(file, json.dumps({"results": [asdict(one) for one in results]}, indent=1) + "\n")


def of_task(results: list[Result], task: str) -> dict[str, list[Result]]:
    """Learner → its seeds in order, as in the table of learners; the baseline and the oracle come last."""
    order = [name for name in META_LEARNERS if name not in (BASELINE, ORACLE)] + [BASELINE, ORACLE]
    ranked = sorted(results, key=lambda one: one.seed)
    found = {name: [one for one in ranked if (one.task, one.learner) == (task, name)] for name in order}
    return {name: rows for name, rows in found.items() if rows}


def curve(results: list[Result], measure: str) -> list[Estimate]:
    """Of `returns` or `success`, with interval, after each number of adaptations."""
    seeds = [np.array(getattr(one, measure), np.float64) for one in results]
    each = [estimate([values[:, k] for values in seeds]) for k in range(len(AFTER))]
    return each if measure == "returns" else [counted(one, sum(map(len, seeds))) for one in each]


def counted(share: Estimate, robots: int) -> Estimate:
    """A share of successes, no surer than so many robots can make it.

    Where all succeed, or none, robots and trainings do not differ, and yet the next one may.
    """
    low, high = interval(round(share.mean * robots), robots)
    return replace(share, half=max(share.half, share.mean - low, high - share.mean))


def headline(results: list[Result]) -> str:
    """What tells learners apart on a task: success where it has such a notion, return elsewhere."""
    return "returns" if results[0].success is None else "success"
