"""The control loop: microseconds of computing a tick, and how late ticks begin in real time over the motor bus.

Lateness belongs to the machine first, so bare loops that only sleep until absolute deadlines take turns with ours:
one in Python and, where there is a compiler, one in C.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from adapt.twins import twin_process
from benchmarks.inference import untrained
from benchmarks.measure import Figure, summary, take_turns
from hardware_io.bundle import Bundle
from hardware_io.clock import MonotonicClock, VirtualClock
from hardware_io.drivers import make_driver
from hardware_io.envelope import EnvelopeStop
from hardware_io.loop import ControlLoop
from hardware_io.recorder import Recorder
from hardware_io.runtime import Policy
from hardware_io.spec import RobotSpec
from hardware_io.state import DriverError, JointCommand, JointState, StaleState
from hardware_io.timing import Grid, real_time, undisturbed
from sim.robots import load_robot

ROBOT = "simple_pendulum"
PATIENT = {"missed_deadlines": 1000, "stale_after": 1.0, "still_time": 0.1, "still_velocity": 1.0}
QUANTILES = {"p50": 50, "p99": 99, "max": 100}


class Motionless:
    """A robot without a bus that hangs still: what is left of a tick is the loop itself."""

    def __init__(self, spec: RobotSpec, clock: VirtualClock) -> None:
        self._clock, self._zero = clock, np.zeros(len(spec.joints))

    def open(self) -> None:
        """Nothing to connect."""

    def enable(self) -> None:
        """Nothing to enable."""

    def read(self, timeout: float) -> JointState:
        return JointState(self._clock.now(), self._zero, self._zero, self._zero)

    def write(self, command: JointCommand) -> JointCommand:
        return command

    def stop(self) -> None:
        """Nothing to stop."""


def lockstep(bundle: Bundle, steps: int, turns: int) -> list[Figure]:
    """One rollout a turn on a virtual clock, with and without the log on disk."""
    ticks, section = steps * bundle.spec.period.ratio, f"control loop: lockstep, no bus, {_rates(bundle.spec)}"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def loop_of(recorded: bool) -> ControlLoop:
            clock, policy = VirtualClock(), Policy(bundle)
            recorder = Recorder(Path(folder) / "log.mcap", bundle.spec, clock) if recorded else None
            if recorder is not None:
                stack.callback(recorder.close)
            return stack.enter_context(ControlLoop(policy, Motionless(bundle.spec, clock), clock, recorder).session())

        def turn(loop: ControlLoop) -> float:
            begun = time.perf_counter()
            loop.rollout(bundle.fast, steps)
            return (time.perf_counter() - begun) / ticks * 1e6

        loops = {"one tick": loop_of(False), "one tick, recorded": loop_of(True)}
        values = take_turns({name: partial(turn, loop) for name, loop in loops.items()}, turns)
    return [summary(section, name, taken, "µs") for name, taken in values.items()]


def in_real_time(bundle: Bundle, steps: int, turns: int) -> list[Figure]:
    """Rollouts on a twin in a process of its own over a serial CAN adapter, and bare loops of as many ticks."""
    spec, late = bundle.spec, dict[str, list[np.ndarray]]()
    ticks, section = steps * spec.period.ratio, f"control loop: real time, slcan to a twin, {_rates(spec)}"
    with ExitStack() as stack:
        clock = MonotonicClock()
        twin = stack.enter_context(twin_process(ROBOT, 0))
        driver = make_driver("can_mit", spec, clock, interface="slcan", channel=twin.channel)
        loop = stack.enter_context(ControlLoop(Policy(bundle), driver, clock).session())
        loop.settle()  # before the first pause
        contestants: dict[str, Callable[[], np.ndarray]] = {
            "control loop": partial(_rollout, loop, bundle, steps),
            "bare loop in Python": partial(_bare_python, spec.period.io, ticks),
        }
        program = _compiled(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if program is not None:
            contestants["bare loop in C"] = partial(_bare_c, program, spec.period.io, ticks)

        def turn(name: str) -> float:
            late.setdefault(name, []).append(contestants[name]())
            return 0.0

        try:
            take_turns({name: partial(turn, name) for name in contestants}, turns)
        except (EnvelopeStop, StaleState, DriverError) as error:
            return [summary(section, f"stopped by safety: {error}", [0.0], "")]
        scheduling = loop.scheduling
    return [
        summary(
            section, f"{name}: late {label}", [np.percentile(run, q) for run in late[name][1:]], "µs", note=scheduling
        )
        for name in contestants
        for label, q in QUANTILES.items()
    ]


def _rollout(loop: ControlLoop, bundle: Bundle, steps: int) -> np.ndarray:
    """Lateness of each tick, µs."""
    loop.settle()
    return loop.rollout(bundle.fast, steps).late * 1e6


def _bare_python(period: float, ticks: int) -> np.ndarray:
    """Lateness of each tick, µs, under the priority and without the garbage collector, as in a rollout."""
    clock, late = MonotonicClock(), np.empty(ticks)
    with undisturbed(), real_time():
        grid = Grid(clock, period)
        for index in range(ticks):
            _, due, _ = grid.next()
            late[index] = clock.now() - due
    return late * 1e6


def _bare_c(program: Path, period: float, ticks: int) -> np.ndarray:
    """Lateness of each tick, µs."""
    command = [str(program), str(round(period * 1e6)), str(ticks)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.array([float(line) for line in result.stdout.split()])


def _compiled(folder: Path) -> Path | None:
    """The bare loop in C, or None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program, source = folder / "bare_sleep", Path(__file__).with_name("bare_sleep.c")
    done = subprocess.run([compiler, "-O2", "-o", str(program), str(source)], capture_output=True)
    return program if done.returncode == 0 else None


def _rates(spec: RobotSpec) -> str:
    return f"{1 / spec.period.io:.0f} Hz I/O, {1 / spec.period.policy:.0f} Hz policy"


def measure(quick: bool) -> list[Figure]:
    """Everything about the loop, with RL² in it."""
    spec = load_robot(ROBOT)
    document = spec.to_dict()
    document["safety"] |= PATIENT  # a shared machine's pauses are measured here, not judged
    patient = RobotSpec.from_dict(document, spec.source)
    bundle = untrained("rl2", patient, {})
    figures = lockstep(bundle, 20 if quick else 500, 2 if quick else 7)
    return figures + in_real_time(bundle, 5 if quick else 75, 1 if quick else 5)
