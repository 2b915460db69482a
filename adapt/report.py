"""One folder as one HTML page that opens from disk: what was trained, how it adapted, what the robot did.

Drawn is what is there: demo.json, recordings (*.mcap, *.adapt/*.mcap), metrics.jsonl, evaluation.json and config.yaml,
the last three also in the folders directly inside. Nothing here needs torch or a simulator. A part that cannot be read
leaves a note.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from adapt.report_page import Section, note, page
from adapt.report_recording import SESSION, Log, read_log, recording_section
from adapt.report_results import demo_section, evaluation_section, parameter_value, training_section
from hardware_io.config import ConfigError, write_atomically
from hardware_io.recorder import RecordingError

VERDICT = "Did it adapt?"
LOOKED_FOR = "a folder with demo.json, *.mcap, metrics.jsonl or evaluation.json"
BROKEN = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError, RecordingError)


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page, by default `report.html` in the folder. Raises ConfigError when nothing is there to draw."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(str(folder), "", "not a folder", LOOKED_FOR)
    demo, notes = _demo(folder)
    sections = [*_results(folder, demo, notes), *_recordings(folder, demo), *_trainings(folder), *_evaluations(folder)]
    if not sections:
        raise ConfigError(str(folder), "", "nothing to draw", LOOKED_FOR)
    sections += _provenance(folder)
    robot = demo.get("robot")
    title = f"acclimate: {robot}" if robot else f"acclimate: {folder.resolve().name}"
    task = demo.get("task")
    words = [str(task.get("name", "")).replace("_", " ")] if isinstance(task, dict) else []
    words += [f"hidden robot {demo['seed']}"] if "seed" in demo else []
    target = folder / "report.html" if out is None else Path(out)
    footer = "A file of its own: it needs no network. Angles in rad from hanging, positive counter-clockwise."
    write_atomically(target, page(title, ", ".join(words), sections, footer))
    return target


def main(argv: list[str]) -> int:
    """`acclimate report FOLDER`."""
    parser = argparse.ArgumentParser(prog="acclimate report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", help=LOOKED_FOR)
    parser.add_argument("--out", metavar="FILE.html", help="default: report.html in the folder")
    options = parser.parse_args(argv)
    print(write_report(Path(options.folder), Path(options.out) if options.out else None))
    return 0


def _demo(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """demo.json, or nothing and why."""
    path = folder / "demo.json"
    if not path.exists():
        return {}, []
    try:
        return _read_object(path), []
    except ConfigError as error:
        return {}, [str(error)]


def _results(folder: Path, demo: dict[str, Any], notes: list[str]) -> Iterator[Section]:
    if notes:
        yield Section(VERDICT, "".join(map(note, notes)))
    elif demo:
        yield _guarded(VERDICT, folder / "demo.json", demo_section, demo)


def _recordings(folder: Path, demo: dict[str, Any]) -> Iterator[Section]:
    """A section a recording; the one with most rollouts, which is where adaptation shows, comes first."""
    logs: list[tuple[Path, Log]] = []
    for path in sorted([*folder.glob("*.mcap"), *folder.glob(f"*{SESSION}/*.mcap")]):
        try:
            logs.append((path, read_log(path)))
        except BROKEN as error:
            yield Section(f"On the robot: {path.stem}", note(f"{path.name}: left out: {error}"))
    for path, log in sorted(logs, key=lambda pair: -len(pair[1].rollouts)):
        hidden = demo.get("hidden") if demo.get("robot") == log.spec.name else None
        values = {k: parameter_value(v) for k, v in hidden.items()} if isinstance(hidden, dict) else {}
        known = {name: value for name, value in values.items() if math.isfinite(value)}
        yield _guarded(f"On the robot: {path.stem}", path, recording_section, log, known)


def _trainings(folder: Path) -> Iterator[Section]:
    runs = {path.parent.resolve().name: _read_lines(path) for path in _found(folder, "metrics.jsonl")}
    runs = {name: rows for name, rows in runs.items() if rows}
    if runs:
        yield _guarded("Training", folder / "metrics.jsonl", training_section, runs)


def _evaluations(folder: Path) -> Iterator[Section]:
    for path in _found(folder, "evaluation.json"):
        name = "" if path.parent == folder else path.parent.name
        try:
            result = _read_object(path)
        except ConfigError as error:
            yield Section(f"Evaluation {name}".strip(), note(str(error)))
            continue
        yield _guarded(f"Evaluation {name}".strip(), path, evaluation_section, name, result)


def _provenance(folder: Path) -> list[Section]:
    parts = []
    for path in _found(folder, "config.yaml"):
        text = path.read_text(encoding="utf-8", errors="replace")
        summary = escape(str(path.relative_to(folder)))
        parts.append(f"<details><summary>{summary}</summary><pre>{escape(text)}</pre></details>")
    return [Section("What made it", "".join(parts))] if parts else []


def _found(folder: Path, name: str) -> list[Path]:
    """A file of that name in the folder and in those directly inside."""
    return [path for path in (folder / name, *sorted(folder.glob(f"*/{name}"))) if path.is_file()]


def _guarded(title: str, path: Path, draw: Callable[..., Section], *values: Any) -> Section:
    """A section, or a note in its place: one file that is not as it should be never costs the others."""
    try:
        return draw(*values)
    except BROKEN as error:
        return Section(title, note(f"{path}: left out: {type(error).__name__}: {error}"))


def _read_object(path: Path) -> dict[str, Any]:
    """Raises ConfigError naming the file and the line."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(str(path), f"line {error.lineno}", error.msg, "well-formed JSON") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "", str(error), "a readable JSON file") from error
    if not isinstance(data, dict):
        raise ConfigError(str(path), "", data, "a JSON object")
    return data


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; a line that a crash cut is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
