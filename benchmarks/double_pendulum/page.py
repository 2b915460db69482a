"""The scores of shipped files beside the leaderboard's, as the page benchmarks/double_pendulum.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.double_pendulum.robustness import CATEGORIES

PAGE = Path(__file__).parents[1] / "double_pendulum.md"
AIMS = {  # robot → score → what is aimed at
    "pendubot": {"robustness": 0.95, "performance": 0.70, "global": 0.85},
    "acrobot": {"robustness": 0.88, "performance": 0.70, "global": 0.85},
}
INTRODUCTION = """# The double pendulum by its published benchmarks

`make double-pendulum` scores the files in `zoo/`, writes this page and draws `runs/double_pendulum/report.html`: the
same figures value by value, and how the files move. `make double-pendulum-train` trains them anew (`zoo/README.md`).
Protocol and sources are in `double_pendulum/README.md`. Files run in ONNX Runtime, asked every 2 ms; they were trained
in PyBullet and have never seen this plant. `told everything`: planned with the perturbed model known, without noise or
delay, a bound from below to what is possible.
"""


def markdown(
    scores: Mapping[str, tuple[str, Mapping[str, Any]]],
    published: Mapping[str, Mapping[str, Any]],
    ceilings: Mapping[str, Mapping[str, Any]],
) -> str:
    """Of robot → (name of the file, results of every part)."""
    parts = [INTRODUCTION]
    for robot, (name, results) in scores.items():
        parts.append("\n".join(_tables(robot, name, results, published[robot], ceilings.get(robot, {}))))
    return "\n".join(parts) + "\n"


def _tables(
    robot: str, name: str, results: Mapping[str, Any], published: Mapping[str, Any], ceiling: Mapping[str, Any]
) -> Iterator[str]:
    columns = [*CATEGORIES, "robustness"]
    yield f"## {robot}\n"
    yield "| | " + " | ".join(column.replace("_", " ") for column in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    yield f"| **`{name}`** | " + " | ".join(f"**{results[column]['score']:.3f}**" for column in columns) + " |"
    for entry, values in published["robustness"].items():
        yield f"| {entry} | " + " | ".join(f"{value:.3f}" for value in values) + " |"
    if ceiling:
        yield "| told everything | " + " | ".join(f"{ceiling[column]['score']:.3f}" for column in columns) + " |"
    yield "\n| | measured | aim | | published |\n|---|---|---|---|---|"
    best = {**published, "robustness": {entry: values[-1] for entry, values in published["robustness"].items()}}
    for score, aim in AIMS[robot].items():
        found = results[score]["score"]
        told = ", ".join(f"{entry} {value:.3f}" for entry, value in list(best[score].items())[:3])
        yield f"| {score} | {found:.3f} | {aim:.2f} | {'met' if found >= aim else '**missed**'} | {told} |"
    yield ""
    for column in CATEGORIES:
        if results[column].get("failed"):
            yield f"- failed, {column.replace('_', ' ')}: {', '.join(results[column]['failed'])}"
    yield ""
