"""Few-shot adaptation on a robot: rollouts that teach, a gate, and a file with another initial fast state, or none.

The policy runs as it is, and what follows from its rollouts is a candidate. Before that may act it runs in the shadow
of the deployed policy on what was recorded; then both take turns on the robot until a statistical test tells whether
the candidate is better. Without that it is not deployed. Everything is on disk before it is used: after an interruption
of any kind the same command goes on. Nothing here imports torch or a simulator.
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

from adapt.gate import Verdict, decide, shadow_run
from adapt.methods import AdaptationError, HelperLost, Method, method_of
from adapt.scored import ADAPTED, TEACHING, UNADAPTED, Scored
from adapt.session import Plan, Session, folder_for
from hardware_io.bundle import Bundle, file_digest, read_bundle
from hardware_io.clock import MonotonicClock
from hardware_io.config import ConfigError, build, write_atomically
from hardware_io.loop import ControlLoop
from hardware_io.options import add_driver_options, driver_of
from hardware_io.run import INTERRUPTED, OK, SAFETY, STOPPED, TERMINATED, rest_of
from hardware_io.runtime import Policy
from hardware_io.timing import Terminated

Float32 = NDArray[np.float32]
ROLLED_BACK = 3  # exit status
ROLLOUTS = 3  # that teach a learner that adapts inside the graph


@dataclass
class Adaptation:
    """What some rollouts came to. `F` fast state."""

    rollouts: list[Scored] = field(default_factory=list)
    candidate: NDArray[np.float32] | None = None  # (F,) what would be deployed
    accepted: bool = False
    reason: str = ""

    def of(self, role: str) -> list[Scored]:
        """The rollouts whose role begins so."""
        return [one for one in self.rollouts if one.rollout.role.startswith(role)]


def adapt_on_robot(session: Session, method: Method, deployed: Float32, start: Float32 | None = None) -> Adaptation:
    """Adapt, and judge against the deployed fast state (F,), which is also the `start` unless another is given.

    The session's loop is open. Raises what ControlLoop.rollout raises, and ConfigError.
    """
    fast, verdict, lessons = deployed if start is None else start, None, session.plan.lessons()
    for number, count in enumerate(lessons):
        support = record(session, f"{TEACHING} {number + 1}", fast, count, method.explores)
        fast, problem = learn(session, method, number, support, deployed, last=number + 1 == len(lessons))
        if problem:
            verdict = Verdict(False, problem)
            break
    return _concluded(session, fast, verdict or judge(session, deployed, fast))


def record(session: Session, role: str, fast: Float32, count: int, explore: bool) -> list[Scored]:
    """`count` rollouts from `fast` (F,), which a graph that adapts carries from one to the next."""
    support: list[Scored] = []
    for _ in range(count):
        support.append(session.rollout(role, support[-1].rollout.fast_end if support else fast, explore))
    return support


def learn(
    session: Session, method: Method, number: int, support: list[Scored], deployed: Float32, last: bool
) -> tuple[Float32, str]:
    """What follows from rollouts of one role, (F,), and why it may not act, if so. The robot is damped meanwhile."""
    role, bundle = support[0].rollout.role, session.bundle

    def adapted() -> dict[str, Any]:
        try:
            fast = method.adapt(support, session.logs, role, last)
        except AdaptationError as error:
            return {"fast": support[0].rollout.fast_start, "problem": f"nothing was learned: {error}"}
        return {"fast": np.where(bundle.kept, fast, bundle.fast).astype(np.float32), "problem": ""}

    def shadowed() -> dict[str, Any]:
        seen = [one.rollout.observation[:-1] for one in support]
        shadow = shadow_run(bundle.with_fast(deployed), seen, candidate)
        problem = f"the adapted policy may not act: {shadow.problem}" if shadow.problem else ""
        return {"steps": shadow.steps, "difference": shadow.difference, "problem": problem}

    made = session.decide("adapted", number, lambda: session.meanwhile(adapted))
    candidate = np.array(made["fast"], np.float32)
    if made["problem"]:
        return candidate, str(made["problem"])
    return candidate, str(session.decide("shadow", number, lambda: session.meanwhile(shadowed))["problem"])


def judge(session: Session, deployed: Float32, candidate: Float32) -> Verdict:
    """Both policies in turns, in an order that is drawn for each pair, until the gate decides."""
    if np.array_equal(candidate, deployed):
        return Verdict(False, "adaptation changed nothing")
    fasts, order = {UNADAPTED: deployed, ADAPTED: candidate}, session.draw(0, 1)
    done: dict[str, list[Scored]] = {UNADAPTED: [], ADAPTED: []}
    while True:
        for role in order.permutation([UNADAPTED, ADAPTED]).tolist():
            done[role].append(session.rollout(role, fasts[role]))
        verdict = decide(done[UNADAPTED], done[ADAPTED], session.plan.judge, session.plan.error_rate)
        if verdict is not None:
            return verdict


def _concluded(session: Session, candidate: Float32, verdict: Verdict) -> Adaptation:
    """The verdict, logged."""
    made = session.decide("gate", 0, lambda: {"accepted": verdict.accepted, "reason": verdict.reason})
    return Adaptation(list(session.rollouts), candidate, bool(made["accepted"]), str(made["reason"]))


def deploy(bundle: Bundle, result: Adaptation, path: Path) -> None:
    """Write the adapted file: the same graph, another initial fast state, and what it was learned from.

    Raises ConfigError when it cannot be written, ValueError when the gate did not accept it.
    """
    if result.candidate is None or not result.accepted:
        raise ValueError(f"{path}: not deployed: {result.reason}")
    record = {"rollouts": len(result.of(TEACHING)), "reason": result.reason, **_history(result.rollouts)}
    _write(path, bundle.with_fast(result.candidate, {"adapted": record}).to_bytes())


def main(argv: list[str]) -> int:
    """`acclimate adapt FILE.onnx`. Returns the exit status: 0 deployed, 1 stopped by safety, 3 rolled back.

    Raises BundleError, ConfigError, DriverError, RecordingError for bad input; then nothing has moved.
    """
    options = _arguments().parse_args(argv)
    source = Path(options.file)
    target = Path(options.out or source.with_name(f"{source.stem}.adapted.onnx"))
    bundle = read_bundle(source, options.robot)
    plan, clock, policy = plan_of(bundle, options), MonotonicClock(), Policy(bundle)
    robot, rest = driver_of(options, bundle.spec, clock), rest_of(bundle.spec, None)
    folder = Path(options.session) if options.session else folder_for(source)
    session = Session(folder, bundle, file_digest(source), plan, clock)
    session.report = tell
    status, opened = STOPPED, False
    try:
        with session, method_of(bundle, source) as method:
            session.loop = ControlLoop(policy, robot, clock, session.recorder, session.task.reward, rest=rest)
            with session.loop.session():
                opened = True
                if plan.every:
                    from adapt.watch import watch

                    result = watch(session, method, lambda found: deploy(bundle, found, target), options.turns)
                else:
                    result = adapt_on_robot(session, method, bundle.fast)
            status, verdict = conclude(bundle, result, source, target)
            session.end(status=status)
    except (*SAFETY, HelperLost) as error:
        if not opened:
            raise
        verdict = f"stopped: {error}"
    except Terminated:
        status, verdict = TERMINATED, "stopped: asked to end (SIGTERM)"
    except KeyboardInterrupt:
        status, verdict = INTERRUPTED, "stopped: interrupted (Ctrl-C)"
    if status in (OK, ROLLED_BACK):
        print(verdict)
    else:
        kept = "what was deployed stays" if plan.every else "nothing is deployed"
        print(f"{verdict}; {kept}, the same command goes on from {folder}", file=sys.stderr)
    if options.json:
        document = {"status": status, "accepted": status == OK, "reason": verdict, **_history(session.rollouts)}
        _write(Path(options.json), json.dumps(document, indent=2) + "\n")
    return status


def plan_of(bundle: Bundle, options: argparse.Namespace) -> Plan:
    """What the options ask for; what they leave open is as in training. Raises ConfigError."""
    given = {name: getattr(options, name) for name in ("rollouts", "judge", "error_rate", "seed", "false_alarms")}
    given["every"] = options.every if options.watch else None
    chosen = {name: value for name, value in given.items() if value is not None}
    rollouts = chosen.setdefault("rollouts", bundle.teaching.get("rollouts", ROLLOUTS))
    adaptations = max(1, min(bundle.teaching.get("adaptations", 1), rollouts))
    return build(Plan, {**chosen, "adaptations": adaptations}, "acclimate adapt")


def tell(one: Scored, remembered: bool) -> None:
    """A line for each rollout."""
    mark = "success" if one.success else one.rollout.outcome if one.rollout.outcome != "done" else "failed"
    print(f"{one.rollout.role}: return {one.value:.1f}, {mark}{' (on disk)' if remembered else ''}", flush=True)


def conclude(bundle: Bundle, result: Adaptation, source: Path, target: Path) -> tuple[int, str]:
    """Deploy what the gate accepted. Returns the exit status and what is told. Raises ConfigError."""
    if not result.accepted:
        return ROLLED_BACK, f"rolled back: {result.reason}; {source} stays as it is"
    deploy(bundle, result, target)
    return OK, f"deployed {target}: {result.reason}"


def _history(rollouts: list[Scored]) -> dict[str, Any]:
    return {
        "roles": [one.rollout.role for one in rollouts],
        "returns": [one.value for one in rollouts],
        "successes": [one.success for one in rollouts],
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
        epilog="Exit status: 0 deployed, 1 stopped by safety, 2 bad input, 3 rolled back: not shown to be better.",
    )
    parser.add_argument("file", metavar="FILE.onnx", help="exported policy")
    parser.add_argument("--rollouts", type=int, help=f"rollouts that teach (default: as in training, else {ROLLOUTS})")
    parser.add_argument("--judge", type=int, help="most rollouts of each policy that judge (default 6)")
    parser.add_argument("--error-rate", type=float, help="chance to deploy what is no better (default 0.05)")
    parser.add_argument("--seed", type=int, help="of exploration and of the order of rollouts (default 0)")
    parser.add_argument("--out", metavar="FILE.onnx", help="adapted file (default: FILE.adapted.onnx)")
    parser.add_argument("--session", metavar="FOLDER", help="its logs; one that was interrupted goes on (FILE.adapt)")
    parser.add_argument(
        "--watch", action="store_true", help="go on: adapt again and again, alarm when the robot changes"
    )
    parser.add_argument("--every", type=int, default=20, help="watched rollouts between adaptations (default 20)")
    parser.add_argument("--turns", type=int, help="of a watch, before it ends (default: until Ctrl-C)")
    parser.add_argument("--false-alarms", type=float, help="a watched rollout, on average, at most (default 0.005)")
    parser.add_argument("--robot", help="refuse a file that was made for another robot")
    add_driver_options(parser)
    parser.add_argument("--json", metavar="FILE.json", help="write the verdict for machines")
    return parser
