"""Microseconds of one inference on the CPU, batch 1, as the control loop asks for it.

Ours is `Policy.step`, with its checks for finite numbers; beside it the same graph in ONNX Runtime as it comes:
default threads, a dictionary of arrays, no checks. A turn is a run of calls; p50 and p99 are over the calls of a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime

from adapt.learner import make_learner
from benchmarks.measure import Figure, summary, take_turns
from export.exporter import make_bundle
from hardware_io.bundle import Bundle
from hardware_io.runtime import INPUTS, Policy
from hardware_io.spec import RobotSpec
from sim.family import RobotFamily
from sim.robots import load_robot

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {  # name → learner and settings
    "RL² (GRU 64, 2x64)": ("rl2", {"hidden": [64, 64], "memory": 64}),
    "perceptron 2x256": ("domain_randomised", {"hidden": [256, 256]}),
}


def untrained(learner: str, spec: RobotSpec, settings: dict[str, Any]) -> Bundle:
    """A deployment with random weights: time does not depend on them."""
    made = make_learner(learner, RobotFamily(spec, "swing_up").interface, "benchmarks", settings)
    return make_bundle(made, spec, {"name": "swing_up"}, learner, {})


def inputs_of(bundle: Bundle) -> dict[str, np.ndarray]:
    """One observation, fast state and noise, each (size,)."""
    rng = np.random.default_rng(0)
    sizes = (bundle.spec.observation_size, bundle.fast.size, bundle.spec.action_size)
    return {name: rng.standard_normal(size).astype(np.float32) for name, size in zip(INPUTS, sizes, strict=True)}


def times(call: Callable[[], Any], count: int) -> np.ndarray:
    """How long each of `count` calls takes, (count,) µs."""
    marks = np.empty(count + 1)
    for index in range(count + 1):
        marks[index] = time.perf_counter()
        if index < count:
            call()
    return np.diff(marks) * 1e6


def measure_network(name: str, bundle: Bundle, calls: int, turns: int) -> list[Figure]:
    """Both ways to run one graph."""
    inputs, policy = inputs_of(bundle), Policy(bundle)
    plain = onnxruntime.InferenceSession(bundle.graph, providers=["CPUExecutionProvider"])
    fed = {key: value[None] for key, value in inputs.items()}
    contenders: dict[str, Callable[[], Any]] = {
        "Policy.step, 1 thread": partial(policy.step, *inputs.values()),
        "ONNX Runtime, default threads": lambda: plain.run(None, fed),
    }
    taken: dict[str, list[np.ndarray]] = {label: [] for label in contenders}

    def turn(label: str) -> float:
        taken[label].append(times(contenders[label], calls))
        return 0.0

    take_turns({label: partial(turn, label) for label in contenders}, turns)
    section, figures = f"inference: {name}, batch 1", []
    for label, runs in taken.items():
        for quantile in (50, 99):
            values = [np.percentile(run, quantile) for run in runs[1:]]  # the first warmed up
            figures.append(summary(section, f"{label}: p{quantile}", values, "µs"))
    ratios = [
        np.median(theirs) / np.median(ours) for ours, theirs in zip(*(runs[1:] for runs in taken.values()), strict=True)
    ]
    figures.append(summary(section, "ONNX Runtime / Policy.step: p50", ratios, "ratio"))
    return figures


def measure(quick: bool) -> list[Figure]:
    """Everything about inference."""
    spec, calls, turns = load_robot("simple_pendulum"), 50 if quick else 2000, 2 if quick else 7
    figures = []
    for name, (learner, settings) in NETWORKS.items():
        figures += measure_network(name, untrained(learner, spec, settings), calls, turns)
    return figures
