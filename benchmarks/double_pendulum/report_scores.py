"""The scores of one file as sections of the report: beside published ones, value by value, and as it moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, fields
from typing import Any

import numpy as np

from adapt.report_bars import Bar, Cell, bars, strip
from adapt.report_chart import AFTER, BEFORE, OTHERS, Band, Line, chart, legend
from adapt.report_motion import animation, chain_of
from adapt.report_page import Section, charts, tiles
from benchmarks.double_pendulum.clips import angles, knock_downs, swing_ups, thinned, torques
from benchmarks.double_pendulum.graph import GraphController
from benchmarks.double_pendulum.page import AIMS
from benchmarks.double_pendulum.performance import NORMS, Costs, line, shares
from benchmarks.double_pendulum.plant import GOAL as UPRIGHT
from benchmarks.double_pendulum.plant import ROBOTS
from benchmarks.double_pendulum.robustness import CATEGORIES

COLOURS = (AFTER, OTHERS[2], OTHERS[0], BEFORE)  # of clips, in their order
PARTS = tuple(field.name for field in fields(Costs))
UNITS = ("s", "J", "N²·m²·s", "N·m", "rad²/s")


def score_sections(
    name: str,
    controller: GraphController,
    results: Mapping[str, Any],
    published: Mapping[str, Any],
    ceiling: Mapping[str, Any],
) -> list[Section]:
    """Robustness, the swing-up and the knock-downs of one file."""
    robot = ROBOTS[controller.acting]
    return [
        Section(f"{robot}: robustness", robustness(name, robot, results, published, ceiling)),
        Section(f"{robot}: swing-up", _swing_up(name, controller, results, published)),
        Section(f"{robot}: knock-downs", _knock_downs(name, controller, published)),
    ]


def robustness(
    name: str, robot: str, results: Mapping[str, Any], published: Mapping[str, Any], ceiling: Mapping[str, Any]
) -> str:
    """Scores beside aims and published ones, and which values fail. `ceiling` may be empty."""
    columns, figures = [*CATEGORIES, "robustness"], []
    for k, column in enumerate(columns):
        rows = [Bar(name, results[column]["score"], ours=True)]
        rows += [Bar(entry, values[k]) for entry, values in published["robustness"].items()]
        rows += [Bar("told everything", ceiling[column]["score"])] if ceiling else []
        figures.append(bars(column.replace("_", " ") if k < len(CATEGORIES) else "all: the mean", rows))
    return (
        tiles([_against_aim(robot, score, results[score]["score"]) for score in AIMS[robot]])
        + charts(figures)
        + f"<h3>Which values fail</h3>{_key(bool(ceiling))}{_strips(results, ceiling)}"
    )


def _against_aim(robot: str, score: str, found: float) -> tuple[str, str]:
    aim = AIMS[robot][score]
    return f"{found:.3f}", f"{score}, aim {aim:.2f} {'met' if found >= aim else 'missed'}"


def _key(bound: bool) -> str:
    words = [("passed", "passed"), ("failed", "failed")]
    words += [("failed beyond", "failed, as by the planner that is told everything")] if bound else []
    entries = "".join(f'<span><i class="{kind}"></i>{text}</span>' for kind, text in words)
    return f'<div class="legend key">{entries}</div>'


def _strips(results: Mapping[str, Any], ceiling: Mapping[str, Any]) -> str:
    """A strip a parameter of the plant, and one for each other category."""
    drawn = []
    for column, make in CATEGORIES.items():
        failed, beyond = set(results[column]["failed"]), set(ceiling.get(column, {}).get("failed", ()))
        rows: dict[str, list[str]] = {}
        for label in make().labels:
            title = label.partition(" ")[0] if column == "model" else column.replace("_", " ")
            rows.setdefault(title, []).append(label)
        for title, labels in rows.items():
            low, high = (label.removeprefix(title).strip() for label in (labels[0], labels[-1]))
            drawn.append(strip(title, low, high, [Cell(v, v not in failed, v in beyond) for v in labels]))
    return "".join(drawn)


def _swing_up(name: str, controller: GraphController, results: Mapping[str, Any], published: Mapping[str, Any]) -> str:
    spec, acting = controller.spec, controller.acting
    clips = [thinned(clip, controller.ratio) for clip in swing_ups(controller, acting, results)]
    looks = list(zip(clips, COLOURS, strict=False))
    moved = [(clip.label, colour, angles(clip), torques(clip)) for clip, colour in looks]
    time = np.arange(len(clips[0].state)) * spec.period.policy
    up = Band(line(), label="counts as up")
    heights = [Line(clip.label, time, clip.height, colour) for clip, colour in looks]
    commands = [Line(clip.label, time, clip.torque, colour) for clip, colour in looks if clip.torque is not None]
    return (
        animation(spec, chain_of(spec, {}), moved, UPRIGHT[:2])
        + legend([(clip.label, colour, False) for clip, colour in looks])
        + charts(
            [
                chart("Height of the tip", "time, s", "m above the shoulder", heights, [up], timed=True),
                chart("Torque", "time, s", "N·m", commands, timed=True),
            ]
        )
        + f"<h3>Performance: five costs of the undisturbed run</h3>{performance(name, results, published)}"
    )


def performance(name: str, results: Mapping[str, Any], published: Mapping[str, Any]) -> str:
    """Costs of one run beside published ones, each as what it takes of its fifth of the score."""
    known = {name: Costs(*(results["performance"][part] for part in PARTS))}
    known |= {entry: Costs(*values) for entry, values in published["costs"].items()}
    figures = [
        bars(
            f"{part.replace('_', ' ')}, {unit}",
            [Bar(entry, shares(costs)[k], entry == name, f"{astuple(costs)[k]:.3g}") for entry, costs in known.items()],
        )
        for k, (part, unit) in enumerate(zip(PARTS, UNITS, strict=True))
    ]
    totals = [Bar(name, results["performance"]["score"], ours=True)]
    totals += [Bar(entry, value) for entry, value in published["performance"].items()]
    norms = ", ".join(f"{value:g} {unit}" for value, unit in zip(astuple(NORMS), UNITS, strict=True))
    words = (
        f"Short bars are good: each is tanh(π · cost / norm), with norms of {norms}. The score is 1 minus their mean."
    )
    return f'<p class="soft">{words}</p>{charts([*figures, bars("score", totals)])}'


def _knock_downs(name: str, controller: GraphController, published: Mapping[str, Any]) -> str:
    knocked = knock_downs(controller, controller.acting)
    spec, clip = controller.spec, thinned(knocked.clip, controller.ratio)
    time = np.arange(len(clip.state)) * spec.period.policy
    height = chart(
        "Height of the tip",
        "time, s",
        "m above the shoulder",
        [Line(clip.label, time, clip.height, AFTER)],
        [Band(line(), label="counts as up")],
        timed=True,
    )
    rows = [
        Bar(name, float(knocked.shares[0]), ours=True),
        Bar(f"mean of {len(knocked.shares)} draws", float(knocked.shares.mean()), ours=True),
    ]
    rows += [Bar(entry, value) for entry, value in published["global"].items()]
    draws = np.arange(len(knocked.shares))
    return (
        animation(spec, chain_of(spec, {}), [(clip.label, AFTER, angles(clip), None)], UPRIGHT[:2])
        + f'<p class="soft">Thrown for 0.2 s at {", ".join(f"{time:.1f}" for time in knocked.times)} s.</p>'
        + charts(
            [
                height,
                bars("Share of the time that it is up", rows),
                chart(
                    "Every draw of the knocks",
                    "draw, the leaderboard's is 0",
                    "share up",
                    [Line(name, draws, knocked.shares, AFTER, marks=True)],
                    y_range=(0.0, 1.0),
                ),
            ]
        )
    )
