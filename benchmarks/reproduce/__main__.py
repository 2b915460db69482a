"""Published results, reproduced beside their references, as a table and as JSON.

Trainings are ordinary runs below --out: an interrupted one goes on, a finished one is not repeated.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.reproduce import EXPERIMENTS
from benchmarks.reproduce.result import Row
from benchmarks.reproduce.session import Session, answered, positive
from benchmarks.reproduce.table import add_rows, markdown, read_results
from hardware_io.config import read_yaml, write_atomically

REMARKS = Path(__file__).with_name("remarks.yaml")
PAGE = Path(__file__).parents[1] / "reproduce.md"
INTRODUCTION = """# Reproductions

`make reproduce` trains and measures what is below beside what was published, and `make reproduce ARGS=--page` writes
this page from the last results. Intervals are over trainings where there are several seeds, over tasks where there is
one. `better`: better than the reference; `met`: within the tolerance. Rows without a reference are there to compare
with. Time is that of one training on 2 cores.
"""


def parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<12} {text}" for name, (_, text) in EXPERIMENTS.items())
    result = argparse.ArgumentParser(
        "python -m benchmarks.reproduce",
        description=__doc__,
        epilog=f"experiments:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("names", nargs="*", metavar="NAME", help="experiments (all of them)")
    result.add_argument("--list", action="store_true", help="say which there are, and do nothing")
    result.add_argument("--quick", action="store_true", help="tiny budgets, to see that it runs: figures mean nothing")
    result.add_argument("--seeds", type=positive, default=1, help="trainings of each kind (%(default)s)")
    result.add_argument("--steps", type=positive, help="of every training, in place of the budgets of variants.py")
    result.add_argument(
        "--robots", type=positive, help="or other tasks that a training is measured on, in whole blocks"
    )
    result.add_argument("--out", type=Path, metavar="FOLDER", help="(runs/reproduce; runs/reproduce/quick for --quick)")
    result.add_argument("--page", action="store_true", help=f"write {PAGE.parent.name}/{PAGE.name} from the results")
    return result


def main(argv: list[str]) -> int:
    """Returns 0 when it ran, whether aims were met or missed, and 130 when it was interrupted."""
    arguments = parser()
    options = arguments.parse_args(argv)
    if options.list:
        print(arguments.epilog)
        return 0
    for name in options.names:
        if name not in EXPERIMENTS:
            arguments.error(f"NAME: got {name!r}; allowed: {', '.join(EXPERIMENTS)}")
    if options.page and options.quick:
        arguments.error("--page: got it with --quick; allowed: results of full budgets")
    folder = options.out or Path("runs/reproduce/quick" if options.quick else "runs/reproduce")
    session, file = (
        Session(folder, options.quick, options.seeds, options.steps, options.robots),
        folder / "reproduce.json",
    )
    names = options.names or ([] if options.page else list(EXPERIMENTS))

    def work() -> None:
        for name in names:
            run(name, session, file)

    if status := answered(work):
        return status
    results, remarks = read_results(file), read_remarks()
    print(markdown({name: results[name] for name in names or results}, remarks))
    if options.page:
        write_atomically(PAGE, f"{INTRODUCTION}\n{markdown(results, remarks)}".rstrip() + "\n")
    return 0


def run(name: str, session: Session, file: Path) -> None:
    """One experiment; what it has measured is in the file as soon as it is known."""
    module: Any = import_module(EXPERIMENTS[name][0])
    done = list[Row]()
    for row in module.rows(session):
        done.append(row)
        add_rows(file, name, [row], complete=False)
    add_rows(file, name, done, complete=True)


def read_remarks() -> dict[str, dict[str, str]]:
    """Reasons written by hand: experiment → row → text."""
    return {name: {str(key): str(text) for key, text in rows.items()} for name, rows in read_yaml(REMARKS).items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
