"""How well a calibration foresees a log: median and 90th percentile of the open-loop position error over windows."""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from adapt.calibration import read_calibration
from adapt.robot_model import RobotModel
from adapt.windows import LENGTH, Batch, windows_of
from hardware_io.config import ConfigError
from hardware_io.motion_log import read_columns, read_logs
from hardware_io.state import Array
from sim.robots import load_robot


def errors(model: RobotModel, values: Array, batch: Batch) -> Array:
    """Error of each window, (W,) rad, under parameters (K,)."""
    return np.asarray(batch.errors(model.predict(values[None], batch))[0])


def main(argv: list[str]) -> int:
    """`acclimate predict ROBOT --calibration FILE --log FILE`."""
    parser = argparse.ArgumentParser(prog="acclimate predict", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("robot", metavar="ROBOT", help="a shipped robot or a YAML file")
    parser.add_argument(
        "--calibration", metavar="FILE.yaml", help="of `acclimate identify`; without: the robot as shipped"
    )
    parser.add_argument(
        "--log", metavar="FILE", nargs="+", required=True, help="CSV, CSV.gz or MCAP; several are one group"
    )
    parser.add_argument("--window", metavar="S", type=float, default=LENGTH, help=f"length of a prediction ({LENGTH})")
    parser.add_argument("--torque", metavar="NAME", default="", help="columns of the torque that acted (tau_meas)")
    parser.add_argument("--columns", metavar="FILE.yaml", help="which column is what, where names differ")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    options = parser.parse_args(argv)
    if not options.window > 0:
        raise ConfigError("command line", "--window", options.window, "more than 0 s")
    model = RobotModel(load_robot(options.robot))
    values = read_calibration(options.calibration, model).values if options.calibration else model.mean
    columns = read_columns(options.columns) if options.columns else None
    readings = read_logs(options.log, model.spec, columns, options.torque)
    for text in readings.notes:
        print(f"warning: {text}", file=sys.stderr)
    found = errors(model, values, Batch(windows_of(readings.logs, options.window)))
    median, high = (float(np.percentile(found, share)) for share in (50, 90))
    if options.json:
        print(json.dumps({"windows": len(found), "median": median, "p90": high, "unit": "rad"}))
    else:
        print(f"{len(found)} windows of {options.window:g} s: median {median:.4f} rad, 90th percentile {high:.4f} rad")
    return 0
