"""How fast this is beside what else there is: ratios measured side by side in one run, as a table and as JSON.

Steps are policy steps of one robot, samples are policy steps in an update, ratios are ours over theirs (more is
better). Values are medians over turns with quartiles in brackets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.measure import Figure, machine, warning
from hardware_io.config import write_atomically

PARTS = ("env", "ppo", "off_policy", "meta", "training", "inference", "loop")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        "python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--only", choices=PARTS, help="one part (all of them)")
    result.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; figures mean little, so no aims"
    )
    result.add_argument("--lanes", type=int, default=64, help="robots side by side in `env` (64)")
    result.add_argument("--workers", type=int, default=2, help="processes of ours and of the Bullet bound (2)")
    result.add_argument("--threads", type=int, default=1, help="of PyTorch in updates, ours and theirs (1)")
    result.add_argument("--out", default="runs/bench/bench.json", metavar="FILE.json", help="(%(default)s)")
    return result


def main(argv: list[str]) -> int:
    """Returns 0 when it ran, whether aims were met or not: the machine may be busy."""
    arguments = parser()
    options = arguments.parse_args(argv)
    lanes = 4 * options.workers if options.quick else options.lanes
    if options.workers < 1 or options.threads < 1:
        arguments.error("--workers and --threads: allowed: at least 1")
    if lanes < 1 or lanes % (2 * options.workers):
        arguments.error(f"--lanes: got {lanes}; allowed: a multiple of 2 x workers = {2 * options.workers}")
    parts: dict[str, tuple[str, Callable[..., Callable[..., Any]]]] = {
        "env": ("benchmarks.environment", lambda run: partial(run, options.quick, lanes, options.workers)),
        "ppo": ("benchmarks.updates", lambda run: partial(run, options.quick, options.threads)),
        "off_policy": ("benchmarks.off_policy", lambda run: partial(run, options.quick, options.threads)),
        "meta": ("benchmarks.meta_gradient", lambda run: partial(run, options.quick, options.threads)),
        "training": ("benchmarks.training", lambda run: partial(run, options.quick, options.workers)),
        "inference": ("benchmarks.inference", lambda run: partial(run, options.quick)),
        "loop": ("benchmarks.control_loop", lambda run: partial(run, options.quick)),
    }
    before, begun, figures = machine(), time.perf_counter(), list[Figure]()
    print(f"{before['processor']}, {before['cores']} cores, load {before['load']}, Python {before['python']}")
    if warning(before):
        print(f"warning: {warning(before)}", file=sys.stderr)
    for name in (options.only,) if options.only else PARTS:
        module, bind = parts[name]
        measured = bind(import_module(module).measure)()
        if options.quick:
            measured = [replace(figure, aim=None) for figure in measured]
        show(measured)
        figures += measured
    seconds = time.perf_counter() - begun
    document = {
        "machine": before,
        "load_after": machine()["load"],
        "warning": warning(before),
        "quick": options.quick,
        "seconds": round(seconds, 1),
        "figures": [figure.document() for figure in figures],
    }
    write_atomically(options.out, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    judged = [figure for figure in figures if figure.met is not None]
    print(f"\n{sum(bool(f.met) for f in judged)} of {len(judged)} aims met, {seconds:.0f} s; {options.out}")
    return 0


def show(figures: list[Figure]) -> None:
    """The table, a heading a section."""
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            print(f"\n{section}")
        print(f"  {line(figure)}", flush=True)


def line(figure: Figure) -> str:
    """One figure: name, median, quartiles, aim."""
    if not figure.unit:
        return figure.name
    digits = 2 if figure.unit == "ratio" else 1 if figure.value < 1000 else 0
    value, low, high = (f"{number:,.{digits}f}" for number in (figure.value, figure.low, figure.high))
    aim = "" if figure.aim is None else f"  aim {figure.aim:g}: {'met' if figure.met else 'MISSED'}"
    return f"{figure.name:<46}{value:>10} [{low}, {high}] {figure.unit}{aim}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
