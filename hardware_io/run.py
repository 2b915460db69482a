"""`acclimate run`: an exported file on a robot at a fixed rate, rollout by rollout, the fast state carried along."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hardware_io.bundle import Bundle, BundleError, file_digest, read_bundle
from hardware_io.clock import MonotonicClock
from hardware_io.config import ConfigError, write_atomically
from hardware_io.envelope import EnvelopeStop
from hardware_io.loop import ControlLoop
from hardware_io.options import add_driver_options, driver_of
from hardware_io.recorder import Recorder, RecordingError
from hardware_io.recording import Rollout
from hardware_io.runtime import NonFinite, Policy
from hardware_io.spec import RobotSpec
from hardware_io.state import Array, DriverError, StaleState
from hardware_io.timing import Terminated

OK, STOPPED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
SAFETY = (EnvelopeStop, NonFinite, StaleState, DriverError, RecordingError)
REFUSED = (BundleError, ConfigError, DriverError, RecordingError, ValueError)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "acclimate run",
        description=__doc__.splitlines()[0].split(": ", 1)[1].capitalize(),
        epilog="Exit status: 0 ok, 1 stopped by safety (the reason is printed), 2 bad input.",
    )
    parser.add_argument("file", type=Path, help="an exported or adapted .onnx file")
    add_driver_options(parser)
    parser.add_argument("--robot", metavar="NAME", help="refuse a file made for any other robot")
    parser.add_argument("--rollouts", type=int, default=1, metavar="K", help="how many (1)")
    parser.add_argument("--duration", type=float, metavar="S", help="of a rollout, s (the task's)")
    parser.add_argument("--rest", metavar="POSE", help="where rollouts start, or `anywhere` (hanging, if it has one)")
    parser.add_argument("--dry-run", action="store_true", help="enable no motor; tell what would be sent")
    parser.add_argument("--explore", action="store_true", help="draw the policy's exploration noise")
    parser.add_argument("--seed", type=int, default=0, help="of the exploration noise (0)")
    parser.add_argument("--record", type=Path, metavar="FILE.mcap", help="log every tick; never overwrites")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary as JSON")
    return parser


def main(argv: list[str]) -> int:
    """Returns the exit status; every way out leaves the robot stopped, damped and disabled."""
    options = parser().parse_args(argv)
    session = _Session(options)
    recorder: Recorder | None = None
    try:
        bundle = read_bundle(options.file, options.robot)
        clock, policy = MonotonicClock(), Policy(bundle)
        if options.rollouts < 1:
            raise ConfigError("acclimate run", "--rollouts", options.rollouts, "at least 1")
        steps, rest = steps_of(bundle, options.duration), rest_of(bundle.spec, options.rest)
        robot = driver_of(options, bundle.spec, clock)
        if options.record:
            digest = file_digest(options.file)
            recorder = Recorder(options.record, bundle.spec, clock, bundle=digest, task=bundle.task)
        loop = ControlLoop(policy, robot, clock, recorder, dry_run=options.dry_run, rest=rest)
    except REFUSED as error:
        status = session.end(BAD_INPUT, str(error))
    else:
        status = session.run(loop, bundle, steps)
    if recorder:
        try:
            recorder.close()
        except RecordingError as error:
            status = status or session.end(STOPPED, f"log not finished: {error}")
    if options.json:
        try:
            write_atomically(options.json, json.dumps(session.document, indent=2) + "\n")
        except OSError as error:
            status = status or session.end(BAD_INPUT, f"{options.json}: cannot be written: {error.strerror}")
    return status


def steps_of(bundle: Bundle, duration: float | None) -> int:
    """Policy steps of a rollout of `duration` s, or as long as the task's. Raises ConfigError."""
    length = duration if duration is not None else bundle.task.get("duration")
    period = bundle.spec.period.policy
    if not isinstance(length, int | float) or not period <= length < float("inf"):
        raise ConfigError("acclimate run", "--duration", length, f"at least one policy period, {period} s")
    return round(length / period)


def rest_of(spec: RobotSpec, name: str | None) -> Array | None:
    """The pose near which rollouts start, (J,) rad; None for anywhere. Raises ConfigError."""
    if name == "anywhere" or (name is None and "hanging" not in spec.poses):
        return None
    name = name or "hanging"
    if name not in spec.poses:
        raise ConfigError("acclimate run", "--rest", name, f"one of {', '.join([*spec.poses, 'anywhere'])}")
    return np.array(spec.poses[name])


def summary(rollout: Rollout) -> dict[str, Any]:
    """What is told about a rollout: times in ms."""
    late, latency = rollout.late * 1e3, rollout.latency * 1e3
    return {
        "outcome": rollout.outcome,
        "reason": rollout.reason,
        "steps": rollout.steps,
        "ticks": len(late),
        "missed": rollout.missed,
        "late_ms": _quantiles(late),
        "inference_ms": _quantiles(latency),
    }


def _quantiles(values: Array) -> dict[str, float]:
    if not len(values):
        return {}
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": round(p50, 4), "p99": round(p99, 4), "max": round(float(values.max()), 4)}


class _Session:
    """The rollouts of one call and what is told about them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.document: dict[str, Any] = {"file": str(options.file), "dry_run": options.dry_run, "rollouts": []}

    def run(self, loop: ControlLoop, bundle: Bundle, steps: int) -> int:
        """All rollouts. Returns the exit status: a robot that cannot be opened is bad input, later it is a stop."""
        rng = np.random.default_rng(self._options.seed) if self._options.explore else None
        fast = bundle.fast
        self.document |= {"robot": bundle.spec.name, "learner": bundle.learner, "task": bundle.task}
        entered = False
        try:
            with loop.session():
                entered = True
                for _ in range(self._options.rollouts):
                    loop.settle()
                    rollout = loop.rollout(fast, steps, rng)
                    fast = rollout.fast_end
                    self._tell(rollout)
                self.document["scheduling"] = loop.scheduling
        except SAFETY as error:
            return self.end(STOPPED, f"stopped: {error}") if entered else self.end(BAD_INPUT, str(error))
        except Terminated:
            return self.end(TERMINATED, "stopped: asked to end (SIGTERM)")
        except KeyboardInterrupt:
            return self.end(INTERRUPTED, "stopped: interrupted (Ctrl-C)")
        return self.end(OK, "")

    def end(self, status: int, reason: str) -> int:
        """Note how it ended, and tell why if it was no ordinary end."""
        self.document |= {"status": status, "reason": reason}
        if reason:
            print(f"error: {reason}" if status == BAD_INPUT else reason, file=sys.stderr, flush=True)
        return status

    def _tell(self, rollout: Rollout) -> None:
        told = summary(rollout)
        self.document["rollouts"].append(told)
        late, inference = told["late_ms"], told["inference_ms"]
        parts = [f"rollout {len(self.document['rollouts'])}: {told['outcome']}, {told['steps']} steps"]
        parts.append(f"late p50 {late['p50']:.2f} p99 {late['p99']:.2f} max {late['max']:.2f} ms")
        if inference:
            parts.append(f"inference p50 {inference['p50']:.3f} p99 {inference['p99']:.3f} ms")
        parts.append(f"missed {told['missed']}")
        if told["reason"]:
            parts.append(told["reason"])
        print(" · ".join(parts), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
