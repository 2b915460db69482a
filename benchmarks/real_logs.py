"""How well calibrations foresee real logs of the double pendulum, beside the model that its own lab identified.

    python -m benchmarks.real_logs LOG_DIR      (or ACCLIMATE_REAL_LOGS)

LOG_DIR holds `double_pendulum/` with a folder a group; `score_logs.py` beside it defines the protocol and the lab's
model. Each figure is the median error of a group's windows over that of the lab's model on the same windows:
`excitation` after one excitation run of 10 s, `one more` after it and one rollout of the group; what was fitted is not
scored. Every excitation run takes its turn: geometric mean over them, and the worst.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from adapt.identify import identify
from adapt.predict import errors
from adapt.robot_model import RobotModel
from adapt.windows import Batch, Window, windows_of
from benchmarks.overlay import Overlay, typical
from hardware_io.config import ConfigError, write_atomically
from hardware_io.motion_log import MotionLog, read_logs
from hardware_io.state import Array
from sim.robots import load_robot

ROBOT, EXCITATION, MODEL = "double_pendulum/pendubot", "excitation", "model_1.0"
COLUMNS = ("excitation", "one more")


def main(argv: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.real_logs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("logs", metavar="LOG_DIR", nargs="?", default=os.environ.get("ACCLIMATE_REAL_LOGS", ""))
    parser.add_argument("--runs", metavar="N", type=int, default=None, help="only so many excitation runs (all)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    result, _ = measure(Path(options.logs or "."), options.runs)
    print(f"{'group':<20} {'windows':>8} {MODEL:>10}" + "".join(f"{name:>12} {'worst':>6}" for name in COLUMNS))
    for group, row in result["groups"].items():
        print(f"{group:<20} {row['windows']:>8} {row['reference']:>10.4f}" + _cells(row))
    print(f"{'geometric mean':<40}" + _cells(result["mean"]))
    if options.json:
        write_atomically(options.json, json.dumps(result, indent=1))
    return 0


def measure(root: Path, runs: int | None = None) -> tuple[dict[str, Any], list[Overlay]]:
    """Figures by group, each one ratio a run, and a window of each group. Raises ConfigError without enough logs."""
    folder, scorer = root / "double_pendulum", reference(root)
    model = RobotModel(load_robot(ROBOT))
    groups: dict[str, list[Rollout]] = {}
    for path in sorted(folder.rglob("*.csv.gz")):
        group = str(path.parent.relative_to(folder))
        groups.setdefault(group, []).append(Rollout.of(list(read_logs([path], model.spec).logs), scorer))
    for group in (EXCITATION, *groups):
        least, found = 3 if group == EXCITATION else 2, len(groups.get(group, ()))
        if found < least:
            allowed = f"at least {least} logs: what is fitted is not scored"
            raise ConfigError(str(folder), group, f"{found} *.csv.gz", allowed)
    rows: dict[str, dict[str, Any]] = {
        group: {
            "windows": sum(len(r.batch.windows) for r in rollouts),
            "reference": float(np.median(np.concatenate([r.lab for r in rollouts]))),
            **{c: [] for c in COLUMNS},
        }
        for group, rollouts in groups.items()
    }
    overlays = []
    for first in groups[EXCITATION][:runs]:
        base = identify(model, first.logs)[0]
        for group, rollouts in groups.items():
            rest = [r for r in rollouts if r is not first]
            added = identify(model, rest[0].logs, earlier=base)[0]
            rows[group]["excitation"].append(_ratio(model, base.values, rest))
            rows[group]["one more"].append(_ratio(model, added.values, rest[1:]))
            if first is groups[EXCITATION][0]:
                by = {"as shipped": model.mean, "calibrated": base.values, "and one rollout": added.values}
                overlays.append(typical(model, group, [w for r in rest[1:] for w in r.batch.windows], by))
            print(group, *(f"{c} {rows[group][c][-1]:.2f}" for c in COLUMNS), file=sys.stderr, flush=True)
    mean = {c: [geometric(found) for found in zip(*(row[c] for row in rows.values()), strict=True)] for c in COLUMNS}
    return {"groups": rows, "mean": mean}, overlays


@dataclass(frozen=True)
class Rollout:
    """One file, its windows, and the lab's errors there."""

    logs: list[MotionLog]
    batch: Batch
    lab: Array  # (W,) rad

    @staticmethod
    def of(logs: list[MotionLog], scorer: ModuleType) -> Rollout:
        batch = Batch(windows_of(logs))
        return Rollout(logs, batch, lab_errors(scorer, batch.windows))


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


def _ratio(model: RobotModel, values: Array, rollouts: Sequence[Rollout]) -> float:
    ours = np.concatenate([errors(model, values, r.batch) for r in rollouts])
    return float(np.median(ours) / np.median(np.concatenate([r.lab for r in rollouts])))


def geometric(ratios: Sequence[float]) -> float:
    """Their geometric mean."""
    return float(np.exp(np.mean(np.log(ratios))))


def _cells(row: dict[str, Any]) -> str:
    return "".join(f"{geometric(row[c]):>12.2f} {max(row[c]):>6.2f}" for c in COLUMNS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
