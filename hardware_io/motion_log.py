"""Motion that somebody recorded, from CSV (also .gz) or from a recording of ours: time, positions, speeds, torques.

A row that cannot be used, or a clock that goes back, splits a log: what lies on both sides is kept, and a note says
what was left out. Which column holds what follows from its name or from a YAML file:

    time: t
    position: [angle_a, angle_b]     # rad, one a joint of the robot, in its order
    velocity: [speed_a, speed_b]     # rad/s, where there is one
    torque: [current_a, current_b]   # N·m, measured
    command: [wanted_a, wanted_b]    # N·m, where there is one

`T` rows, `J` joints.
"""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError, build, read_yaml
from hardware_io.recording import read_recording
from hardware_io.spec import RobotSpec
from hardware_io.state import Array

KNOWN = {  # what a column holds → names that it goes by; {} stands for the joint, from 1, or for nothing with one joint
    "position": ("pos_meas{}", "position{}", "pos{}", "q{}"),
    "velocity": ("vel_filt{}", "vel_meas{}", "velocity{}", "vel{}"),
    "torque": ("tau_meas{}", "torque{}", "tau{}"),
    "command": ("tau_con{}", "command{}"),
}
REQUIRED = ("position", "torque")
BEYOND = 4.0  # times the limits of a joint: no robot gets there, but degrees do
LEAST_ROWS = 20


@dataclass(frozen=True)
class Columns:
    """Names of a log's columns; empty means those that are known."""

    time: str = "time"
    position: tuple[str, ...] = ()
    velocity: tuple[str, ...] = ()
    torque: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class MotionLog:
    """An unbroken stretch of one log."""

    source: str
    time: Array  # (T,) s
    position: Array  # (T, J) rad
    velocity: Array  # (T, J) rad/s
    torque: Array  # (T, J) N·m
    command: Array | None  # (T, J) N·m

    @property
    def seconds(self) -> float:
        return float(self.time[-1] - self.time[0])


@dataclass(frozen=True)
class Readings:
    """What logs hold, and what was wrong with them."""

    logs: tuple[MotionLog, ...]
    notes: tuple[str, ...]


def read_columns(path: str | Path) -> Columns:
    """The column mapping in a YAML file. Raises ConfigError."""
    return build(Columns, read_yaml(path), str(path))


def read_logs(
    paths: Sequence[str | Path], spec: RobotSpec, columns: Columns | None = None, torque: str = ""
) -> Readings:
    """Several logs of one robot. `torque`: the name, less the joint's number, of the columns that drove it.

    Raises ConfigError that names the file, the column and what is there, RecordingError.
    """
    logs: list[MotionLog] = []
    notes: list[str] = []
    for path in paths:
        chosen = columns or Columns()
        if torque:
            chosen = replace(chosen, torque=tuple(f"{torque}{n}" for n in _numbers(len(spec.joints))))
        read = _read_mcap if str(path).endswith(".mcap") else _read_csv
        table, names = read(Path(path), spec, chosen, notes)
        pieces = _unbroken(str(path), table, names, len(spec.joints), notes)
        for piece in pieces:
            notes += _units(piece, spec)
        logs += pieces
    return Readings(tuple(logs), tuple(dict.fromkeys(notes)))


def _numbers(joints: int) -> list[str]:
    """How joints are numbered in column names: not at all when there is one."""
    return [""] if joints == 1 else [str(j + 1) for j in range(joints)]


def _read_csv(path: Path, spec: RobotSpec, columns: Columns, notes: list[str]) -> tuple[Array, dict[str, list[int]]]:
    header, *rows = _lines(path, notes)
    names, wanted = [word.strip() for word in header], _wanted(str(path), header, len(spec.joints), columns)
    where = {kind: [names.index(name) for name in found] for kind, found in wanted.items()}
    flat = [index for found in where.values() for index in found]
    table = np.array([[_number(row, index) for index in flat] for row in rows]).reshape(len(rows), len(flat))
    place = iter(range(len(flat)))
    return table, {kind: [next(place) for _ in found] for kind, found in where.items()}


def _lines(path: Path, notes: list[str]) -> list[list[str]]:
    """Header and rows, as far as the file can be read."""
    lines: list[str] = []
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            for line in file:
                lines.append(line.decode("utf-8-sig", errors="replace"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), "", error.strerror, "a log: CSV, CSV in gzip, or MCAP") from error
    except (EOFError, OSError, ValueError) as error:  # what came before the cut is whole
        if len(lines) < LEAST_ROWS:
            raise ConfigError(str(path), "", str(error), "a file that can be read") from error
        notes.append(f"{path}: cut after {len(lines) - 1} rows ({error}); what came before is used")
        lines.pop()
    rows = [row for row in csv.reader(lines) if row]
    if len(rows) <= 1:
        raise ConfigError(str(path), "", "no rows", "a header and a row an instant")
    return rows


def _wanted(source: str, header: Sequence[str], joints: int, columns: Columns) -> dict[str, list[str]]:
    """Kind → the columns that hold it. Raises ConfigError naming the column and those there are."""
    names = {word.strip() for word in header}
    allowed = f"one of {', '.join(sorted(names))}; another name goes into a mapping (--columns)"
    found = {"time": [columns.time]}
    for kind, patterns in KNOWN.items():
        given: tuple[str, ...] = getattr(columns, kind)
        if given and len(given) != joints:
            raise ConfigError(source, kind, list(given), f"{joints} columns, one a joint")
        candidates = [list(given)] if given else [[p.format(n) for n in _numbers(joints)] for p in patterns]
        present = [names_of for names_of in candidates if names.issuperset(names_of)]
        if present:
            found[kind] = present[0]
        elif given or kind in REQUIRED:
            missing = ", ".join(name for name in candidates[0] if name not in names)
            raise ConfigError(source, f"column {kind}", f"none called {missing}", allowed)
    if columns.time not in names:
        raise ConfigError(source, "column time", f"none called {columns.time}", allowed)
    return found


def _number(row: Sequence[str], index: int) -> float:
    try:
        return float(row[index])
    except (IndexError, ValueError):
        return np.nan


def _read_mcap(path: Path, spec: RobotSpec, columns: Columns, notes: list[str]) -> tuple[Array, dict[str, list[int]]]:
    """The states of a recording, tick by tick."""
    recording = read_recording(path)
    notes += recording.problems[:3]
    joints = len(spec.joints)
    time = recording.column("/state", "time")
    values = [recording.column("/state", name) for name in ("position", "velocity", "torque")]
    if not len(time) or any(value.shape != (len(time), joints) for value in values):
        shape = [value.shape for value in values]
        raise ConfigError(str(path), "/state", shape, f"states of {joints} joints ({', '.join(spec.joints)})")
    kinds = ("position", "velocity", "torque")
    where = {kind: list(range(1 + k * joints, 1 + (k + 1) * joints)) for k, kind in enumerate(kinds)}
    return np.column_stack([time, *values]), {"time": [0], **where}


def _unbroken(source: str, table: Array, where: dict[str, list[int]], joints: int, notes: list[str]) -> list[MotionLog]:
    """The stretches between bad rows and jumps of the clock."""
    bad = ~np.isfinite(table).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0]) + 1
        notes.append(f"{source}: {bad.sum()} rows left out that hold no number or NaN, the first is row {row}")
    time = table[:, where["time"][0]]
    back = np.zeros(len(table), bool)
    back[1:] = time[1:] < time[:-1]
    if back.any():
        row = int(np.flatnonzero(back)[0]) + 1
        notes.append(f"{source}: time runs backwards {back.sum()} times, first at row {row}: split there")
    group = np.cumsum(bad | back)
    logs = []
    for _, rows in itertools.groupby(np.flatnonzero(~bad), key=lambda row: group[row]):
        piece = table[list(rows)]
        if len(piece) < LEAST_ROWS:
            continue
        parts = {kind: piece[:, index] for kind, index in where.items()}
        velocity = parts.get("velocity")
        if velocity is None:
            velocity = _slopes(parts["time"][:, 0], parts["position"])
        logs.append(
            MotionLog(source, parts["time"][:, 0], parts["position"], velocity, parts["torque"], parts.get("command"))
        )
    if not logs:
        raise ConfigError(source, "rows", int((~bad).sum()), f"at least {LEAST_ROWS} good rows in a row")
    return logs


def _slopes(time: Array, position: Array) -> Array:
    """Backward differences (T, J), for a log without speeds."""
    step = np.maximum(np.diff(time), 1e-6)[:, None]
    return np.concatenate([np.zeros((1, position.shape[1])), np.diff(position, axis=0) / step])


def _units(log: MotionLog, spec: RobotSpec) -> list[str]:
    """Numbers that no robot of this kind reaches in radians."""
    notes = []
    reach = np.abs(spec.position_limits).max(axis=1)
    for what, values, limit, unit in (
        ("position", log.position, reach, "rad"),
        ("velocity", log.velocity, spec.joint_values("velocity_limit"), "rad/s"),
    ):
        most = np.abs(values).max(axis=0)
        for joint, name in enumerate(spec.joints):
            if most[joint] > BEYOND * limit[joint]:
                notes.append(
                    f"{log.source}: {what} of {name} reaches {most[joint]:.4g} {unit}, "
                    f"{most[joint] / limit[joint]:.0f} times its limit: are these degrees?"
                )
    slope = _slope_ratio(log)
    for joint, name in enumerate(spec.joints):
        if not 0.25 < slope[joint] < 4:
            notes.append(
                f"{log.source}: position of {name} changes {slope[joint]:.3g} times as fast as its velocity says: "
                f"one of them is not in rad, rad/s and s (degrees give 57.3)"
            )
    return notes


def _slope_ratio(log: MotionLog) -> NDArray[np.float64]:
    """Path of each position over what its velocity promises, (J,); 1 where a joint does not move."""
    step = np.diff(log.time)[:, None]
    moved = np.abs(np.diff(log.position, axis=0)).sum(axis=0)
    promised = np.abs(log.velocity[1:] * step).sum(axis=0)
    still = (moved < 1.0) & (promised < 1.0)
    return np.asarray(np.where(still, 1.0, moved / np.maximum(promised, 1e-9)))
