"""Few-shot adaptation on a robot: some rollouts, a gate, and a file with another initial fast state, or none.

The first rollout runs the policy as it is; the fast state is carried from rollout to rollout, and one more rollout
tries what was learned. Adaptation is deployed only if that is no worse than the un-adapted policy was on this robot.
Learners that adapt inside the graph need no more than this; nothing here imports torch or a simulator.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.bundle import Bundle, file_digest, read_bundle
from hardware_io.clock import MonotonicClock
from hardware_io.config import ConfigError, write_atomically
from hardware_io.loop import ControlLoop
from hardware_io.options import add_driver_options, driver_of
from hardware_io.recorder import Recorder
from hardware_io.recording import Rollout
from hardware_io.run import INTERRUPTED, OK, SAFETY, STOPPED, TERMINATED, rest_of
from hardware_io.runtime import Policy
from hardware_io.timing import Terminated
from sim.tasks import Task, make_task

ROLLED_BACK = 3  # exit status
MARGIN = 0.05  # of the un-adapted return, which noise alone may cost an adapted policy


@dataclass(frozen=True)
class Scored:
    """One rollout and what the task says of it, from what the robot sensed."""

    rollout: Rollout
    value: float  # return
    success: bool


@dataclass
class Adaptation:
    """What some rollouts came to. `F` fast state."""

    rollouts: list[Scored] = field(default_factory=list)  # un-adapted first; the last one tried the candidate
    candidate: NDArray[np.float32] | None = None  # (F,) what would be deployed
    accepted: bool = False
    reason: str = ""


def task_of(bundle: Bundle) -> Task:
    """The task that a file was trained for. Raises ConfigError."""
    settings = dict(bundle.task)
    return make_task(settings.pop("name"), bundle.spec, **settings)


def scored(task: Task, rollout: Rollout) -> Scored:
    """Return and success of a real rollout; one that ended early has failed."""
    reward = task.reward(rollout.observation[:-1], rollout.asked, rollout.observation[1:])
    whole = rollout.outcome == "done" and rollout.steps == task.steps
    success = whole and bool(task.success(rollout.observation, np.ones(rollout.steps, bool)))
    return Scored(rollout, float(np.sum(reward)), success)


def gate(before: Scored, after: Scored) -> tuple[bool, str]:
    """Whether the adapted policy may stay, and why."""
    verdict = f"return {after.value:.1f} against {before.value:.1f} un-adapted"
    if after.rollout.outcome != "done":
        return False, f"the adapted policy left the limits ({after.rollout.reason}); {verdict}"
    if before.success and not after.success:
        return False, f"the un-adapted policy succeeded and the adapted one did not; {verdict}"
    if after.value < before.value - MARGIN * abs(before.value) and after.success <= before.success:
        return False, f"worse than un-adapted; {verdict}"
    return True, verdict


def adapt_on_robot(loop: ControlLoop, task: Task, rollouts: int, report: Any = None) -> Adaptation:
    """`rollouts` rollouts that teach and one that judges, in an open session; the robot settles before each.

    `report(number, Scored)` is called after each. Raises what ControlLoop.rollout raises.
    """
    result, fast = Adaptation(), loop.policy.fast0
    for number in range(rollouts + 1):
        loop.settle()
        if number == rollouts:
            result.candidate = loop.policy.start_fast(fast)  # as this rollout and a deployed file start
        one = scored(task, loop.rollout(fast, task.steps))
        result.rollouts.append(one)
        fast = one.rollout.fast_end
        if report is not None:
            report(number, one)
    result.accepted, result.reason = gate(result.rollouts[0], result.rollouts[-1])
    return result


def deploy(bundle: Bundle, result: Adaptation, path: Path) -> None:
    """Write the adapted file: the same graph, another initial fast state, and what it was learned from.

    Raises ConfigError when it cannot be written, ValueError when the gate did not accept it.
    """
    if result.candidate is None or not result.accepted:
        raise ValueError(f"{path}: not deployed: {result.reason}")
    record = {"rollouts": len(result.rollouts) - 1, "reason": result.reason, **_history(result)}
    _write(path, bundle.with_fast(result.candidate, {"adapted": record}).to_bytes())


def free_name(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, … that does not exist: a log is never written over."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def main(argv: list[str]) -> int:
    """`acclimate adapt FILE.onnx`. Returns the exit status: 0 deployed, 1 stopped by safety, 3 rolled back.

    Raises BundleError, ConfigError, DriverError, RecordingError for bad input; then nothing has moved.
    """
    options = _arguments().parse_args(argv)
    if options.rollouts < 1:
        raise ConfigError("acclimate adapt", "--rollouts", options.rollouts, "at least 1")
    source = Path(options.file)
    target = Path(options.out or source.with_name(f"{source.stem}.adapted.onnx"))
    log = Path(options.record) if options.record else free_name(source.with_name(f"{source.stem}.adapt.mcap"))
    bundle = read_bundle(source, options.robot)
    task, clock, policy = task_of(bundle), MonotonicClock(), Policy(bundle)
    robot, rest, digest = driver_of(options, bundle.spec, clock), rest_of(bundle.spec, None), file_digest(source)
    result, status, opened = Adaptation(), STOPPED, False

    def report(number: int, one: Scored) -> None:
        role = "un-adapted" if number == 0 else "judged" if number == options.rollouts else "adapting"
        mark = "success" if one.success else one.rollout.outcome if one.rollout.outcome != "done" else "failed"
        print(f"rollout {number} ({role}): return {one.value:.1f}, {mark}", flush=True)

    try:
        with Recorder(log, bundle.spec, clock, bundle=digest, task=bundle.task) as recorder:
            loop = ControlLoop(policy, robot, clock, recorder, task.reward, rest=rest)
            with loop.session():
                opened = True
                result = adapt_on_robot(loop, task, options.rollouts, report)
            recorder.event("gate", accepted=result.accepted, reason=result.reason)
    except SAFETY as error:
        if not opened:
            raise
        verdict = f"stopped: {error}"
    except Terminated:
        status, verdict = TERMINATED, "stopped: asked to end (SIGTERM)"
    except KeyboardInterrupt:
        status, verdict = INTERRUPTED, "stopped: interrupted (Ctrl-C)"
    else:
        status, verdict = conclude(bundle, result, source, target)
    if status in (OK, ROLLED_BACK):
        print(verdict)
    else:
        print(f"{verdict}; nothing is deployed, what the robot did is in {log}", file=sys.stderr)
    if options.json:
        document = {"status": status, "accepted": status == OK, "reason": verdict, **_history(result)}
        _write(Path(options.json), json.dumps(document, indent=2) + "\n")
    return status


def conclude(bundle: Bundle, result: Adaptation, source: Path, target: Path) -> tuple[int, str]:
    """Deploy what the gate accepted. Returns the exit status and what is told. Raises ConfigError."""
    if not result.accepted:
        return ROLLED_BACK, f"rolled back: {result.reason}; {source} stays as it is"
    deploy(bundle, result, target)
    return OK, f"deployed {target}: {result.reason}"


def _history(result: Adaptation) -> dict[str, Any]:
    return {
        "returns": [one.value for one in result.rollouts],
        "successes": [one.success for one in result.rollouts],
    }


def _write(path: Path, data: bytes | str) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(str(path), "", error.strerror, "a file that can be written") from error


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="acclimate adapt",
        description=(__doc__ or "").split("\n")[0],
        epilog="Exit status: 0 deployed, 1 stopped by safety, 2 bad input, 3 rolled back: worse than un-adapted.",
    )
    parser.add_argument("file", metavar="FILE.onnx", help="exported policy")
    parser.add_argument("--rollouts", type=int, default=3, help="rollouts that teach; one more judges (default 3)")
    parser.add_argument("--out", metavar="FILE.onnx", help="adapted file (default: FILE.adapted.onnx)")
    parser.add_argument("--record", metavar="FILE.mcap", help="log of all rollouts (default: FILE.adapt.mcap)")
    parser.add_argument("--robot", help="refuse a file that was made for another robot")
    add_driver_options(parser)
    parser.add_argument("--json", metavar="FILE.json", help="write the verdict for machines")
    return parser
