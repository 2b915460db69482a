"""The results as JSON, which grows experiment by experiment, and as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.reproduce import EXPERIMENTS
from benchmarks.reproduce.result import HIGHER, LOWER, Row
from hardware_io.config import ConfigError, write_atomically

HEADER = "| what | measured (95 %) | seeds | reference | tolerance | verdict | steps | time | remarks |"
RULE = "|---|---|---|---|---|---|---|---|---|"
SIGNS = {HIGHER: "−", LOWER: "+"}

Document = dict[str, list[dict[str, Any]]]  # experiment → rows


def read_results(path: Path) -> Document:
    """What earlier calls left, nothing where there is none. Raises ConfigError for a file that is none of ours."""
    if not path.exists():
        return {}
    try:
        results: Document = json.loads(path.read_text(encoding="utf-8"))["experiments"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(str(path), "experiments", str(error), "a file that `make reproduce` wrote") from error
    return results


def add_rows(path: Path, experiment: str, rows: list[Row], complete: bool) -> Document:
    """Put rows in place of those of the same name, atomically; a complete experiment leaves no others."""
    results = read_results(path)
    new = {row.what: row.document() for row in rows}
    kept = [] if complete else [row for row in results.get(experiment, []) if row["what"] not in new]
    results[experiment] = kept + list(new.values())
    text = json.dumps({"experiments": results}, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")
    return results


def markdown(results: Document, remarks: dict[str, dict[str, str]]) -> str:
    """A heading and a table an experiment; `remarks` are experiment → what → text."""
    lines: list[str] = []
    for name in sorted(results, key=list(EXPERIMENTS).index):
        own = remarks.get(name, {})
        lines += ["", f"## {name}: {EXPERIMENTS[name][1]}", "", HEADER, RULE]
        lines += [line(row, own.get(row["what"], "")) for row in results[name]]
        if "" in own:
            lines += ["", own[""]]
    return "\n".join(lines[1:])


def line(row: dict[str, Any], remark: str) -> str:
    """One row from its JSON."""
    measured, aim = row["measured"], row["aim"]
    mean, half = measured["mean"], measured["half"]
    cells = [row["what"], number(mean) + ("" if half is None else f" ± {number(half, mean)}")]
    cells.append(str(measured["seeds"]) if row["steps"] else "")
    if aim is None:
        cells += ["", "", ""]
    else:
        reference = aim["reference"]
        cells.append(number(reference) + (f" ({row['source']})" if row["source"] else ""))
        if row["verdict"]:
            cells += [SIGNS.get(aim["good"], "±") + number(aim["tolerance"], reference), f"**{row['verdict']}**"]
        else:
            cells += ["", ""]
    cells += [f"{row['steps']:,}", duration(row["seconds"])] if row["steps"] else ["", ""]
    cells.append("; ".join(text for text in (row["note"], remark) if text))
    return "| " + " | ".join(cells) + " |"


def number(value: float, like: float | None = None) -> str:
    """With as many decimals as `like` needs: returns of hundreds and errors of hundredths are to read well."""
    size = abs(value if like is None else like)
    digits = 1 if size >= 100 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """As `1 h 05 min`, `12 min` or `34 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
