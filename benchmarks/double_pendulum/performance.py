"""Performance v2: how well one undisturbed swing-up goes, from five costs.

Weights, norms and definitions after `simulation_v2/create_leaderboard.py` and `analysis/leaderboard.py` of the DFKI
lab's repository `double_pendulum`.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

from benchmarks.double_pendulum.plant import NOMINAL, Flags, tip_height
from benchmarks.double_pendulum.simulate import Conditions, Controller, clock, simulate
from hardware_io.state import Array

LINE = 0.9  # share of the stretched height above which it counts as up
DURATION = 10.0  # s


@dataclass(frozen=True)
class Costs:
    """Of one run."""

    swing_up_time: float  # s, since when it is up without a break; the end where it is not
    energy: float  # J
    torque_cost: float  # N²·m²·s
    torque_smoothness: float  # N·m, standard deviation of the changes
    velocity_cost: float  # rad²/s


NORMS = Costs(20.0, 60.0, 20.0, 0.1, 400.0)


def line() -> float:
    """m above the shoulder."""
    return float(LINE * (NOMINAL.l1 + NOMINAL.l2))


def costs(state: Array, torque: Array, acting: int) -> Costs:
    """Of one run: states (T, 4) at the beginning of each step, and the torque in it (T,) of the joint that acts."""
    times, moved = clock(DURATION)[: len(torque)], np.diff(state[:, acting])
    up = tip_height(state.T) > line()
    return Costs(
        swing_up_time=float(times[up_since(up)]),
        energy=float(np.abs(moved * torque[:-1]).sum()),
        torque_cost=float((torque[:-1] ** 2 * np.diff(times)).sum()),
        torque_smoothness=float(np.std(np.diff(torque))),
        velocity_cost=float(((state[:-1, 2:] ** 2).sum(axis=1) * np.diff(times)).sum()),
    )


def up_since(up: Flags) -> int:
    """The index from which on all of (T,) bool are true, the last aside; the last where there is none."""
    down = np.flatnonzero(~up[:-1])
    return int(down[-1]) + 1 if len(down) else 1  # the published loop never looks at the first


def score(costs: Costs) -> float:
    """1 minus the mean of tanh(π · cost / norm); 0 for a run that does not end upright."""
    if costs.swing_up_time >= clock(DURATION)[-1]:
        return 0.0
    return float(1 - np.mean(shares(costs)))


def shares(costs: Costs) -> list[float]:
    """What each cost takes of a fifth of the score: tanh(π · cost / norm)."""
    return [float(np.tanh(np.pi * value / norm)) for value, norm in zip(astuple(costs), astuple(NORMS), strict=True)]


def score_performance(controller: Controller, acting: int) -> dict[str, Any]:
    """Score and costs of an undisturbed run."""
    run = simulate(controller, acting, Conditions(1), [0], DURATION, record=True)
    found = costs(run.state[:, :, 0], run.torque[:, 0], acting)
    return {"score": score(found), **asdict(found)}
