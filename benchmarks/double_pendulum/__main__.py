"""Scores an exported file, or any controller in Python, by the published benchmarks of the double pendulum."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.double_pendulum import real
from benchmarks.double_pendulum.graph import GraphController
from benchmarks.double_pendulum.knockdown import score_global
from benchmarks.double_pendulum.page import PAGE, markdown
from benchmarks.double_pendulum.performance import score_performance
from benchmarks.double_pendulum.plant import ROBOTS
from benchmarks.double_pendulum.references import REFERENCES, reference
from benchmarks.double_pendulum.report import REPORT, write_report
from benchmarks.double_pendulum.robustness import CATEGORIES, score_category
from benchmarks.double_pendulum.simulate import Controller
from benchmarks.double_pendulum.twins import TWIN_SCORES, TWINS, known, note_twins
from benchmarks.double_pendulum.twins import markdown as twins_markdown
from hardware_io.bundle import BundleError, read_bundle
from hardware_io.config import ConfigError, read_yaml, write_atomically
from hardware_io.runtime import NonFinite

PUBLISHED = Path(__file__).with_name("published.yaml")
CEILING = Path(__file__).with_name("ceiling.json")
SHIPPED = sorted(map(str, (Path(__file__).parents[2] / "zoo").glob("*_robust.onnx")))
ON_TWINS = [*SHIPPED, *sorted(map(str, (Path(__file__).parents[2] / "zoo").glob("*_lab.onnx")))]
PARTS = (*CATEGORIES, "performance", "global")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser("python -m benchmarks.double_pendulum", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="a table beside what was published")
    score.add_argument(
        "controller",
        metavar="CONTROLLER",
        help=f"FILE.onnx, module:function of the index of the joint that acts, or one of {', '.join(REFERENCES)}",
    )
    score.add_argument("--robot", choices=ROBOTS, help="which one; a file knows its own")
    score.add_argument("--categories", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME", help="(all)")
    score.add_argument("--json", action="store_true", help="print a document for machines instead")
    page = commands.add_parser("page", help=f"score the files in zoo/ and write {PAGE.name} and a report")
    page.add_argument("files", metavar="FILE.onnx", nargs="*", default=SHIPPED, help="(those in zoo/)")
    page.add_argument(
        "--logs",
        metavar="FOLDER",
        default=os.environ.get("ACCLIMATE_REAL_LOGS", ""),
        help="real logs, as benchmarks.real_logs takes them; some minutes more (ACCLIMATE_REAL_LOGS, else none)",
    )
    page.add_argument("--report", metavar="FILE.html", type=Path, default=REPORT, help=f"({REPORT})")
    twins = commands.add_parser("twins", help=f"success on hidden machines, into {TWIN_SCORES.name}; minutes a file")
    twins.add_argument("files", metavar="FILE.onnx", nargs="*", default=ON_TWINS, help="(those in zoo/)")
    twins.add_argument("--twins", type=int, default=TWINS, help=f"hidden machines ({TWINS})")
    limit = commands.add_parser(
        "ceiling", help=f"what is possible at all, into {CEILING.name}; takes a quarter of an hour"
    )
    limit.add_argument("--robot", choices=ROBOTS, help="one of them (both)")
    return result


def main(argv: list[str]) -> int:
    """Returns 0 when it ran, 2 for a controller that cannot be scored."""
    options = parser().parse_args(argv)
    if options.command == "ceiling":
        for robot in (options.robot,) if options.robot else ROBOTS:
            note_ceiling(robot)
        return 0
    try:
        if options.command == "twins":
            note_twins(options.files, options.twins)
            return 0
        if options.command == "page":
            write_page(options.files, options.logs, options.report)
            return 0
        controller, acting = load(options.controller, options.robot)
        results = score_all(controller, acting, options.categories)
    except (BundleError, ConfigError, NonFinite) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    robot = ROBOTS[acting]
    if options.json:
        print(json.dumps({"controller": options.controller, "robot": robot, **results}, indent=1, ensure_ascii=False))
    else:
        show(options.controller, robot, results)
    return 0


def write_page(files: list[str], logs: str, report: Path) -> None:
    """Score every file, measure on real logs where there are any, and write page and report.

    Raises BundleError, ConfigError, NonFinite.
    """
    read = {file: GraphController(read_bundle(file)) for file in files}
    found = real.measured(logs)
    scores, controllers, published, ceilings = {}, {}, read_yaml(PUBLISHED), known_ceilings()
    for file, controller in read.items():
        robot = ROBOTS[controller.acting]
        results = score_all(controller, controller.acting, list(PARTS))
        show(file, robot, results)
        scores[robot], controllers[robot] = (Path(file).name, results), controller
    write_atomically(
        PAGE,
        markdown(scores, published, ceilings) + "\n" + twins_markdown(known()) + "\n" + real.markdown(found.figures),
    )
    write_report(report, scores, controllers, published, ceilings, found)
    if found.skipped:
        print(found.skipped)
    print(f"{PAGE}\n{report}")


def load(name: str, robot: str | None) -> tuple[Controller, int]:
    """The controller and the index of the joint that acts. Raises BundleError, ConfigError."""
    if name.endswith(".onnx"):
        controller = GraphController(read_bundle(name))
        if robot not in (None, ROBOTS[controller.acting]):
            raise ConfigError(name, "robot", ROBOTS[controller.acting], f"{robot}, as --robot asks")
        return controller, controller.acting
    if robot is None:
        raise ConfigError(name, "--robot", None, f"one of {', '.join(ROBOTS)}: only a file knows its own")
    acting = ROBOTS.index(robot)
    if name in REFERENCES:
        return reference(name, acting), acting
    module, _, function = name.partition(":")
    try:
        make: Callable[[int], Controller] = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        allowed = f"FILE.onnx, module:function or one of {', '.join(REFERENCES)} ({error})"
        raise ConfigError("score", "CONTROLLER", name, allowed) from error
    return make(acting), acting


def score_all(controller: Controller, acting: int, parts: list[str]) -> dict[str, Any]:
    """What was asked for; the robustness score where all six categories were."""
    results: dict[str, Any] = {}
    for part in parts:
        begun = time.perf_counter()
        if part == "performance":
            results[part] = score_performance(controller, acting)
        elif part == "global":
            results[part] = score_global(controller, acting)
        else:
            results[part] = score_category(controller, acting, part)
        seconds = time.perf_counter() - begun
        print(f"{part}: {results[part]['score']:.3f} ({seconds:.0f} s)", file=sys.stderr)
    return add_mean(results)


def note_ceiling(robot: str) -> None:
    """Work it out for one robot; what is known of the other stays."""
    from benchmarks.double_pendulum.ceiling import ceiling

    results = add_mean(ceiling(ROBOTS.index(robot)))
    document = {"made_by": "python -m benchmarks.double_pendulum ceiling", **known_ceilings(), robot: results}
    write_atomically(CEILING, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"{robot}: " + ", ".join(f"{name} {value['score']:.3f}" for name, value in results.items()))


def known_ceilings() -> dict[str, Any]:
    """Robot → what `ceiling` found; empty before it ran."""
    return dict(json.loads(CEILING.read_text(encoding="utf-8"))) if CEILING.exists() else {}


def add_mean(results: dict[str, Any]) -> dict[str, Any]:
    """With the robustness score, where all six categories are there."""
    if not all(name in results for name in CATEGORIES):
        return results
    mean = sum(results[name]["score"] for name in CATEGORIES) / len(CATEGORIES)
    return {**results, "robustness": {"score": mean}}


def show(name: str, robot: str, results: dict[str, Any]) -> None:
    """Robustness beside the leaderboard, then the two other scores, then what failed."""
    published, console = read_yaml(PUBLISHED)[robot], Console(width=110)
    columns = [*CATEGORIES, "robustness"]
    table = Table("controller", *columns, title=f"{robot}: robustness v2")
    ours = [f"{results[column]['score']:.3f}" if column in results else "" for column in columns]
    if any(ours):
        table.add_row(Path(name).stem, *ours, style="bold", end_section=True)
        for entry, values in published["robustness"].items():
            table.add_row(entry, *(f"{value:.3f}" for value in values))
        possible = known_ceilings().get(robot)
        if possible:
            table.add_section()
            table.add_row("told everything", *(f"{possible[column]['score']:.3f}" for column in columns), style="dim")
        console.print(table)
    for part in ("performance", "global"):
        if part in results:
            found = dict(results[part])
            score = found.pop("score")
            details = ", ".join(f"{key} {value:.3g}" for key, value in found.items())
            console.print(f"{part}: [bold]{score:.3f}[/bold] ({details})")
            console.print("  published: " + ", ".join(f"{entry} {value}" for entry, value in published[part].items()))
    for column in CATEGORIES:
        if results.get(column, {}).get("failed"):
            console.print(f"failed, {column}: " + ", ".join(results[column]["failed"]), highlight=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
