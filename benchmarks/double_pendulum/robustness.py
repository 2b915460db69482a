"""Robustness v2: in how many perturbed simulations a controller swings up and is upright after 10 s.

Six categories, each a share; the score is their mean. Values after `robustness_v2/benchmark_controller.py` and
`analysis/benchmark.py` of the DFKI lab's repository `double_pendulum`. Noise and bumps follow from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.double_pendulum.plant import DT, NOMINAL, Flags, Parameters, is_upright
from benchmarks.double_pendulum.simulate import Conditions, Controller, clock, simulate
from hardware_io.state import Array

SEED = 20240
VALUES = 21  # a parameter, noise, response or delay takes
REPETITIONS = 10  # of each level of noise; more than half of them have to succeed
DURATION = 10.0  # s
BUMPED = 50  # simulations with bumps
BUMPS, BUMP_DISTANCE = 3, 1.0  # a joint, and s between any two of the six
BUMP_WIDTH = (0.05, 0.1)  # s, standard deviation
BUMP_HEIGHT = (0.5, 5.0)  # N·m
SCALES = np.linspace(0.75, 1.25, VALUES)


@dataclass(frozen=True)
class Category:
    """`labels` (n,) name the values; `repetitions` simulations share one and are decided by majority."""

    conditions: Conditions
    labels: list[str]
    repetitions: int = 1


def model() -> Category:
    """Ten parameters, one at a time. A product m·r is changed by its r, and m2 alone leaves r2 as it is."""
    nominal, viscous, coulomb = NOMINAL, np.linspace(-0.1, 0.1, VALUES), np.linspace(-0.2, 0.2, VALUES)
    changes: dict[str, tuple[str, Array]] = {
        "Ir": ("rotor", np.linspace(0.0, 1e-4, VALUES)),
        "m1r1": ("r1", SCALES * nominal.r1),
        "I1": ("i1", SCALES * nominal.i1),
        "b1": ("b1", viscous),
        "cf1": ("c1", coulomb),
        "m2r2": ("r2", SCALES * nominal.r2),
        "m2": ("m2", SCALES * nominal.m2),
        "I2": ("i2", SCALES * nominal.i2),
        "b2": ("b2", viscous),
        "cf2": ("c2", coulomb),
    }
    rows = [replace(nominal, **{key: values}).rows() for key, values in changes.values()]
    labels = [f"{name} {value:.3g}" for name, (_, values) in changes.items() for value in values]
    parameters = Parameters.of_rows(np.concatenate(rows, axis=1))
    return Category(Conditions(len(labels), parameters), labels)


def velocity_noise() -> Category:
    levels = np.linspace(0.0, 0.5, VALUES)
    return _repeated(levels, "rad/s", lambda lanes, noise: Conditions(lanes, velocity_noise=noise))


def torque_noise() -> Category:
    levels = np.linspace(0.0, 1.1, VALUES)
    return _repeated(levels, "N·m", lambda lanes, noise: Conditions(lanes, torque_noise=noise))


def response() -> Category:
    levels = np.linspace(0.1, 2.0, VALUES)
    return Category(Conditions(VALUES, response=levels), [f"{level:.3g}" for level in levels])


def delay() -> Category:
    seconds = np.linspace(0.0, 0.04, VALUES)
    steps = (seconds / DT).astype(int)  # rounded down, as published
    return Category(Conditions(VALUES, delay=steps), [f"{second * 1e3:.3g} ms" for second in seconds])


def perturbation() -> Category:
    """Gaussian bumps on the joint that acts. Those drawn for the other joint do not reach the plant."""
    rng, times = np.random.default_rng([SEED, 100]), clock(DURATION)
    bumps = np.zeros((len(times), BUMPED))
    for lane in range(BUMPED):
        centres, widths, heights = draw_bumps(rng)
        bumps[:, lane] = bump_torque(times, centres, widths, heights)
    return Category(Conditions(BUMPED, bumps=bumps), [f"run {lane}" for lane in range(BUMPED)])


def draw_bumps(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Centres s, widths s and heights N·m of the bumps at one joint, (3,) each.

    Centres of both joints follow each other by the distance and a random part of what room is left, then are dealt out.
    """
    both = 2 * BUMPS
    room = (DURATION - (both + 1) * BUMP_DISTANCE) / both
    centres = rng.permutation(np.cumsum(BUMP_DISTANCE + room * rng.random(both)))[:BUMPS]
    widths = rng.uniform(*BUMP_WIDTH, BUMPS)
    spread = BUMP_HEIGHT[1] - BUMP_HEIGHT[0]
    heights = rng.uniform(-spread, spread, BUMPS)
    return centres, widths, heights + BUMP_HEIGHT[0] * np.sign(heights)


def bump_torque(times: Array, centres: Array, widths: Array, heights: Array) -> Array:
    """The sum of the bumps at each time, (T,) N·m."""
    return (heights * np.exp(-((times[:, None] - centres) ** 2) / (2 * widths**2))).sum(axis=1)


CATEGORIES: dict[str, Callable[[], Category]] = {
    "model": model,
    "velocity_noise": velocity_noise,
    "torque_noise": torque_noise,
    "response": response,
    "delay": delay,
    "perturbation": perturbation,
}


def score_category(controller: Controller, acting: int, name: str) -> dict[str, Any]:
    """Share of successes, and the values that failed."""
    category = CATEGORIES[name]()
    final = simulate(controller, acting, category.conditions, [SEED, list(CATEGORIES).index(name)], DURATION).final
    passed = majority(is_upright(final), category.repetitions)
    failed = [label for label, good in zip(category.labels, passed, strict=True) if not good]
    return {"score": float(passed.mean()), "failed": failed}


def majority(success: Flags, repetitions: int) -> Flags:
    """Whether more than half of the repetitions of each value succeeded, (n / repetitions,) bool."""
    return success.reshape(-1, repetitions).mean(axis=1) > 0.5


def _repeated(levels: Array, unit: str, make: Callable[[int, Array], Conditions]) -> Category:
    return Category(
        make(len(levels) * REPETITIONS, np.repeat(levels, REPETITIONS)),
        [f"{level:.3g} {unit}" for level in levels],
        REPETITIONS,
    )
