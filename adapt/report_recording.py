"""The part of a report that a recording fills: what the robot did in its first and in its last rollout.

`T` policy steps, `O` observation, `A` action, `J` joints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from adapt.report_chart import AFTER, BEFORE, GOAL, Band, Line, chart, legend, look, number
from adapt.report_motion import animation, chain_of
from adapt.report_page import Html, Section, charts, note, table, yes_no
from adapt.scored import ADAPTED, UNADAPTED, scored
from hardware_io.config import ConfigError
from hardware_io.recording import Recording, Rollout, read_recording
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.tasks import Task, make_task
from sim.tasks.swing_up import SwingUp

SESSION = ".adapt"  # suffix of a folder of logs
MOST_NOTES = 5  # of the problems of one log


@dataclass(frozen=True)
class Log:
    """A recording, read for people: numbers that are not finite are gaps."""

    name: str
    spec: RobotSpec
    task: Task | None
    rollouts: list[Rollout]
    gate: dict[str, Any] | None
    notes: list[str]


def read_log(path: Path) -> Log:
    """Raises RecordingError, ConfigError when there is no robot in it."""
    recording = read_recording(path)
    spec, notes = recording.spec, list(recording.problems[:MOST_NOTES])
    if len(recording.problems) > MOST_NOTES:
        notes.append(f"{path}: and {len(recording.problems) - MOST_NOTES} more problems")
    settings = dict(recording.metadata.get("task") or {})
    task: Task | None = None
    if settings:
        try:
            task = make_task(str(settings.pop("name", "")), spec, **settings)
        except ConfigError as error:
            notes.append(f"not scored: {error}")
    gates = [m.values for m in recording.messages if m.values.get("event") == "gate"]
    return Log(_name_of(path), spec, task, _with_gaps(recording).rollouts(), gates[-1] if gates else None, notes)


def _name_of(path: Path) -> str:
    """That of the log, or of the session that it is a part of; its later parts are numbered."""
    if path.parent.suffix != SESSION or not path.stem.isdigit():
        return path.stem
    number = int(path.stem)
    return path.parent.stem if number == 1 else f"{path.parent.stem}, part {number}"


def _with_gaps(recording: Recording) -> Recording:
    """The same with NaN where the log has null: a plot shows a gap, an adaptation would refuse it."""

    def filled(value: Any) -> Any:
        return [math.nan if v is None else v for v in value] if isinstance(value, list) else value

    messages = [m._replace(values={k: filled(v) for k, v in m.values.items()}) for m in recording.messages]
    return replace(recording, messages=messages)


def recording_section(log: Log, hidden: dict[str, float]) -> Section:
    """Rollouts as a table, the animation, and the traces. `hidden` parameters, where known, tilt the drawn base."""
    body = [note(text) for text in log.notes]
    if not log.rollouts:
        return Section(_title(log), "".join([*body, note(f"{log.name}: no whole step of a rollout in this recording")]))
    shown = _shown(log.rollouts)
    goal = log.task.goal if isinstance(log.task, SwingUp) else None
    position = _values(log.spec, "joint_position")
    if position and list(position) == list(range(len(log.spec.joints))):
        moved = [
            (label, colour, r.observation[:, list(position.values())].astype(np.float64), _torque(log.spec, r))
            for label, colour, r in shown
        ]
        body.append(animation(log.spec, chain_of(log.spec, hidden), moved, goal))
    body.append(_explain(log, hidden, goal))
    entries = [(label, colour, False) for label, colour, _ in shown]
    body.append(legend(entries if goal is None else [*entries, ("goal", GOAL, True)]))
    body.append(charts(_traces(log, shown, goal)))
    body.append(f"<h3>Rollouts</h3>{_table(log)}")
    if log.gate is not None:
        verdict = "deployed" if log.gate.get("accepted") else "rolled back"
        body.append(f"<p>Gate: <b>{verdict}</b>. {escape(str(log.gate.get('reason', '')))}</p>")
    return Section(_title(log), "".join(body))


def _title(log: Log) -> str:
    return f"On the robot: {look(log.name, [])[1]}"


def _shown(rollouts: Sequence[Rollout]) -> list[tuple[str, str, Rollout]]:
    """Label, colour and rollout of the first and the last, but for those that were stopped and then repeated.

    Of the un-adapted and of the adapted policy, where a gate made both act.
    """
    *others, last = enumerate(rollouts)
    kept = [*(pair for pair in others if pair[1].outcome != "stop"), last]
    if len(kept) == 1:
        return [(f"rollout {last[0]}", AFTER, last[1])]
    first = next((pair for pair in kept if pair[1].role == UNADAPTED), kept[0])
    last = next((pair for pair in reversed(kept) if pair[1].role == ADAPTED), last)
    return [(f"before: rollout {first[0]}", BEFORE, first[1]), (f"after: rollout {last[0]}", AFTER, last[1])]


def _values(spec: RobotSpec, source: str) -> dict[int, int]:
    """Joint → where its value lies in the observation."""
    slices, joints = spec.channel_slices(), list(spec.joints)
    found: dict[int, int] = {}
    for channel in spec.channels:
        if channel.source == source:
            for k, name in enumerate(channel.joints or joints):
                found.setdefault(joints.index(name), slices[channel.name].start + k)
    return dict(sorted(found.items()))


def _torque(spec: RobotSpec, rollout: Rollout) -> Array | None:
    return rollout.sent.astype(np.float64) if spec.command == "torque" else None


def _explain(log: Log, hidden: dict[str, float], goal: Array | None) -> str:
    sentences = ["Purple arcs show the commanded torque."] if log.spec.command == "torque" else []
    sentences += ["The green ghost is the goal."] if goal is not None else []
    tilts = [n for n, p in log.spec.dynamics.items() if isinstance(p, dict) and p.get("apply") == "base_tilt"]
    sentences += [f"The base leans by {number(hidden[n], 3)} rad, which nobody told the policy."
                  for n in tilts if n in hidden]  # fmt: skip
    return f'<p class="soft">{escape(" ".join(sentences))}</p>'


def _traces(log: Log, shown: list[tuple[str, str, Rollout]], goal: Array | None) -> list[str]:
    """Position, velocity and command of each joint over time."""
    spec, names, figures = log.spec, list(log.spec.joints), []

    def time(count: int) -> Array:
        return np.arange(count, dtype=np.float64) * spec.period.policy

    def title(what: str, joint: int) -> str:
        return what if len(names) == 1 else f"{what}, {names[joint]}"

    for source, what, unit in (("joint_position", "Position", "rad"), ("joint_velocity", "Velocity", "rad/s")):
        for joint, column in _values(spec, source).items():
            lines = [Line(label, time(r.steps + 1), r.observation[:, column], c) for label, c, r in shown]
            bands = _goal_bands(log.task, goal, joint, lines) if source == "joint_position" else _slow(log.task)
            figures.append(chart(title(what, joint), "time, s", unit, lines, bands, timed=True))
    what, unit = ("Commanded torque", "N·m") if spec.command == "torque" else ("Commanded position", "rad")
    for k, joint in enumerate(spec.acting):
        held = [np.append(r.sent[:, k], r.sent[-1, k]) for _, _, r in shown]
        lines = [
            Line(label, time(len(sent)), sent, c, step=True) for (label, c, _), sent in zip(shown, held, strict=True)
        ]
        reach = 1.06 * float(spec.action_limit[k]) or 1.0
        figures.append(chart(title(what, joint), "time, s", unit, lines, y_range=(-reach, reach), timed=True))
    return figures


def _goal_bands(task: Task | None, goal: Array | None, joint: int, lines: list[Line]) -> list[Band]:
    """The goal with its tolerance while it must be held, at every turn that the traces come near."""
    if goal is None or not isinstance(task, SwingUp):
        return []
    values = np.concatenate([np.asarray(line.y, np.float64) for line in lines])
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    low, high = ((v - goal[joint]) / (2 * math.pi) for v in (values.min() - 0.5, values.max() + 0.5))
    turns = list(range(math.ceil(low), math.floor(high) + 1)) or [round((low + high) / 2)]
    p = task.parameters
    label = f"goal: within {p.position_tolerance:g} rad in the last {p.hold:g} s"
    return [Band(goal[joint] + 2 * math.pi * turn, p.position_tolerance, p.duration - p.hold, label) for turn in turns]


def _slow(task: Task | None) -> list[Band]:
    if not isinstance(task, SwingUp):
        return []
    p = task.parameters
    label = f"still: within {p.velocity_tolerance:g} rad/s in the last {p.hold:g} s"
    return [Band(0.0, p.velocity_tolerance, p.duration - p.hold, label)]


def _table(log: Log) -> str:
    """Every rollout: how it ended, what it was worth, and how the loop kept time."""
    header = ["rollout", "return", "success", "steps", "inference p50 / p99, µs"]
    header += ["late p99 / max, µs", "missed", "ended"]
    rows: list[list[str | Html]] = []
    for k, rollout in enumerate(log.rollouts):
        one = scored(log.task, rollout) if log.task is not None else None
        rows.append(
            [
                f"{k} {rollout.role}".strip(),
                number(one.value if one else None),
                yes_no(one.success) if one else "–",
                str(rollout.steps),
                _pair(rollout.latency, (50, 99)),
                _pair(rollout.late, (99, 100)),
                str(rollout.missed),
                Html(escape(f"{rollout.outcome}: {rollout.reason}" if rollout.reason else rollout.outcome), "text"),
            ]
        )
    return table(header, rows)


def _pair(seconds: Array, at: tuple[int, int]) -> str:
    values = seconds[np.isfinite(seconds)] * 1e6
    if not len(values):
        return "–"
    low, high = np.percentile(values, at)
    return f"{number(low, 0)} / {number(high, 0)}"
