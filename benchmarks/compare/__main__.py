"""Which meta-learner to pick: all of them on a pendubot, half-cheetahs and an arm, each with one budget of steps.

Trainings are those of `make reproduce`, below --out: an interrupted one goes on, a finished one is not repeated, and
nor is what was measured of it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.compare.page import page
from benchmarks.compare.robot import demands
from benchmarks.compare.scores import TASKS, Result, add_result, measure, read_results
from benchmarks.reproduce.locomotion import in_order
from benchmarks.reproduce.session import Session, answered, positive
from hardware_io.config import write_atomically

PAGE = Path(__file__).parents[2] / "docs" / "meta-learners.md"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser("python -m benchmarks.compare", description=__doc__)
    result.add_argument("learners", nargs="*", metavar="LEARNER", help="(all that give continuous actions)")
    result.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help="(all of them)")
    result.add_argument("--seeds", type=positive, default=3, help="trainings of each kind (%(default)s)")
    result.add_argument("--steps", type=positive, help="of every training, in place of the budget")
    result.add_argument("--robots", type=positive, help="that a training is measured on")
    result.add_argument("--out", type=Path, default=Path("runs/reproduce"), metavar="FOLDER", help="(%(default)s)")
    result.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="(docs/meta-learners.md)")
    result.add_argument("--measured", action="store_true", help="write the page from what was measured before")
    return result


def main(argv: list[str]) -> int:
    """Returns 0 when the page is written, 2 for input that cannot be, and 130 when it was interrupted."""
    arguments = parser()
    options = arguments.parse_args(argv)
    learners, file = options.learners or in_order(), options.out / "compare.json"
    for name in learners:
        if name not in in_order():
            arguments.error(f"LEARNER: got {name!r}; allowed: {', '.join(in_order())}")
    session = Session(options.out, False, options.seeds, options.steps, options.robots)
    results = list[Result]()

    def work() -> None:
        if not options.measured:
            for result in measure(session, options.tasks, learners, read_results(file)):
                add_result(file, result)
        results.extend(read_results(file))

    if status := answered(work):
        return status
    text = page(results, demands(calls=300, turns=5), options.page.parent / "images")
    write_atomically(options.page, text)
    print(f"{options.page}: {len(results)} trainings")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
