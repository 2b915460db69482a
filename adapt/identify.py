"""Identification: from a few seconds of a real robot's motion to a calibration of its simulation.

Physical and motor parameters are fitted so that what is simulated from measured torque matches what was measured, over
short windows, from many starts. What the data does not tell keeps its prior, and is named. A robot that was calibrated
before needs less: what was known then, widened by what changes from session to session, is the prior of the next fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.calibration import Calibration, Source, calibration_of, read_calibration, widened
from adapt.identify_report import write_identification
from adapt.posterior import Posterior, Step, fit
from adapt.robot_model import RobotModel
from adapt.windows import MIN_MOTION, Batch, Window, thinned, windows_of
from hardware_io.config import ConfigError
from hardware_io.motion_log import MotionLog, read_columns, read_logs
from sim.robots import load_robot

NOISE = 0.03  # rad, set by hand, see docs/decisions.md
SPACING = 0.004  # s between rows and steps of a fit
FIT_LENGTH = 0.8  # s, of the windows of a fit; longer than those of a score, they tell more of what acts slowly


def identify(
    model: RobotModel,
    logs: Sequence[MotionLog],
    noise: float = NOISE,
    quiet: bool = True,
    earlier: Calibration | None = None,
    changed: Sequence[str] = (),
) -> tuple[Calibration, Posterior, Batch]:
    """A calibration, how it was found, and the windows it is scored on. Raises ConfigError when nothing moves.

    `earlier`: of the same robot from other logs, which goes on from there; `changed`: what is another since then.
    """
    found = windows_of(logs)
    batch = Batch([thinned(window, SPACING) for window in windows_of(logs, FIT_LENGTH)], SPACING)
    prior = widened(model, earlier, changed) if earlier else model.prior

    def residuals(values: np.ndarray) -> np.ndarray:
        return batch.residuals(model.predict(values, batch))

    posterior = fit(residuals, prior, noise, _ignore if quiet else _show)
    whole = Batch(found)
    before, after = (
        float(np.median(whole.errors(model.predict(values[None], whole)))) for values in (model.mean, posterior.mean)
    )
    sources = [*(earlier.made_from if earlier else ()), *_sources(logs, found)]
    return calibration_of(model, posterior, sources, noise, (before, after)), posterior, whole


def main(argv: list[str]) -> int:
    """`acclimate identify ROBOT --logs FILE… --out calibration.yaml`."""
    parser = argparse.ArgumentParser(prog="acclimate identify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("robot", metavar="ROBOT", help="a shipped robot or a YAML file; its joints in one plane")
    parser.add_argument("--logs", metavar="FILE", nargs="+", required=True, help="CSV, CSV.gz, MCAP; several are one")
    parser.add_argument("--out", metavar="FILE.yaml", default="calibration.yaml", help="(calibration.yaml)")
    parser.add_argument(
        "--earlier",
        metavar="FILE.yaml",
        help="calibration of the same robot in another session: the fit goes on from it",
    )
    parser.add_argument(
        "--changed", metavar="NAME", nargs="+", default=[], help="parameters that changed since then, such as a payload"
    )
    parser.add_argument("--columns", metavar="FILE.yaml", help="which column is what, where names differ")
    parser.add_argument("--torque", metavar="NAME", default="", help="columns of the torque that acted (tau_meas)")
    parser.add_argument("--noise", metavar="RAD", type=float, default=NOISE, help=f"own error of the model ({NOISE})")
    parser.add_argument("--report", metavar="FILE.html", help="default: beside the calibration")
    options = parser.parse_args(argv)
    if not options.noise > 0:
        raise ConfigError("command line", "--noise", options.noise, "more than 0 rad")
    if options.changed and not options.earlier:
        raise ConfigError("command line", "--changed", options.changed, "only with --earlier")
    spec = load_robot(options.robot)
    model = RobotModel(spec)
    earlier = read_calibration(options.earlier, model) if options.earlier else None
    columns = read_columns(options.columns) if options.columns else None
    readings = read_logs(options.logs, spec, columns, options.torque)
    for text in readings.notes:
        print(f"warning: {text}", file=sys.stderr)
    calibration, posterior, batch = identify(model, readings.logs, options.noise, False, earlier, options.changed)
    _tell(calibration)
    if not calibration.error < MIN_MOTION:
        allowed = f"less than {MIN_MOTION} rad: other units, other columns or another robot? Nothing was written"
        raise ConfigError(options.logs[0], "median error after the fit", f"{calibration.error:.4g} rad", allowed)
    calibration.write(options.out)
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
