"""How well calibrations foresee real logs of the simple pendulum, and what one log says of a heavier weight.

Each light log is foreseen by a calibration on the other light ones. The heavy log is foreseen by a calibration on all
light ones, and by what its own first seconds make of that when only the payload is said to have changed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adapt.identify import identify
from adapt.predict import errors
from adapt.robot_model import RobotModel
from adapt.windows import Batch, windows_of
from benchmarks.overlay import Overlay, typical
from hardware_io.config import ConfigError
from hardware_io.motion_log import MotionLog, read_logs
from hardware_io.state import Array
from sim.model import RigidModel
from sim.robots import load_robot

ROBOT, HEAVY = "simple_pendulum", "1kg"
HAND_MOVED = ("gravity_compensation",)  # torque 3.31 N·m · sin q throughout: what moves this arm is not in its log
CHANGED, GAIN = "payload", "torque_gain.shoulder"
TAUGHT = 10.0  # s of the heavy log that teach; the rest is scored
WEIGHTS = {"light": 0.57, "heavy": 1.0}  # kg, as published with the logs
SHIPPED, CALIBRATED, ADAPTED = "as shipped", "calibrated", "adapted"


def measure(root: Path) -> tuple[dict[str, Any], list[Overlay]]:
    """Median errors by log and the change of weight, with a window of each log. Raises ConfigError without logs."""
    folder, model = root / ROBOT, RobotModel(load_robot(ROBOT))
    logs = {path.name.split(".")[0]: list(read_logs([path], model.spec).logs) for path in folder.glob("*.csv.gz")}
    heavy = [name for name in logs if HEAVY in name]
    fitted = sorted(name for name in logs if name not in (*heavy, *HAND_MOVED))
    if len(heavy) != 1 or len(fitted) < 2:
        allowed = f"*.csv.gz: at least two logs of one weight, and one with {HEAVY} in its name"
        raise ConfigError(str(folder), "", sorted(logs), allowed)
    rows, overlays = [], []
    for name in sorted(set(logs) - set(heavy)):
        others = [other for other in fitted if other != name]
        base = identify(model, [log for other in others for log in logs[other]])[0]
        by = {SHIPPED: model.mean, CALIBRATED: base.values}
        rows.append(_row(model, name, others, logs[name], by))
        overlays.append(typical(model, name, windows_of(logs[name]), by))
    base = identify(model, [log for name in fitted for log in logs[name]])[0]
    first, rest = ([_part(log, *span) for log in logs[heavy[0]]] for span in ((0.0, TAUGHT), (TAUGHT, np.inf)))
    added = identify(model, first, earlier=base, changed=[CHANGED])[0]
    by = {SHIPPED: model.mean, CALIBRATED: base.values, ADAPTED: added.values}
    rows.append(_row(model, heavy[0], fitted, rest, by))
    overlays.append(typical(model, heavy[0], windows_of(rest), by))
    moment = {"light": moment_of_weight(model, base.values), "heavy": moment_of_weight(model, added.values)}
    return {"logs": rows, "taught": TAUGHT, "moment": moment, "weights": WEIGHTS}, overlays


def moment_of_weight(model: RobotModel, values: Array) -> float:
    """kg·m in units of measured torque: what is told of a weight by a motor whose gain is not known."""
    dynamics = model.ranges.nominal.copy()
    for index, name in enumerate(model.ranges.names):
        if name in model.names:
            dynamics[index] = values[model.names.index(name)]
    bodies = RigidModel(model.spec).bodies(dynamics[None])
    arm = float(np.linalg.norm(bodies.centre[0, 0]))
    return float(bodies.mass[0, 0]) * arm / float(values[model.names.index(GAIN)])


def _row(
    model: RobotModel, name: str, made_from: list[str], logs: list[MotionLog], by: dict[str, Array]
) -> dict[str, Any]:
    batch = Batch(windows_of(logs))
    medians = {who: float(np.median(errors(model, values, batch))) for who, values in by.items()}
    return {"log": name, "made_from": made_from, "windows": len(batch.windows), **medians}


def _part(log: MotionLog, start: float, end: float) -> MotionLog:
    """From `start` to `end` s after its beginning."""
    passed = log.time - log.time[0]
    rows = (passed >= start) & (passed < end)
    return replace(
        log,
        time=log.time[rows],
        position=log.position[rows],
        velocity=log.velocity[rows],
        torque=log.torque[rows],
        command=None if log.command is None else log.command[rows],
    )
