"""Real logs beside the leaderboards: what calibrations foresee of the lab's own machines, as tables and drawings.

Logs do not ship. With a folder of them all is measured anew and the figures are kept; without one the report says so
and shows what was kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from adapt.report_page import Section, note, table
from benchmarks import real_logs, simple_logs
from benchmarks.overlay import Overlay, figures
from benchmarks.real_logs import COLUMNS, MODEL, geometric
from benchmarks.simple_logs import ADAPTED, CALIBRATED, SHIPPED
from hardware_io.config import write_atomically

KEPT = Path(__file__).with_name("real_logs.json")
COMMAND = 'make double-pendulum ARGS="--logs FOLDER"'
ABSENT = f"Skipped: no folder of real logs was given ({COMMAND})."
NAMES = {"double_pendulum": "double pendulum", "simple_pendulum": "simple pendulum"}
AIMS, EACH = {"excitation": 0.7, "one more": 0.5}, 1.0  # at most, in the geometric mean; of each group after excitation
HEADINGS = {"excitation": "after excitation", "one more": "and one rollout"}
WINDOWS = "Median error of open-loop predictions over half a second, "

Told = tuple[str, list[str], list[list[str]]]  # words, header, rows


@dataclass(frozen=True)
class RealLogs:
    """Figures by robot; drawings only where the logs were there."""

    figures: Mapping[str, Any]
    overlays: Mapping[str, Sequence[Overlay]] = field(default_factory=dict)
    skipped: str = ""


def measured(folder: str) -> RealLogs:
    """Both robots' logs in `folder`, which are then what is kept; what was kept without one. Raises ConfigError."""
    if not folder:
        return RealLogs(json.loads(KEPT.read_text()) if KEPT.exists() else {}, skipped=ABSENT)
    simple, simple_overlays = simple_logs.measure(Path(folder))
    double, double_overlays = real_logs.measure(Path(folder))
    found = {"made_by": COMMAND, "double_pendulum": double, "simple_pendulum": simple}
    write_atomically(KEPT, json.dumps(found, indent=1) + "\n")
    return RealLogs(found, {"double_pendulum": double_overlays, "simple_pendulum": simple_overlays})


def markdown(found: Mapping[str, Any]) -> str:
    """Of `RealLogs.figures`; nothing of what they lack."""
    parts = []
    for robot, (words, header, rows) in _told(found).items():
        lines = [header, ["---"] * len(header), *rows]
        pipes = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"## Real logs of the {NAMES[robot]}\n\n{words} `{COMMAND}`\n\n{pipes}\n")
    return "\n".join(parts)


def sections(real: RealLogs) -> list[Section]:
    """A section a robot: words, table and drawings, or why they are missing."""
    told, found = _told(real.figures), []
    for robot, name in NAMES.items():
        parts = [note(real.skipped)] if real.skipped else []
        if robot in told:
            words, header, rows = told[robot]
            parts += ['<p class="soft">What was kept of the last run that had one:</p>'] if real.skipped else []
            parts += [f'<p class="soft">{escape(words)}</p>', table(header, rows)]
        if robot in real.overlays:
            words = "The window of each that is foreseen as well as its median; what is drawn was not fitted."
            parts.append(f'<h3>Measured and foreseen</h3><p class="soft">{words}</p>{figures(real.overlays[robot])}')
        found.append(Section(f"Real logs of the {name}", "".join(parts)))
    return found


def _told(found: Mapping[str, Any]) -> dict[str, Told]:
    makers = {"double_pendulum": _double, "simple_pendulum": _simple}
    return {robot: make(found[robot]) for robot, make in makers.items() if robot in found}


def _double(found: Mapping[str, Any]) -> Told:
    """Ratios to the lab's model, geometric mean and worst over the excitation runs."""
    runs = len(found["mean"][COLUMNS[0]])
    words = (
        f"{WINDOWS}as a share of that of the lab's own identified model ({MODEL}, in rad) on the same windows; "
        f"below 1 is better. Calibrated on 10 s of excitation, then on one rollout of the group as well; what was "
        f"fitted is not scored. Each of {runs} excitation runs took its turn: geometric mean over them, and the worst."
    )
    header = ["group", "windows", MODEL]
    for column in COLUMNS:
        header += [HEADINGS[column], "worst"]
    rows = [
        [group, str(row["windows"]), f"{row['reference']:.4f}", *_ratios(row)] for group, row in found["groups"].items()
    ]
    rows.append(["geometric mean", "", "", *_ratios(found["mean"])])
    rows.append(["aim for the mean", "", ""])
    for column in COLUMNS:
        rows[-1] += _aim(AIMS[column], geometric(found["mean"][column]))
    highest = max(geometric(row[COLUMNS[0]]) for row in found["groups"].values())
    rows.append(["aim for each group", "", "", *_aim(EACH, highest), "", ""])
    return words, header, rows


def _simple(found: Mapping[str, Any]) -> Told:
    """Errors by log, and in words what changed with the weight."""
    light, heavy = (found["moment"][key] for key in ("light", "heavy"))
    true_light, true_heavy = (found["weights"][key] for key in ("light", "heavy"))
    words = (
        f"{WINDOWS}rad: each log by a calibration on others. The last log carries another weight: its first "
        f"{found['taught']:g} s adapt the calibration, told that it is the payload which changed, and the rest is "
        f"scored. The moment of weight, in units of measured torque, goes from {light:.3f} to {heavy:.3f} kg·m, "
        f"{heavy / light:.2f} times; the weights are {true_light:g} and {true_heavy:g} kg, "
        f"{true_heavy / true_light:.2f} times."
    )
    header = ["log", "calibrated on", "windows", SHIPPED, CALIBRATED, ADAPTED]
    rows = [
        [row["log"], ", ".join(row["made_from"]), str(row["windows"])]
        + [f"{row[key]:.3f}" if key in row else "" for key in (SHIPPED, CALIBRATED, ADAPTED)]
        for row in found["logs"]
    ]
    return words, header, rows


def _aim(most: float, found: float) -> list[str]:
    return [f"at most {most:g}", "met" if found <= most else "missed"]


def _ratios(row: Mapping[str, Sequence[float]]) -> list[str]:
    return [cell for column in COLUMNS for cell in (f"{geometric(row[column]):.2f}", f"{max(row[column]):.2f}")]
