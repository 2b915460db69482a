"""`acclimate monitor` and `acclimate jog`: look at a robot without touching it, and move one joint a little."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from hardware_io.clock import Clock, MonotonicClock
from hardware_io.config import ConfigError
from hardware_io.envelope import Envelope, EnvelopeStop
from hardware_io.options import add_driver_options, driver_of
from hardware_io.prompt import ask_operator
from hardware_io.robots import load_robot
from hardware_io.spec import RobotSpec
from hardware_io.state import DriverError, JointState, Pollable, RobotIO, StaleState
from hardware_io.timing import Grid, Interruptions

OK, STOPPED, INTERRUPTED = 0, 1, 130
ANSWER = 0.2  # s, for a robot to answer
SHOW_PERIOD = 0.1  # s between two tables
NEAR_LIMIT = 0.9  # of a limit, from where a value is marked
MAX_JOG = 0.3  # rad
RAMP_SPEED = 0.2  # rad/s
HOLD = 0.5  # s at each end of the way, of which the last half is measured
REACH = 0.1  # rad of error that asks for the whole torque limit
DAMPING_TIME = 0.05  # s: kd = kp · this
FOLLOWED = 0.5  # of the wanted way, from where the joint counts as having followed


@dataclass(frozen=True)
class Jog:
    """What a joint did, on the joint side."""

    joint: str
    asked: float  # rad
    moved: float  # rad
    returned: float  # rad, how far from the start it ended
    torque: float  # N·m at the far end

    @property
    def followed(self) -> bool:
        return self.moved / self.asked >= FOLLOWED


def table(spec: RobotSpec, state: JointState) -> str:
    """One line a joint: position, velocity and torque with their limits; `!` near a limit, `!!` beyond it."""
    lines = [f"{'joint':<16} {'position rad':>26} {'velocity rad/s':>22} {'torque N·m':>20}"]
    rows = zip(spec.joints.items(), state.position, state.velocity, state.torque, strict=True)
    for (name, joint), position, velocity, torque in rows:
        low, high = joint.position_limit
        middle, half = (low + high) / 2, (high - low) / 2
        cells = (
            f"{position:+8.3f} {_mark(position - middle, half):<2} [{low:g}, {high:g}]",
            f"{velocity:+8.3f} {_mark(velocity, joint.velocity_limit):<2} ±{joint.velocity_limit:g}",
            f"{torque:+7.3f} {_mark(torque, joint.torque_limit):<2} ±{joint.torque_limit:g}",
        )
        lines.append(f"{name:<16} {cells[0]:>26} {cells[1]:>22} {cells[2]:>20}")
    return "\n".join(lines)


def _mark(value: float, limit: float) -> str:
    share = abs(value) / limit if limit else 0.0
    return "!!" if share > 1.0 else "!" if share > NEAR_LIMIT else ""


def monitor(robot: RobotIO, spec: RobotSpec, clock: Clock, once: bool = False) -> None:
    """Show the state, ten times a second until interrupted. Enables nothing. Raises DriverError, StaleState."""
    if not isinstance(robot, Pollable):
        raise DriverError(f"{type(robot).__name__} cannot poll a state; monitor needs a driver that can")
    home = "\x1b[H\x1b[2J" if sys.stdout.isatty() and not once else ""
    try:
        robot.open()
        grid = Grid(clock, SHOW_PERIOD)
        while True:
            grid.next()
            robot.poll()
            try:
                text = table(spec, robot.read(ANSWER))
            except StaleState as error:
                if once:
                    raise
                text = f"no answer: {error}"
            print(f"{home}{text}", flush=True)
            if once:
                return
    finally:
        robot.stop()


def jog(robot: RobotIO, spec: RobotSpec, clock: Clock, joint: str, by: float) -> Jog:
    """Move one joint by `by` rad and back, slowly, inside the envelope; the others are damped or without torque.

    The motor's own spring and damper do it, so that latency does not matter; torque stays below the joint's limit.
    Raises ConfigError for a way that leaves the limits; EnvelopeStop, StaleState, DriverError: the robot is stopped.
    """
    index, envelope = _check_jog(spec, joint, by)
    signals = Interruptions()
    with signals.installed():
        try:
            robot.open()
            robot.enable()
            return _jog(robot, spec, clock, envelope, index, by, signals)
        finally:
            with signals.held():
                robot.stop()


def _check_jog(spec: RobotSpec, joint: str, by: float) -> tuple[int, Envelope]:
    """Index of the joint, and the envelope of the same robot with only this joint acting, on a spring."""
    names = list(spec.joints)
    if joint not in names or not spec.joints[joint].acts:
        acting = [names[i] for i in spec.acting]
        raise ConfigError("acclimate jog", "--joint", joint, f"a joint that acts: {', '.join(acting)}")
    if not 0 < abs(by) <= MAX_JOG:
        raise ConfigError("acclimate jog", "--by", by, f"up to ±{MAX_JOG} rad, and not 0")
    one = spec.joints[joint]
    kp = min(one.torque_limit / REACH, one.motor.kp_range)
    spring = replace(one, kp=kp, kd=min(kp * DAMPING_TIME, one.motor.kd_range))
    joints = {name: spring if name == joint else replace(other, acts=False) for name, other in spec.joints.items()}
    return names.index(joint), Envelope(replace(spec, joints=joints, command="position"))


def _jog(
    robot: RobotIO, spec: RobotSpec, clock: Clock, envelope: Envelope, index: int, by: float, signals: Interruptions
) -> Jog:
    joint = list(spec.joints)[index]
    low, high = spec.joints[joint].position_limit
    start = float(robot.read(ANSWER).position[index])
    if not low <= start + by <= high:
        allowed = f"a way inside [{low}, {high}] rad from {start:.3f} rad"
        raise ConfigError("acclimate jog", "--by", by, allowed)
    period = spec.period.io
    hold, ramp = np.zeros(round(HOLD / period)), np.linspace(0.0, 1.0, max(2, round(abs(by) / RAMP_SPEED / period)))
    way = by * np.concatenate([hold, ramp, hold + 1.0, ramp[::-1], hold])
    grid, states = Grid(clock, period), []
    for offset in way:
        _, due, missed = grid.next()
        with signals.held():
            state = robot.read(period / 2)
            envelope.check(state, due, missed)
            robot.write(envelope.limit(state, np.array([start + offset])))
        states.append((state.position[index], state.torque[index]))
    measured, tail = np.array(states), len(hold) // 2
    ends = [len(hold), 2 * len(hold) + len(ramp), len(way)]
    rest, far, back = (measured[end - tail : end].mean(axis=0) for end in ends)
    return Jog(joint, by, far[0] - rest[0], back[0] - rest[0], far[1])


def monitor_main(argv: list[str]) -> int:
    """`acclimate monitor`. Returns the exit status. Raises ConfigError, DriverError, StaleState."""
    parser = argparse.ArgumentParser(
        "acclimate monitor",
        description="Show a robot's state, read-only: no motor is ever enabled. What another controller does with "
        "the same motors ends, because they are asked with the frame that leaves them without torque.",
    )
    parser.add_argument("--robot", required=True, metavar="NAME|YAML", help="a robot that ships, or a path")
    add_driver_options(parser)
    parser.add_argument("--once", action="store_true", help="show one state and end")
    options = parser.parse_args(argv)
    clock = MonotonicClock()
    spec = load_robot(options.robot)
    with suppress(KeyboardInterrupt):
        monitor(driver_of(options, spec, clock), spec, clock, options.once)
    return OK


def jog_main(argv: list[str]) -> int:
    """`acclimate jog`. Returns the exit status. Raises ConfigError, DriverError."""
    parser = argparse.ArgumentParser(
        "acclimate jog",
        description="Move one joint a little and back, to check sign, zero and limits.",
        epilog="Exit status: 0 it followed, 1 stopped by safety or it did not follow, 2 bad input.",
    )
    parser.add_argument("--robot", required=True, metavar="NAME|YAML", help="a robot that ships, or a path")
    add_driver_options(parser)
    parser.add_argument("--joint", help="which joint (the first that acts)")
    parser.add_argument("--by", type=float, default=0.1, help=f"how far, rad, at most {MAX_JOG} (0.1)")
    parser.add_argument("--yes", action="store_true", help="do not ask before moving and about the direction")
    options = parser.parse_args(argv)
    clock = MonotonicClock()
    spec = load_robot(options.robot)
    joint = options.joint or list(spec.joints)[spec.acting[0]]
    _check_jog(spec, joint, options.by)
    limit = spec.joints[joint].torque_limit
    question = f"{spec.name}: move {joint} by {options.by:+.3f} rad and back, with at most {limit:g} N·m?"
    if not options.yes and not ask_operator(question):
        raise ConfigError("acclimate jog", "the question", "no", "yes; --yes moves without asking")
    try:
        result = jog(driver_of(options, spec, clock), spec, clock, joint, options.by)
    except (EnvelopeStop, StaleState) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("stopped: interrupted", file=sys.stderr)
        return INTERRUPTED
    return _judge(result, spec, asks=not options.yes)


def _judge(result: Jog, spec: RobotSpec, asks: bool) -> int:
    """Tell what happened. Only an eye can see the sign: commands and readings of a motor turn over together."""
    print(
        f"{result.joint}: asked {result.asked:+.3f} rad, moved {result.moved:+.3f} rad with {result.torque:+.2f} N·m, "
        f"ended {result.returned:+.3f} rad from the start"
    )
    if not result.followed:
        print(f"{result.joint} did not follow: check what blocks or loads it, its torque_limit and its motor's ranges")
        return STOPPED
    way = "positive" if result.asked > 0 else "negative"
    if asks and not ask_operator(f"Did {result.joint} turn in its {way} direction, as {spec.urdf} has it?"):
        wanted = -spec.joints[result.joint].motor.sign
        print(f"{result.joint}: set `motor: {{sign: {wanted}}}` in {spec.source}, and check its offset")
        return STOPPED
    return OK
