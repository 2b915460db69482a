"""Identification: from a few seconds of a real robot's motion to a calibration of its simulation.

Physical and motor parameters are fitted so that what is simulated from measured torque matches what was measured, over
windows of half a second, from many starts. What the data does not tell keeps its prior, and is named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.calibration import Calibration, Source, calibration_of
from adapt.identify_report import write_identification
from adapt.posterior import Posterior, Step, fit
from adapt.robot_model import RobotModel
from adapt.windows import Batch, Window, thinned, windows_of
from hardware_io.config import ConfigError
from hardware_io.motion_log import MotionLog, read_columns, read_logs
from sim.robots import load_robot

NOISE = 0.03  # rad, set by hand, see docs/decisions.md
SPACING = 0.004  # s between rows and steps of a fit


def identify(
    model: RobotModel, logs: Sequence[MotionLog], noise: float = NOISE, quiet: bool = True
) -> tuple[Calibration, Posterior, Batch]:
    """A calibration, how it was found, and the windows it was found on. Raises ConfigError when nothing moves."""
    found = windows_of(logs)
    batch = Batch([thinned(window, SPACING) for window in found], SPACING)

    def residuals(values: np.ndarray) -> np.ndarray:
        return batch.residuals(model.predict(values, batch))

    posterior = fit(residuals, model.mean, model.sd, model.low, noise, _ignore if quiet else _show)
    whole = Batch(found)
    before, after = (
        float(np.median(whole.errors(model.predict(values[None], whole)))) for values in (model.mean, posterior.mean)
    )
    return calibration_of(model, posterior, _sources(logs, found), noise, (before, after)), posterior, whole


def main(argv: list[str]) -> int:
    """`acclimate identify ROBOT --logs FILE… --out calibration.yaml`."""
    parser = argparse.ArgumentParser(prog="acclimate identify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("robot", metavar="ROBOT", help="a shipped robot or a YAML file; its joints in one plane")
    parser.add_argument("--logs", metavar="FILE", nargs="+", required=True, help="CSV, CSV.gz, MCAP; several are one")
    parser.add_argument("--out", metavar="FILE.yaml", default="calibration.yaml", help="(calibration.yaml)")
    parser.add_argument("--columns", metavar="FILE.yaml", help="which column is what, where names differ")
    parser.add_argument("--torque", metavar="NAME", default="", help="columns of the torque that acted (tau_meas)")
    parser.add_argument("--noise", metavar="RAD", type=float, default=NOISE, help=f"own error of the model ({NOISE})")
    parser.add_argument("--report", metavar="FILE.html", help="default: beside the calibration")
    options = parser.parse_args(argv)
    if not options.noise > 0:
        raise ConfigError("command line", "--noise", options.noise, "more than 0 rad")
    spec = load_robot(options.robot)
    model = RobotModel(spec)
    columns = read_columns(options.columns) if options.columns else None
    readings = read_logs(options.logs, spec, columns, options.torque)
    for text in readings.notes:
        print(f"warning: {text}", file=sys.stderr)
    calibration, posterior, batch = identify(model, readings.logs, options.noise, quiet=False)
    calibration.write(options.out)
    _tell(calibration)
    report = Path(options.report) if options.report else Path(options.out).with_suffix(".html")
    write_identification(report, model, calibration, posterior, batch, readings.notes)
    print(f"{options.out}\n{report}")
    return 0


def _sources(logs: Sequence[MotionLog], found: Sequence[Window]) -> list[Source]:
    names = dict.fromkeys(log.source for log in logs)
    return [
        Source(
            file=Path(name).name,
            seconds=round(sum(log.seconds for log in logs if log.source == name), 3),
            windows=sum(window.source == name for window in found),
        )
        for name in names
    ]


def _ignore(step: Step) -> None:
    pass


def _show(step: Step) -> None:
    print(f"iteration {step.iteration:2d}  cost {step.cost:9.2f}  median error {step.error:.4f} rad", flush=True)


def _tell(calibration: Calibration) -> None:
    """The posterior as a table, and what the data did not tell."""
    width = max(map(len, calibration.parameters))
    print(f"\n{'parameter':<{width}}  {'before':>20}  {'after':>20}")
    for name, p in calibration.parameters.items():
        before, after = f"{p.prior_mean:.4g} ± {p.prior_sd:.2g}", f"{p.mean:.4g} ± {p.sd:.2g}"
        print(f"{name:<{width}}  {before:>20}  {after:>20} {p.unit}{'' if p.told else '  not told'}")
    untold = [name for name, p in calibration.parameters.items() if not p.told]
    if untold:
        print(f"too little in these logs to tell, ranges stay as wide as they were: {', '.join(untold)}")
    print(f"median error over half a second: {calibration.error_before:.4f} → {calibration.error:.4f} rad")
