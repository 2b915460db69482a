"""How well calibrations foresee real logs of the double pendulum, beside the model that its own lab identified.

    python -m benchmarks.real_logs LOG_DIR      (or ACCLIMATE_REAL_LOGS)

LOG_DIR holds `double_pendulum/` with a folder a group; `score_logs.py` beside it defines the protocol and the lab's
model. Each figure is the median error of a group's windows over that of the lab's model on the same windows:
`excitation` after one excitation run of 10 s, which is not scored; `one more` after it and the first run of the group,
neither of which is scored; `no start` is the first without moving the start velocity on by its age.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from adapt.identify import identify
from adapt.predict import errors
from adapt.robot_model import RobotModel
from adapt.windows import Batch, Window, windows
from hardware_io.config import ConfigError, write_atomically
from hardware_io.motion_log import MotionLog, read_logs
from hardware_io.state import Array
from sim.robots import load_robot

ROBOT, EXCITATION, MODEL = "double_pendulum/pendubot", "excitation", "model_1.0"
COLUMNS = ("excitation", "one more", "no start")


def main(argv: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.real_logs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("logs", metavar="LOG_DIR", nargs="?", default=os.environ.get("ACCLIMATE_REAL_LOGS", ""))
    parser.add_argument("--run", type=int, default=0, help="which excitation run is fitted, from 0")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    result = measure(Path(options.logs or "."), options.run)
    print(f"{'group':<20} {'windows':>8} {MODEL:>10}" + "".join(f"{name:>12}" for name in COLUMNS))
    for group, row in result["groups"].items():
        print(
            f"{group:<20} {row['windows']:>8} {row['reference']:>10.4f}" + "".join(f"{row[c]:>12.2f}" for c in COLUMNS)
        )
    print(f"{'geometric mean':<40}" + "".join(f"{result['mean'][c]:>12.2f}" for c in COLUMNS))
    if options.json:
        write_atomically(options.json, json.dumps(result, indent=1))
    return 0


def measure(root: Path, run: int = 0) -> dict[str, Any]:
    """Figures by group. Raises ConfigError for a folder without logs."""
    folder, scorer = root / "double_pendulum", reference(root)
    model = RobotModel(load_robot(ROBOT))
    groups: dict[str, list[list[MotionLog]]] = {}
    for path in sorted(folder.rglob("*.csv.gz")):
        groups.setdefault(str(path.parent.relative_to(folder)), []).append(list(read_logs([path], model.spec).logs))
    if EXCITATION not in groups:
        raise ConfigError(str(folder), EXCITATION, sorted(groups), "a folder of logs")
    first = groups[EXCITATION].pop(run)
    base = identify(model, first)[0].values
    still = base.copy()
    still[model.names.index("start_age")] = 0.0
    rows = {}
    for group, logs in groups.items():
        found = Batch([window for log in logs for piece in log for window in windows(piece)])
        lab = lab_errors(scorer, found.windows)
        added = identify(model, [*first, *logs[0]])[0].values
        rest = Batch([window for log in logs[1:] for piece in log for window in windows(piece)])
        rows[group] = {
            "windows": len(found.windows),
            "reference": float(np.median(lab)),
            "excitation": _ratio(errors(model, base, found), lab),
            "no start": _ratio(errors(model, still, found), lab),
            "one more": _ratio(errors(model, added, rest), lab[-len(rest.windows) :]),
        }
        print(group, {k: round(v, 3) for k, v in rows[group].items()}, file=sys.stderr, flush=True)
    mean = {c: float(np.exp(np.mean([np.log(row[c]) for row in rows.values()]))) for c in COLUMNS}
    return {"fitted": f"{EXCITATION}, run {run}", "groups": rows, "mean": mean}


def reference(root: Path) -> ModuleType:
    """The published scorer beside the logs. Raises ConfigError when it is not there."""
    path = root.parent / "score_logs.py"
    spec = importlib.util.spec_from_file_location("score_logs", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(str(path), "", "not there", "the scorer beside the folder of logs")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lab_errors(scorer: ModuleType, found: Sequence[Window]) -> Array:
    """Errors of the lab's model, (W,) rad."""
    simulate = scorer.rigid(scorer.MODELS[MODEL])
    return np.array([scorer.score(vars(window), simulate) for window in found])


def _ratio(ours: Array, theirs: Array) -> float:
    return float(np.median(ours) / np.median(theirs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
