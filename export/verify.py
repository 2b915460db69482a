"""Check a deployable file: digest, robot, hidden NaN, latency and, beside its run, parity: `acclimate verify`.

Without a run it needs what a robot has: numpy and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from hardware_io.bundle import Bundle, file_digest, read_bundle
from hardware_io.observation import channel_of
from hardware_io.runtime import INPUTS, OUTPUTS, NonFinite, Policy, open_session
from hardware_io.spec import RobotSpec

if TYPE_CHECKING:
    from adapt.learner import MetaLearner
    from export.parity import Parity

CALLS = 2000  # timed inferences


@dataclass(frozen=True)
class Latency:
    """Of one inference on one thread with its checks, µs."""

    p50: float
    p99: float
    worst: float
    calls: int


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and found; `problems` is empty when the file may be deployed."""

    file: str
    robot: str
    task: str
    learner: str
    digest: str
    size: int  # bytes
    fast: int  # F
    latency: Latency
    parity: Parity | None  # None without a run
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        lines = [
            f"file        {self.file} ({self.size / 1000:.1f} kB)",
            f"robot       {self.robot}, task {self.task}, learner {self.learner}, fast state of {self.fast}",
            f"digest      sha256 {self.digest}: matches",
            f"latency     p50 {self.latency.p50:.1f} µs, p99 {self.latency.p99:.1f} µs"
            f" ({self.latency.calls} calls, one thread)",
        ]
        if self.parity is None:
            lines.append("parity      not checked: no run was given")
        else:
            parts = [("a trial with resets", self.parity.trial), ("one by one", self.parity.long)]
            what = "; ".join(f"{d.steps} steps {name}: command {d.command:.1e}, fast {d.fast:.1e}" for name, d in parts)
            if rounding := max(d.rounding for _, d in parts):
                what += f"; single precision against double, in PyTorch: {rounding:.1e}"
            lines.append(f"parity      {what}")
        lines += [f"problem     {problem}" for problem in self.problems]
        return "\n".join(lines)

    def to_json(self) -> str:
        return json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False)


def verify(
    path: str | Path, learner: MetaLearner | None = None, spec: RobotSpec | None = None, robot: str | None = None
) -> VerifyReport:
    """Check a file; with the learner and the spec it was made from, also that both do the same.

    Raises BundleError that says which when the file is truncated, altered, made for another robot than `robot` (or
    the spec's), or not for this ONNX Runtime. What else is wrong stands in the report.
    """
    robot = robot or (spec.name if spec else None)
    path = Path(path)
    bundle = read_bundle(path, robot)
    policy, session = Policy(bundle), open_session(bundle.graph)
    problems = hidden_nan(session, bundle) + unrefused_nan(policy)
    compared = None
    if learner is not None and spec is not None:
        from export.parity import parity  # torch and the simulator, only where they are needed

        foreign = other_origin(bundle, learner, spec)
        problems += foreign
        if not foreign:
            compared = parity(policy, session, learner, spec)
            problems += compared_badly(compared)
    return VerifyReport(
        str(path),
        bundle.spec.name,
        str(bundle.task.get("name")),
        bundle.learner,
        file_digest(path),
        path.stat().st_size,
        bundle.fast.size,
        measure_latency(policy),
        compared,
        tuple(problems),
    )


def other_origin(bundle: Bundle, learner: MetaLearner, spec: RobotSpec) -> list[str]:
    """What shows that a file was not made from this learner and robot: one line each."""
    problems = []
    if spec != bundle.spec:
        problems.append(f"robot {spec.name}: its specification in the file is not that of the run")
    if learner.kept.tolist() != bundle.kept.tolist():
        problems.append(
            f"fast state: of {bundle.fast.size} values, {bundle.kept.sum()} of them kept, in the file; "
            f"of {len(learner.kept)}, {int(learner.kept.sum())} of them kept, in the run"
        )
    return problems


def compared_badly(parity: Parity) -> list[str]:
    """Differences above the tolerance, and above what rounding explains: one line each."""
    return [
        f"parity over {name} of {difference.steps} steps: command differs by {difference.command:.3g} of its limit, "
        f"fast state by {difference.fast:.3g}; allowed: {difference.allowed:.3g}"
        for name, difference in (("a trial", parity.trial), ("single steps", parity.long))
        if not difference.ok
    ]


def hidden_nan(session: onnxruntime.InferenceSession, bundle: Bundle) -> list[str]:
    """Inputs whose NaN the bare graph turns into finite numbers: one line each, none for a sound graph.

    NaN in the observation must reach the command; NaN elsewhere must reach some output.
    """
    problems = []
    for name, size in zip(INPUTS, _sizes(bundle), strict=True):
        for index in range(size):
            feed = _probe(bundle)
            feed[name][0, index] = np.nan
            command, fast = session.run(list(OUTPUTS), feed)
            seen = [command] if name == "observation" else [command, fast]
            if all(np.isfinite(values).all() for values in seen):
                place = channel_of(bundle.spec, index) if name == "observation" else f"[{index}]"
                problems.append(f"graph input {name}, {place}: NaN comes out finite, command {command[0].tolist()}")
    return problems


def unrefused_nan(policy: Policy) -> list[str]:
    """Inputs whose NaN or infinity the runtime lets pass: one line each."""
    problems = []
    for name, size in zip(INPUTS, _sizes(policy.bundle), strict=True):
        for index in range(size):
            for value in (np.nan, np.inf, -np.inf):
                feed = _probe(policy.bundle)
                feed[name][0, index] = value
                try:
                    policy.step(*(feed[key][0] for key in INPUTS))
                except NonFinite:
                    continue
                problems.append(f"runtime input {name}, [{index}]: {value} was not refused")
    return problems


def measure_latency(policy: Policy, calls: int = CALLS) -> Latency:
    """Time `calls` inferences through the runtime, as the control loop makes them."""
    feed = _probe(policy.bundle)
    observation, fast, noise = (feed[name][0] for name in INPUTS)
    times = np.empty(calls)
    for call in range(calls):
        begun = time.perf_counter_ns()
        policy.step(observation, fast, noise)
        times[call] = (time.perf_counter_ns() - begun) / 1000
    return Latency(float(np.percentile(times, 50)), float(np.percentile(times, 99)), float(times.max()), calls)


def _sizes(bundle: Bundle) -> tuple[int, int, int]:
    """O, F and A."""
    return bundle.spec.observation_size, bundle.fast.size, bundle.spec.action_size


def _probe(bundle: Bundle) -> dict[str, np.ndarray]:
    """Finite inputs of a batch of 1, with the fast state a robot begins with."""
    observation, _, action = _sizes(bundle)
    values = (np.full(observation, 0.1), bundle.fast, np.zeros(action))
    return {name: np.array(value, np.float32)[None] for name, value in zip(INPUTS, values, strict=True)}


def main(argv: list[str]) -> int:
    """`acclimate verify FILE.onnx`: 0 sound, 1 a check failed; a file that is refused raises BundleError (2)."""
    parser = argparse.ArgumentParser(
        prog="acclimate verify",
        description="Check an exported file: digest, robot, hidden NaN, latency in µs and, with --run, parity.",
        epilog="Exit status: 0 sound, 1 a check failed, 2 refused (truncated, altered or made for another robot).",
    )
    parser.add_argument("file", metavar="FILE.onnx", type=Path)
    parser.add_argument("--run", metavar="RUN", type=Path, help="folder of the training run, to compare with PyTorch")
    parser.add_argument("--robot", metavar="NAME", help="refuse a file made for another robot")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(argv)
    learner = spec = None
    if arguments.run:
        from adapt.run_folder import load_run

        run = load_run(arguments.run)
        learner, spec = run.learner, run.spec
    report = verify(arguments.file, learner, spec, arguments.robot)
    print(report.to_json() if arguments.json else report)
    return 0 if report.ok else 1
