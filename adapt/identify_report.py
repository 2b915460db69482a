"""A calibration as one HTML page: how the fit went, what it says of each parameter, predictions over measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.calibration import Calibration
from adapt.posterior import Posterior
from adapt.report_chart import AFTER, BEFORE, GOAL, Line, chart, legend
from adapt.report_page import Html, Section, charts, note, page, table, tiles
from adapt.robot_model import RobotModel
from adapt.windows import Batch
from hardware_io.config import write_atomically
from hardware_io.state import Array

DRAWS = 24  # of the posterior behind each prediction
SHOWN = (0.1, 0.5, 0.9)  # shares of the windows that are foreseen better than those drawn


def write_identification(
    path: Path, model: RobotModel, calibration: Calibration, posterior: Posterior, batch: Batch, notes: Sequence[str]
) -> None:
    """Write the page; `batch` holds the windows of the logs, as they were scored."""
    before = batch.errors(model.predict(model.mean[None], batch))[0]
    after = batch.errors(model.predict(posterior.mean[None], batch))[0]
    sections = [
        Section("What the logs taught", _summary(calibration, notes)),
        Section("Measured and foreseen", _overlays(model, calibration, batch, after)),
        Section("How the fit went", _convergence(posterior, before, after)),
        Section("Parameters", _parameters(calibration)),
    ]
    sources = ", ".join(f"{source.file} ({source.seconds:g} s)" for source in calibration.made_from)
    footer = "Open-loop predictions from the measured start under the measured torque. It needs no network."
    write_atomically(path, page(f"acclimate: {calibration.robot} calibrated", sources, sections, footer))


def _summary(calibration: Calibration, notes: Sequence[str]) -> str:
    untold = [name for name, p in calibration.parameters.items() if not p.told]
    parts = [note(text) for text in notes]
    parts.append(
        tiles(
            [
                (f"{calibration.error_before:.4f} rad", "median error as shipped"),
                (f"{calibration.error:.4f} rad", "median error calibrated"),
                (str(sum(source.windows for source in calibration.made_from)), "windows of half a second"),
                (f"{len(calibration.parameters) - len(untold)} of {len(calibration.parameters)}", "parameters told"),
            ]
        )
    )
    if untold:
        parts.append(note(f"Too little in these logs to tell, ranges stay as wide as they were: {', '.join(untold)}"))
    return "".join(parts)


def _overlays(model: RobotModel, calibration: Calibration, batch: Batch, errors: Array) -> str:
    """Windows that are foreseen well, as usual and badly, each joint a chart."""
    order = np.argsort(errors)
    chosen = [int(order[round(share * (len(order) - 1))]) for share in SHOWN]
    few = Batch([batch.windows[i] for i in chosen])
    draws = calibration.sample(DRAWS, model.low, np.random.default_rng(0))
    shipped = model.predict(model.mean[None], few)[:, :, 0]  # (R, J, W)
    spread = model.predict(np.vstack([calibration.values, draws]), few)
    figures = []
    for w, index in enumerate(chosen):
        window, rows = few.windows[w], len(few.windows[w].time) - 1
        time = window.time[1:] - window.time[0]
        for j, joint in enumerate(model.spec.joints):
            foreseen = spread[:rows, j, :, w]
            low, high = np.percentile(foreseen, (5, 95), axis=1)
            lines = [
                Line("measured", time, window.measured[1:, j], GOAL),
                Line("as shipped", time, shipped[:rows, j, w], BEFORE, dashed=True),
                Line("calibrated", time, foreseen[:, 0], AFTER, low, high),
            ]
            title = f"{joint}, {window.time[0]:.2f} s, error {errors[index]:.3f} rad"
            figures.append(chart(title, "s after the start of the window", "rad", lines))
    key = legend([("measured", GOAL, False), ("calibrated, 90 % of draws", AFTER, False), ("as shipped", BEFORE, True)])
    words = "Windows that are foreseen better than 90 %, 50 % and 10 % of the others."
    return f'<p class="soft">{words}</p>{key}{charts(figures)}'


def _convergence(posterior: Posterior, before: Array, after: Array) -> str:
    number = [step.iteration for step in posterior.history]
    share = (np.arange(len(after)) + 1) / len(after)
    figures = [
        chart(
            "Cost", "iteration", "−2 log posterior", [Line("cost", number, [s.cost for s in posterior.history], AFTER)]
        ),
        chart("Median error", "iteration", "rad", [Line("error", number, [s.error for s in posterior.history], AFTER)]),
        chart(
            "Windows up to an error",
            "error of half a second, rad",
            "share",
            [
                Line("as shipped", np.sort(before), share, BEFORE, dashed=True),
                Line("calibrated", np.sort(after), share, AFTER),
            ],
        ),
    ]
    return charts(figures)


def _parameters(calibration: Calibration) -> str:
    rows: list[list[str | Html]] = []
    for name, p in calibration.parameters.items():
        told = Html("told", "yes") if p.told else Html("not told", "no")
        rows.append([name, p.unit, f"{p.prior_mean:.4g} ± {p.prior_sd:.2g}", f"{p.mean:.4g} ± {p.sd:.2g}", told])
    return table(["parameter", "unit", "before", "after", "by the logs"], rows)
