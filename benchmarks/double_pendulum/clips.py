"""What a file does on the leaderboard's plant, recorded for the report: swing-ups, perturbed ones, knock-downs.

`T` steps, `n` runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.double_pendulum.knockdown import DRAWS, SEEDS, draw_knocks, run, uptime
from benchmarks.double_pendulum.plant import ROBOTS, Parameters, is_upright, tip_height
from benchmarks.double_pendulum.robustness import CATEGORIES, DURATION, SEED
from benchmarks.double_pendulum.simulate import Conditions, Controller, simulate
from hardware_io.state import Array


@dataclass(frozen=True)
class Clip:
    """One run on the plant."""

    label: str
    state: Array  # (T, 4) rad, rad/s at the beginning of each step
    torque: Array | None  # (T,) N·m of the joint that acts, where it was noted

    @property
    def height(self) -> Array:
        """Of the tip above the shoulder, (T,) m."""
        return np.asarray(tip_height(self.state.T))


def swing_ups(controller: Controller, acting: int, results: Mapping[str, Any]) -> list[Clip]:
    """Undisturbed; the strongest bumps; the longest delay that it withstands; a plant that it does not hold."""
    clips = [_clip(controller, acting, "undisturbed", Conditions(1))]
    bumps = CATEGORIES["perturbation"]().conditions.bumps
    assert bumps is not None
    strongest = int(np.abs(bumps).sum(axis=0).argmax())
    clips.append(_clip(controller, acting, "strongest bumps", Conditions(1, bumps=bumps[:, [strongest]])))
    delays = CATEGORIES["delay"]()
    passed = [label for label in delays.labels if label not in results["delay"]["failed"]]
    if passed:
        steps = int(np.asarray(delays.conditions.delay)[delays.labels.index(passed[-1])])
        clips.append(_clip(controller, acting, f"delay of {passed[-1]}", Conditions(1, delay=steps)))
    failed = results["model"]["failed"]
    if failed:
        models = CATEGORIES["model"]()
        rows = models.conditions.parameters.rows()[:, [models.labels.index(failed[0])]]
        clips.append(_clip(controller, acting, f"plant with {failed[0]}", Conditions(1, Parameters.of_rows(rows))))
    return clips


@dataclass(frozen=True)
class Knocked:
    """A minute of knock-downs: the leaderboard's draw, and the share of the time that it is up in every draw."""

    clip: Clip
    times: Array  # (15,) s of the knocks
    shares: Array  # (n,)


def knock_downs(controller: Controller, acting: int) -> Knocked:
    """All draws side by side, as they are scored: alone, a chaotic motion would round to another one."""
    first = SEEDS[ROBOTS[acting]]
    states = run(controller, acting, [first + draw for draw in range(DRAWS)])
    shares = uptime(states)
    clip = Clip(f"the leaderboard's draw: up {100 * shares[0]:.0f} % of the time", states[:, :, 0], None)
    return Knocked(clip, draw_knocks(first)[0], shares)


def thinned(clip: Clip, ratio: int) -> Clip:
    """Every `ratio`-th step."""
    return replace(clip, state=clip.state[::ratio], torque=None if clip.torque is None else clip.torque[::ratio])


def angles(clip: Clip) -> Array:
    """(T, 2) rad"""
    return clip.state[:, :2]


def torques(clip: Clip) -> Array | None:
    """Between the states, (T - 1, 1) N·m."""
    return None if clip.torque is None else clip.torque[:-1, None]


def _clip(controller: Controller, acting: int, what: str, conditions: Conditions) -> Clip:
    done = simulate(controller, acting, conditions, [SEED], DURATION, record=True)
    end = "upright" if is_upright(done.final)[0] else "not upright at the end"
    return Clip(f"{what}: {end}", done.state[:, :, 0], done.torque[:, 0])
