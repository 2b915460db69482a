"""Mass evaluation on twins: robots in another physics engine, behind the real driver and control loop.

`acclimate evaluate FILE.onnx --twins 200` runs a file on hidden robots in lockstep on a virtual clock, or with
`--real-time` on twin processes over the bus. Everything a robot would run is run: driver, envelope, loop, runtime, and
the learner of a file that does not adapt inside its graph. An oracle is told the truth, `acclimate adapt` identifies.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.beside import Pupil
from adapt.methods import AdaptationError, explores
from adapt.persistent import PersistentLoop
from adapt.scored import TEACHING, Scored, scored, task_of
from hardware_io.bundle import Bundle, read_bundle
from hardware_io.clock import Clock, MonotonicClock, VirtualClock
from hardware_io.config import write_atomically
from hardware_io.drivers import make_driver
from hardware_io.drivers.can_mit import CanMit
from hardware_io.loop import ControlLoop
from hardware_io.recorder import Recorder, RecordingError
from hardware_io.run import SAFETY, rest_of
from hardware_io.runtime import Policy
from hardware_io.state import DriverError
from sim.dynamics import DynamicsRange
from sim.robots import load_robot
from sim.twin import LockstepBus, Twin, draw_dynamics

FIRST_SEED = 50_000  # of hidden robots, far from the seeds of training


@dataclass(frozen=True)
class TwinScore:
    """One hidden robot: its rollouts in turn, and what ended them early, if anything."""

    seed: int
    rollouts: list[Scored]
    failure: str


def start_fast(policy: Policy, seed: int, split: str) -> np.ndarray:
    """The initial fast state, (F,); a privileged policy is told the true parameters of the robot."""
    if policy.bundle.learner != "oracle":
        return policy.fast0
    ranges = DynamicsRange.of(policy.spec)
    known = ranges.normalise(draw_dynamics(policy.spec, seed, split)).astype(np.float32)
    return np.concatenate([known, policy.fast0[len(known) :]])


class Lessons:
    """Between rollouts that are scored, those that a learner adapts from, which lie in the log of the loop."""

    def __init__(self, bundle: Bundle, log: Path, seed: int) -> None:
        self._pupil, self._log, self._bundle, self._given = Pupil(bundle), log, bundle, 0
        self._noise = np.random.default_rng(seed) if explores(bundle) else None
        self._fast = bundle.fast

    def give(self, loop: ControlLoop, steps: int) -> np.ndarray:
        """One more, after which the robot acts with this fast state, (F,). Raises AdaptationError, and as the loop."""
        from adapt.outer import DivergenceError  # needs torch, as the pupil does

        role, count = f"{TEACHING} {self._given}", lesson(self._bundle)
        self._given += 1
        for _ in range(count):
            loop.settle()
            loop.rollout(self._fast, steps, self._noise, role)
        try:
            self._fast = self._pupil.learn([self._log], role, count, last=False)
        except (DivergenceError, RecordingError, ValueError) as error:
            raise AdaptationError(f"nothing was learned: {error}") from error
        return self._pupil.settled(self._fast)


def lesson(bundle: Bundle) -> int:
    """Rollouts that one adaptation learns from; 0 where the graph, or what it is told, is all there is."""
    if not bundle.slow:
        return 0
    return max(1, bundle.teaching.get("rollouts", 1) // max(1, bundle.teaching.get("adaptations", 1)))


def run_trial(
    loop: ControlLoop, bundle: Bundle, fast: np.ndarray, rollouts: int, seed: int, lessons: Lessons | None = None
) -> TwinScore:
    """`rollouts` rollouts of one robot, with the fast state carried from each to the next or with a lesson between."""
    task, done = task_of(bundle), []
    try:
        with loop.session():
            for number in range(rollouts):
                if number and lessons:
                    fast = lessons.give(loop, task.steps)
                loop.settle()
                one = scored(task, loop.rollout(fast, task.steps))
                fast = one.rollout.fast_end
                done.append(one)
    except (*SAFETY, AdaptationError) as error:
        return TwinScore(seed, done, str(error))
    return TwinScore(seed, done, "")


@contextmanager
def lessons_for(bundle: Bundle, clock: Clock, seed: int) -> Iterator[tuple[Recorder | None, Lessons | None]]:
    """What a loop is to record to, and the lessons that follow from it; neither where nothing has to be learned."""
    if not lesson(bundle):
        yield None, None
        return
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder) / "log.mcap", bundle.spec, clock) as recorder:
        yield recorder, Lessons(bundle, recorder.path, seed)


def lockstep(bundle: Bundle, seed: int, rollouts: int, robot: str, split: str = "train") -> TwinScore:
    """One hidden robot, of the kind with the name or YAML file `robot`, on a virtual clock."""
    clock, policy, body = VirtualClock(), Policy(bundle), load_robot(robot)
    twin = Twin(body, draw_dynamics(body, seed, split), seed)
    driver = CanMit(bundle.spec, clock, bus=LockstepBus(twin, clock))
    rest = rest_of(bundle.spec, None)

    def operator(question: str) -> bool:
        """Sets the robot right by hand, as a person would who is asked."""
        twin.reset(np.zeros(len(bundle.spec.joints)) if rest is None else rest, np.zeros(len(bundle.spec.joints)))
        return True

    with lessons_for(bundle, clock, seed) as (recorder, lessons):
        loop = ControlLoop(policy, driver, clock, recorder, rest=rest, ask=operator)
        return run_trial(loop, bundle, start_fast(policy, seed, split), rollouts, seed, lessons)


def real_time(bundle: Bundle, seed: int, rollouts: int, robot: str, split: str = "train") -> TwinScore:
    """One hidden robot in a process of its own, over a serial CAN adapter in real time."""
    with twin_process(robot, seed, split) as twin, lessons_for(bundle, MonotonicClock(), seed) as (recorder, lessons):
        loop = twin.loop(bundle, recorder)
        return run_trial(loop, bundle, start_fast(loop.policy, seed, split), rollouts, seed, lessons)


@dataclass(frozen=True)
class TwinProcess:
    """A twin that runs on its own: where it answers, and a hand that puts it back at its start."""

    channel: str
    pid: int

    def loop(self, bundle: Bundle, recorder: Recorder | None = None) -> PersistentLoop:
        """The loop that runs a file on it, in real time over its serial adapter, whatever else the machine does."""
        clock = MonotonicClock()
        driver = make_driver("can_mit", bundle.spec, clock, interface="slcan", channel=self.channel)
        rest = rest_of(bundle.spec, None)
        return PersistentLoop(Policy(bundle), driver, clock, recorder, rest=rest, ask=self.set_right)

    def set_right(self, question: str) -> bool:
        """What an operator does who is asked: puts the robot back and says to go on."""
        print(f"operator: {question} (puts it back)", flush=True)
        os.kill(self.pid, signal.SIGUSR1)
        return True


@contextmanager
def twin_process(robot: str, seed: int, split: str = "train") -> Iterator[TwinProcess]:
    """A twin in a process of its own. Raises DriverError when it does not start."""
    command = [sys.executable, "-m", "cli", "twin", "--robot", robot, "--seed", str(seed), "--split", split]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("ready slcan "):
            raise DriverError(f"twin {robot} seed {seed}: did not start: {line.strip() or 'no answer'}")
        yield TwinProcess(line.split()[-1], process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()


def column(scores: list[TwinScore], name: str, rollouts: int) -> NDArray[np.float64]:
    """`value` or `success` of every rollout, (K, B); 0 for a rollout that never was."""
    values = np.zeros((rollouts, len(scores)))
    for robot, score in enumerate(scores):
        for k, one in enumerate(score.rollouts):
            values[k, robot] = getattr(one, name)
    return values


def summarise(scores: list[TwinScore], rollouts: int) -> dict[str, Any]:
    """Mean return and success of each rollout with its interval; a rollout that never was counts as failed."""
    from adapt.evaluate import interval

    rng = np.random.default_rng(FIRST_SEED)
    success, value = (column(scores, name, rollouts) for name in ("success", "value"))
    return {
        "robots": len(scores),
        "success": [interval(row, rng) for row in success],
        "return": [interval(row, rng) for row in value],
        "failed": [
            {"seed": score.seed, "failure": score.failure}
            for score, succeeded in zip(scores, success[-1], strict=True)
            if not succeeded
        ],
    }


def main(argv: list[str]) -> int:
    """`acclimate evaluate FILE.onnx ...`."""
    parser = argparse.ArgumentParser(prog="acclimate evaluate FILE.onnx", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", metavar="FILE.onnx")
    parser.add_argument("--twins", type=int, default=200, help="hidden robots (default 200)")
    parser.add_argument("--rollouts", type=int, default=4, help="scored of each robot, as it adapts (default 4)")
    parser.add_argument("--split", default="train", choices=("train", "test", "outside"), help="default train")
    parser.add_argument("--robot", help="name or YAML of the twin's robot (default: that of the file)")
    parser.add_argument("--real-time", action="store_true", help="over the bus in real time, not in lockstep")
    parser.add_argument("--workers", type=int, default=2, help="processes in lockstep (default 2)")
    parser.add_argument("--out", metavar="FILE.json", help="write the figures")
    options = parser.parse_args(argv)
    bundle = read_bundle(options.file)
    seeds = [FIRST_SEED + i for i in range(options.twins)]
    robot = options.robot or bundle.spec.name
    if options.real_time:
        scores = [real_time(bundle, seed, options.rollouts, robot, options.split) for seed in seeds]
    else:
        work = partial(_lockstep_file, options.file, options.rollouts, robot, options.split)
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            scores = list(pool.map(work, seeds, chunksize=4))
    result = {"file": Path(options.file).name, "split": options.split, "real_time": options.real_time}
    result |= summarise(scores, options.rollouts)
    taught = lesson(bundle) or 1
    for k, (success, value) in enumerate(zip(result["success"], result["return"], strict=True)):
        mean, low, high = (100 * x for x in success)
        print(f"after {k * taught} rollouts: success {mean:.1f} % [{low:.1f}, {high:.1f}], return {value[0]:.1f}")
    if options.out:
        write_atomically(options.out, json.dumps(result, indent=1))
    return 0


def _lockstep_file(file: str, rollouts: int, robot: str, split: str, seed: int) -> TwinScore:
    return lockstep(read_bundle(file), seed, rollouts, robot, split)
