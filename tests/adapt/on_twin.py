"""Adaptation on twins in lockstep, as tests need it: a session with a loop on a virtual clock.

As a program (`python -m tests.adapt.on_twin FILE FOLDER FRAMES TURNS`) it adapts and kills itself with signal 9 when it
sends a frame of that number: in the middle of a tick.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from adapt.gradient_based import GradientBased
from adapt.learner import META_LEARNERS, MetaLearner, make_learner
from adapt.methods import method_of
from adapt.online import Adaptation, adapt_on_robot
from adapt.scored import task_of
from adapt.session import Plan, Session
from adapt.watch import watch
from export.exporter import make_bundle
from hardware_io.bundle import Bundle, file_digest, read_bundle, write_bundle
from hardware_io.clock import VirtualClock
from hardware_io.drivers import make_driver
from hardware_io.loop import ControlLoop
from hardware_io.run import rest_of
from hardware_io.runtime import Policy
from hardware_io.spec import load_spec
from sim.family import RobotFamily
from sim.twin import LockstepBus, Twin, draw_dynamics
from tests.conftest import ROBOTS

SHORT = {"name": "swing_up", "duration": 0.8, "hold": 0.2}  # 20 steps
QUIET = {"latency": 0.01, "base_tilt": 0.0, "payload": 1.0}
HIDDEN = 5  # layer of the gradient-based policies


class Machine(LockstepBus):
    """A bus to a twin of the pendulum that another may take the place of; ends the process at a frame, if told to."""

    def __init__(self, bundle: Bundle, dies_at: int = 0, seed: int = 0, **dynamics: float) -> None:
        self.clock, self.bundle, self._dies_at, self.frames = VirtualClock(100.0), bundle, dies_at, 0
        super().__init__(self.twin_with(seed, **dynamics), self.clock)

    def twin_with(self, seed: int = 0, **dynamics: float) -> Twin:
        return Twin(self.bundle.spec, draw_dynamics(self.bundle.spec, 0, fixed={**QUIET, **dynamics}), seed)

    def become(self, **dynamics: float) -> None:
        """From now on the robot is another one, at rest where the first one began."""
        now, self._twin = self._twin.time, self.twin_with(1, **dynamics)
        self._twin.advance_to(now)

    def send(self, msg: Any, timeout: float | None = None) -> None:
        self.frames += 1
        if self.frames == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        super().send(msg, timeout)

    def session(self, folder: Path, plan: Plan, digest: str = "digest") -> Session:
        """A session in a folder, with its loop."""
        session = Session(folder, self.bundle, digest, plan, self.clock)
        robot = make_driver("can_mit", self.bundle.spec, self.clock, bus=self)
        reward, rest = task_of(self.bundle).reward, rest_of(self.bundle.spec, None)
        policy, ask = Policy(self.bundle), self.set_right
        session.loop = ControlLoop(policy, robot, self.clock, session.recorder, reward, rest=rest, ask=ask)
        return session

    def set_right(self, question: str) -> bool:
        """What an operator does who is asked."""
        self._twin.reset(self._twin.rest, 0 * self._twin.rest)
        return True


SPEC = load_spec(ROBOTS / "simple_pendulum" / "robot.yaml")


def of_table(name: str) -> type[MetaLearner]:
    module, attribute = META_LEARNERS[name]
    return getattr(import_module(module), attribute)


BETWEEN = [name for name in META_LEARNERS if not of_table(name).in_graph]  # learners that adapt between rollouts


def untrained(name: str) -> MetaLearner:
    """A learner of the table; those that take gradient steps are small and command firmly."""
    torch.manual_seed(0)
    small = {"hidden": [HIDDEN], "inner_rate": 0.3} if issubclass(of_table(name), GradientBased) else {}
    learner = make_learner(name, RobotFamily(SPEC, SHORT["name"]).interface, "test", small).eval()
    if isinstance(learner, GradientBased):
        with torch.no_grad():
            learner.shared += 0.3 * torch.randn_like(learner.shared)
    return learner


@cache
def exported(name: str) -> Bundle:
    """What such a learner is deployed as."""
    learner = untrained(name)
    return make_bundle(learner, SPEC, SHORT, name, {"seed": 0}, {} if learner.in_graph else {"rollouts": 2})


def adapt(bundle: Bundle, folder: Path, plan: Plan, dies_at: int = 0, turns: int | None = None) -> Adaptation:
    """The whole way in lockstep: FOLDER/policy.onnx, its session in FOLDER/policy.adapt."""
    file = folder / "policy.onnx"
    if not file.exists():
        write_bundle(file, bundle)
    session = Machine(bundle, dies_at).session(folder / "policy.adapt", plan, file_digest(file))
    with session, method_of(bundle, file) as method, session.loop.session():
        if turns is not None:
            return watch(session, method, lambda found: None, turns)
        return adapt_on_robot(session, method, bundle.fast)


if __name__ == "__main__":
    _, file, plan, dies_at, turns = sys.argv
    known = read_bundle(file)
    source = replace(known.spec, source=str(ROBOTS / "simple_pendulum" / "robot.yaml"))
    limit = json.loads(turns)
    adapt(replace(known, spec=source), Path(file).parent, Plan(**json.loads(plan)), int(dies_at), limit)
