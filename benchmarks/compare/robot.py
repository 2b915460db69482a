"""What a learner asks of the robot's computer: time of a tick, numbers that it keeps, what has to be installed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from adapt.learner import META_LEARNERS, class_of, make_learner
from benchmarks.inference import inputs_of, times
from export.exporter import make_bundle
from hardware_io.runtime import Policy
from sim.family import RobotFamily
from sim.robots import load_robot

ROBOT = "double_pendulum/pendubot"


@dataclass(frozen=True)
class Demand:
    """With default sizes, on the pendubot."""

    tick: float  # µs, median of one inference with its checks, one thread
    fast: int  # numbers in the fast state
    kept: int  # of them, carried from rollout to rollout
    file: int  # bytes of the graph
    beside: bool  # whether adaptation needs torch beside the control loop


def demands(calls: int, turns: int) -> dict[str, Demand]:
    """Of every learner that gives commands; untrained, since none of this depends on weights. Learners take turns."""
    spec = load_robot(ROBOT)
    interface = RobotFamily(spec, "swing_up").interface
    policies, sizes = {}, {}
    for name in (name for name in META_LEARNERS if class_of(name).continuous):
        learner = make_learner(name, interface, "benchmarks", {})
        bundle = make_bundle(learner, spec, {"name": "swing_up"}, name, {})
        inputs = {**inputs_of(bundle), "fast": bundle.fast}  # a memory drawn at random need not be one
        policies[name] = partial(Policy(bundle).step, *inputs.values())
        sizes[name] = (bundle.fast.size, int(bundle.kept.sum()), len(bundle.graph), not learner.in_graph)
    taken: dict[str, list[np.ndarray]] = {name: [] for name in policies}
    for _ in range(turns + 1):
        for name, step in policies.items():
            taken[name].append(times(step, calls))
    return {name: Demand(float(np.median(np.concatenate(runs[1:]))), *sizes[name]) for name, runs in taken.items()}
