"""The parts of a report that JSON files fill: the demo's outcome, training curves, evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from adapt.report_chart import Line, chart, compact, legend, look, number, percent
from adapt.report_page import Html, Section, charts, note, table, tiles, yes_no
from hardware_io.config import ConfigError
from sim.dynamics import DynamicsRange
from sim.robots import load_robot

REFERENCES = ("domain_randomised", "oracle")  # learners that do not adapt
STAGES = {"train": "meta-training", "export": "export", "robot": "on the robot", "lockstep": "lockstep"}


def demo_section(demo: Mapping[str, Any]) -> Section:
    """Did it adapt: verdict, rollouts beside baseline and oracle, timing, hidden parameters."""
    rollouts: dict[str, list[dict[str, Any]]] = demo.get("rollouts", {})
    adapting = [name for name in rollouts if name not in REFERENCES and rollouts[name]]
    body = []
    if adapting:
        body.append(_verdict(rollouts[adapting[0]], demo.get("gate") or {}))
    body.append(tiles(_facts(demo, rollouts[adapting[0]] if adapting else [])))
    if rollouts:
        body.append(f"<h3>On one robot</h3>{_rollout_table(rollouts)}")
    if demo.get("stops"):
        body.append("".join(note(f"stopped by the loop's watchdogs and begun again: {stop}") for stop in demo["stops"]))
    many = demo.get("lockstep")
    if many:
        body.append(f"<h3>On {number(many['robots'], 0)} more hidden robots, after 0, 1, … rollouts</h3>")
        body.append(_against_rollouts(many["rollouts"], many["learners"], ""))
    if demo.get("hidden"):
        body.append("<h3>What nobody told the policy</h3>")
        body.append(_hidden_table(str(demo.get("robot", "")), demo["hidden"]))
    if demo.get("seconds"):
        took = ", ".join(f"{STAGES.get(name, name)} {number(s, 0)} s" for name, s in demo["seconds"].items())
        body.append(f'<p class="soft">Time taken: {escape(took)}.</p>')
    return Section("Did it adapt?", "".join(body))


def _verdict(rollouts: Sequence[Mapping[str, Any]], gate: Mapping[str, Any]) -> str:
    before, after, taught = rollouts[0], rollouts[-1], len(rollouts) - 1
    change = f"return {number(before.get('return'))} → {number(after.get('return'))}"
    count = f"{taught} rollout{'s' if taught != 1 else ''}"
    if gate and not gate.get("accepted"):
        good, text = False, f"Rolled back: the gate kept the un-adapted policy. {gate.get('reason', '')}"
    elif after.get("success") and not before.get("success"):
        good, text = True, f"Yes: it failed before adaptation and succeeds after {count}; {change}."
    elif after.get("success"):
        good, text = True, f"It succeeded from the first rollout on, and does after {count}; {change}."
    elif before.get("success"):
        good, text = False, f"No: it succeeded before adaptation and fails after {count}; {change}."
    else:
        good, text = False, f"No: it fails before adaptation and after {count}; {change}."
    return f'<p class="verdict {"good" if good else "bad"}">{escape(text)}</p>'


def _facts(demo: Mapping[str, Any], rollouts: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The large numbers under the verdict."""
    facts = []
    if rollouts:
        first, last = (number(rollouts[k].get("return")) for k in (0, -1))
        facts.append((f"{first} → {last}", "return, before → after"))
    many = demo.get("lockstep") or {}
    for name, values in (many.get("learners") or {}).items():
        if name not in REFERENCES:
            first, last = (number(100 * values["success"][k][0], 0) for k in (0, -1))
            facts.append((f"{first} → {last} %", f"success on {number(many.get('robots'), 0)} hidden robots"))
    latency, late = demo.get("latency_us"), demo.get("lateness_us")
    if latency:
        facts.append((f"{number(latency.get('p50'), 0)} µs", f"inference; p99 {number(latency.get('p99'), 0)} µs"))
    if late:
        tail = f"p99 {number(late.get('p99'), 0)}, max {number(late.get('max'), 0)} µs"
        facts.append((f"{number(late.get('p50'), 0)} µs", f"ticks late; {tail}"))
    if "missed" in demo:
        facts.append((f"{number(demo['missed'], 0)} of {number(demo.get('ticks'), 0)}", "ticks missed"))
    return facts


def _rollout_table(rollouts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A row a learner, a column a rollout."""
    ordered = sorted(rollouts, key=lambda name: (name in REFERENCES, name))
    most = max(len(rows) for rows in rollouts.values())
    rows: list[list[str | Html]] = []
    for name in ordered:
        cells: list[str | Html] = []
        for one in rollouts[name]:
            mark = yes_no(one.get("success"))
            outcome = str(one.get("outcome", "done"))
            ended = "" if outcome == "done" else f" ({escape(outcome)})"
            cells.append(Html(f'{number(one.get("return"))} <span class="{mark.style}">{mark.text[0]}</span>{ended}'))
        rows.append([look(name, rollouts)[1], *cells, *[""] * (most - len(cells))])
    header = ["return, ✓ success", *(f"rollout {k}" for k in range(most))]
    if most > 1:
        header[1], header[-1] = "before: rollout 0", f"after: rollout {most - 1}"
    return table(header, rows)


def _against_rollouts(seen: Sequence[float], learners: Mapping[str, Mapping[str, Any]], where: str) -> str:
    """Success and return of every learner against rollouts seen, with intervals, as charts and a table."""
    figures = []
    for measure, style, limits in (("success", percent, (-0.02, 1.04)), ("return", compact, None)):
        lines = []
        for name, values in learners.items():
            rows = np.array(values[measure], np.float64).reshape(-1, 3)
            colour, label = look(name, learners)
            lines.append(Line(label, seen[: len(rows)], rows[:, 0], colour, rows[:, 1], rows[:, 2], marks=True))
        title = f"{measure.capitalize()}{where}"
        figures.append(chart(title, "rollouts seen before", "", lines, y_range=limits, y_format=style, x_ticks=seen))
    entries = [(look(name, learners)[1], look(name, learners)[0], False) for name in learners]
    header = ["success, mean [95 % interval]", *(f"after {compact(k)}" for k in seen)]
    body = [[look(name, learners)[1], *map(_share, values["success"])] for name, values in learners.items()]
    return legend(entries) + charts(figures) + table(header, body)


def _share(interval: Sequence[float]) -> str:
    mean, low, high = (number(100 * v, 0) for v in interval)
    return f"{mean} % [{low}, {high}]"


def _hidden_table(robot: str, hidden: Mapping[str, Any]) -> str:
    """Each hidden parameter and where it lies in the range of training, if the robot is one that ships."""
    try:
        ranges = DynamicsRange.of(load_robot(robot)).parameters
    except ConfigError:
        ranges = {}
    rows: list[list[str | Html]] = []
    for name, text in hidden.items():
        value, known = parameter_value(text), ranges.get(name)
        cells: list[str | Html] = [name.replace("_", " "), str(text).removesuffix(" 1")]
        if known is not None and math.isfinite(value):
            low, high = known.test
            width = (high - low) or 1.0
            left, right, here = ((v - low) / width * 100 for v in (*known.train, value))
            here = min(max(here, 0.0), 100.0)
            bar = f'<i style="left:{left:.1f}%;width:{right - left:.1f}%"></i><b style="left:{here:.1f}%"></b>'
            cells += [Html(f'<span class="range">{bar}</span>'), f"{known.train[0]:g} to {known.train[1]:g}"]
        else:
            cells += ["", ""]
        rows.append(cells)
    return table(["parameter", "value", "within the test range", "training range"], rows)


def parameter_value(text: object) -> float:
    """The number at the start of `1.46 N·m`; NaN where there is none."""
    try:
        return float(str(text).split()[0])
    except (ValueError, IndexError):
        return math.nan


def training_section(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Section:
    """Return and success against policy steps of one or more trainings, each a list of metrics."""
    curves, before_after = [], []
    for name, rows in runs.items():
        colour, label = look(name, runs)
        curves.append(Line(label, _column(rows, "steps"), _column(rows, "return"), colour))
        checked = [row for row in rows if "success_after" in row]
        steps = _column(checked, "steps")
        for key in ("before", "after"):
            share = _column(checked, f"success_{key}")
            before_after.append(Line(f"{label}, {key}", steps, share, colour, dashed=key == "before", marks=True))
    figures = [
        chart("Return while training", "policy steps", "mean of the iteration", curves),
        chart("Success on robots held out", "policy steps", "dashed: before, solid: after", before_after,
              y_range=(-0.02, 1.04), y_format=percent),
    ]  # fmt: skip
    names = legend((look(name, runs)[1], look(name, runs)[0], False) for name in runs)
    header = ["training", "iterations", "policy steps", "minutes", "steps/s", "return"]
    numbers = table(
        [*header, "success before", "success after"],
        [_training_row(name, metrics, runs) for name, metrics in runs.items()],
    )
    return Section("Training", ("" if len(runs) == 1 else names) + charts(figures) + numbers)


def _training_row(name: str, rows: Sequence[Mapping[str, Any]], runs: Mapping[str, Any]) -> list[str | Html]:
    last: dict[str, Any] = {}
    for row in rows:
        last.update(row)
    speeds = _column(rows, "steps_per_second")
    speed = float(np.median(speeds[np.isfinite(speeds)])) if np.isfinite(speeds).any() else math.nan

    def share(key: str) -> str:
        value = _number(last.get(key))
        return f"{number(100 * value, 0)} %" if math.isfinite(value) else "–"

    return [
        look(name, runs)[1],
        number(last.get("iteration"), 0),
        number(last.get("steps"), 0),
        number(_number(last.get("seconds")) / 60),
        number(speed, 0),
        number(last.get("return")),
        share("success_before"),
        share("success_after"),
    ]


def evaluation_section(name: str, result: Mapping[str, Any]) -> Section:
    """Return and success against rollouts on robots never seen, inside and outside the training range."""
    task = result.get("task") or {}
    task_name = task.get("name", "") if isinstance(task, Mapping) else task
    body = [
        f'<p class="soft">{escape(str(result.get("robot", "")))}, {escape(str(task_name))}:'
        f" {number(result.get('robots'), 0)} robots never seen; shaded: bootstrapped 95 % interval.</p>"
    ]
    for split, summary in result["splits"].items():
        where = {"train": "inside the training range", "outside": "outside the training range"}.get(split, split)
        body.append(f"<h3>{escape(where.capitalize())}</h3>")
        body.append(_against_rollouts(result["rollouts"], summary["learners"], ""))
        gaps = summary.get("gap_closed") or {}
        if gaps:
            header = ["gap closed, baseline to oracle", *(f"after {compact(k)}" for k in result["rollouts"])]
            body.append(table(header, [[look(n, gaps)[1], *map(_share, shares)] for n, shares in gaps.items()]))
    return Section(f"Evaluation: {look(name, [])[1]}" if name else "Evaluation", "".join(body))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([_number(row.get(name)) for row in rows], np.float64)
