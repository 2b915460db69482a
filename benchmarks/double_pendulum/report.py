"""The double pendulum's benchmarks as one HTML page that needs no network: scores, motions, real logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapt.report_page import Section, note, page
from benchmarks.double_pendulum.graph import GraphController
from benchmarks.double_pendulum.plant import ROBOTS
from benchmarks.double_pendulum.real import RealLogs, sections
from benchmarks.double_pendulum.report_scores import score_sections
from hardware_io.config import write_atomically

REPORT = Path("runs/double_pendulum/report.html")
FOOTER = "A file of its own: it needs no network. Angles in rad from hanging, positive counter-clockwise."


def write_report(
    path: Path,
    scores: Mapping[str, tuple[str, Mapping[str, Any]]],
    controllers: Mapping[str, GraphController],
    published: Mapping[str, Mapping[str, Any]],
    ceilings: Mapping[str, Mapping[str, Any]],
    real: RealLogs,
) -> None:
    """Of robot → (name of the file, results of every part), and the files as controllers."""
    found: list[Section] = []
    for robot in ROBOTS:
        if robot in scores:
            name, results = scores[robot]
            found += score_sections(
                Path(name).stem, controllers[robot], results, published[robot], ceilings.get(robot, {})
            )
        else:
            found.append(Section(robot, note("Skipped: no file of this robot was scored.")))
    found += sections(real)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ", ".join(name for name, _ in scores.values())
    write_atomically(path, page("acclimate: the double pendulum by its published benchmarks", names, found, FOOTER))
