"""Line charts as inline SVG: what the report needs of plotting, without a library, a font or a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

BEFORE, AFTER, GOAL = "#d9772b", "#2563c9", "#2c8f62"
KNOWN = {"rl2": (AFTER, "RL²"), "domain_randomised": (BEFORE, "domain-randomised"), "oracle": (GOAL, "oracle")}
OTHERS = ("#8a4fd0", "#c2366b", "#0f93a6", "#7a6a2f", "#55606e")
WIDTH, HEIGHT = 380, 226  # of a drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 48, 368, 12, 184  # the frame in it
MOST_POINTS = 800  # of a line; more would only make the page heavy


@dataclass(frozen=True)
class Line:
    """One series: `x` (N,) against `y` (N,), with an interval `low` to `high` (N,) where there is one.

    A step line holds each value up to the next `x`. What is not finite leaves a gap.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    colour: str
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    step: bool = False
    dashed: bool = False
    marks: bool = False


@dataclass(frozen=True)
class Band:
    """A horizontal line with a margin around it, from `start` on: a goal and its tolerance."""

    y: float
    margin: float = 0.0
    start: float = -math.inf
    label: str = ""
    colour: str = GOAL


def look(name: str, names: Iterable[str]) -> tuple[str, str]:
    """Colour and name, not escaped, of a learner or run; the same wherever it appears."""
    if name in KNOWN:
        return KNOWN[name]
    strangers = [other for other in names if other not in KNOWN]
    return OTHERS[strangers.index(name) % len(OTHERS)] if name in strangers else OTHERS[-1], name


def number(value: object, digits: int = 1) -> str:
    """A number for people; – where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return "–"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def compact(value: float) -> str:
    """250000 as 250k, 0.25 as 0.25."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def percent(value: float) -> str:
    return f"{value * 100:.4g} %"


def chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    bands: Sequence[Band] = (),
    *,
    y_range: tuple[float, float] | None = None,
    y_format: Callable[[float], str] = compact,
    x_ticks: Sequence[float] | None = None,
    timed: bool = False,
) -> str:
    """A figure with title and drawing; empty when there is nothing finite to draw.

    `timed` draws a cursor that the animation moves: then `x` is time in s, from 0.
    """
    across = _finite([line.x for line in lines])
    up = _finite([v for line in lines for v in (line.y, line.low, line.high) if v is not None])
    if not len(across) or not len(up):
        return ""
    x_low, x_high = _span(across, 0.0)
    edges = [b.y + s * b.margin for b in bands for s in (-1, 1)]
    y_low, y_high = y_range or _span(np.concatenate([up, edges]), 0.06)

    def right(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (RIGHT - LEFT)

    def down(y: float) -> float:
        return BOTTOM - (y - y_low) / (y_high - y_low) * (BOTTOM - TOP)

    parts = [_horizontal(y, down(y), y_format(y)) for y in ticks(y_low, y_high, 5)]
    parts += [_vertical(right(x), compact(x)) for x in (x_ticks if x_ticks is not None else ticks(x_low, x_high, 6))]
    parts += [_band(band, right, down, x_low) for band in bands]
    for line in lines:
        parts.append(_interval(line, right, down))
        parts.append(_path(line, right, down))
    if timed:
        parts.append(f'<line class="cursor" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{BOTTOM}"/>')
    parts.append(f'<text class="label" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 8}">{escape(x_label)}</text>')
    span = f' data-from="{x_low}" data-to="{x_high}" data-left="{LEFT}" data-right="{RIGHT}"' if timed else ""
    heading = f"{escape(title)} <small>{escape(y_label)}</small>" if y_label else escape(title)
    return (
        f'<figure><figcaption>{heading}</figcaption><svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)}"{span}>{"".join(parts)}</svg></figure>'
    )


def legend(entries: Iterable[tuple[str, str, bool]]) -> str:
    """A line of (label, colour, dashed)."""
    items = (
        f'<span><svg viewBox="0 0 24 8"><path d="M1 4H23" stroke="{escape(colour)}"{_dash(dashed)}/></svg>'
        f"{escape(label)}</span>"
        for label, colour, dashed in entries
    )
    return f'<div class="legend">{"".join(items)}</div>'


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers in [low, high], about `count` of them."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _finite(values: Sequence[ArrayLike]) -> NDArray[np.float64]:
    flat = np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in values]) if len(values) else np.zeros(0)
    return flat[np.isfinite(flat)]


def _span(values: NDArray[np.float64], margin: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    size = high - low or max(abs(high), 1.0) * 0.5
    if high == low:
        return low - size, high + size
    return low - margin * size, high + margin * size


def _horizontal(value: float, y: float, text: str) -> str:
    kind = "zero" if value == 0 else "grid"
    return (
        f'<path class="{kind}" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
        f'<text class="y" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(text)}</text>'
    )


def _vertical(x: float, text: str) -> str:
    return f'<path class="tick" d="M{x:.1f} {BOTTOM}v4"/><text class="x" x="{x:.1f}" y="{BOTTOM + 18}">{text}</text>'


def _band(band: Band, right: Callable[[float], float], down: Callable[[float], float], x_low: float) -> str:
    x, y = min(right(max(band.start, x_low)), RIGHT), down(band.y)  # RIGHT: the traces ended before
    half = abs(down(band.y + band.margin) - y)
    area = f'<rect class="area" x="{x:.1f}" y="{y - half:.1f}" width="{RIGHT - x:.1f}" height="{2 * half:.1f}"'
    tip = f"<title>{escape(band.label)}</title>"
    return (
        f'{area} fill="{band.colour}">{tip}</rect>'
        f'<path class="goal" d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{band.colour}">{tip}</path>'
    )


def _points(line: Line, *names: str) -> NDArray[np.float64]:
    """Columns of a line, thinned, (N, 1 + names)."""
    rows = np.stack([np.asarray(getattr(line, name), np.float64) for name in ("x", *names)], axis=-1)
    return rows[:: max(1, math.ceil(len(rows) / MOST_POINTS))]


def _interval(line: Line, right: Callable[[float], float], down: Callable[[float], float]) -> str:
    if line.low is None or line.high is None:
        return ""
    rows = _points(line, "low", "high")
    rows = rows[np.isfinite(rows).all(-1)]
    if not len(rows):
        return ""
    there = [f"{right(x):.1f} {down(low):.1f}" for x, low, _ in rows]
    back = [f"{right(x):.1f} {down(high):.1f}" for x, _, high in rows[::-1]]
    return f'<path class="area" d="M{"L".join(there + back)}Z" fill="{line.colour}"/>'


def _path(line: Line, right: Callable[[float], float], down: Callable[[float], float]) -> str:
    words, dots, last = [], [], None
    for x, y in _points(line, "y"):
        if not (math.isfinite(x) and math.isfinite(y)):
            last = None
            continue
        place = f"{right(x):.1f} {down(y):.1f}"
        words.append(f"M{place}" if last is None else f"H{right(x):.1f}V{down(y):.1f}" if line.step else f"L{place}")
        last = y
        if line.marks:
            tip = f"{line.label}: {compact(y)} at {compact(x)}"
            dots.append(f'<circle cx="{right(x):.1f}" cy="{down(y):.1f}" r="3.2" fill="{line.colour}">'
                        f"<title>{escape(tip)}</title></circle>")  # fmt: skip
    return f'<path class="line" d="{"".join(words)}" stroke="{line.colour}"{_dash(line.dashed)}/>{"".join(dots)}'


def _dash(dashed: bool) -> str:
    return ' stroke-dasharray="5 4"' if dashed else ""
