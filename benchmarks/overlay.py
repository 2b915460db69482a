"""Measured motion and what models foresee of it, drawn over each other.

`T` rows, `J` joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapt.predict import errors
from adapt.report_chart import AFTER, BEFORE, GOAL, OTHERS, Line, chart, legend
from adapt.report_page import charts
from adapt.robot_model import RobotModel
from adapt.windows import Batch, Window
from hardware_io.state import Array

LOOKS = ((BEFORE, True), (AFTER, False), (OTHERS[0], False))  # of predictions, in their order: colour, dashed


@dataclass(frozen=True)
class Overlay:
    """One window of a log."""

    title: str
    joints: tuple[str, ...]
    time: Array  # (T,) s since its start
    measured: Array  # (T, J) rad
    foreseen: dict[str, Array]  # by whom → (T, J) rad


def typical(model: RobotModel, title: str, found: Sequence[Window], by: Mapping[str, Array]) -> Overlay:
    """The window whose error under the last of `by`, name → parameters (K,), is the median of all."""
    last = errors(model, list(by.values())[-1], Batch(found))
    window = found[int(np.argsort(last)[len(last) // 2])]
    one, rows = Batch([window]), len(window.time) - 1
    foreseen = {
        name: np.vstack([window.position, model.predict(values[None], one)[:rows, :, 0, 0]])
        for name, values in by.items()
    }
    return Overlay(title, tuple(model.spec.joints), window.time - window.time[0], window.measured, foreseen)


def figures(overlays: Sequence[Overlay]) -> str:
    """A chart a joint and window, with one legend for all that have the same names."""
    names = list(dict.fromkeys(name for overlay in overlays for name in overlay.foreseen))
    drawn = []
    for overlay in overlays:
        for j, joint in enumerate(overlay.joints):
            lines = [Line("measured", overlay.time, overlay.measured[:, j], GOAL)]
            for name, path in overlay.foreseen.items():
                colour, dashed = LOOKS[names.index(name)]
                lines.append(Line(name, overlay.time, path[:, j], colour, dashed=dashed))
            drawn.append(chart(f"{overlay.title}: {joint}", "s after the start of the window", "rad", lines))
    key = [("measured", GOAL, False), *((name, *look) for name, look in zip(names, LOOKS, strict=False))]
    return legend(key) + charts(drawn)
