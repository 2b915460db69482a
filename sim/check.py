"""Judges somebody's robot before it is trained on or driven: its specification, its URDF and how both behave.

Each line is a ✓ (fine), a ! (works, but look at it) or a ✗ (wrong), with numbers and units.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from hardware_io.config import ConfigError, build, read_yaml
from hardware_io.mit_protocol import MotorCodec
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.actuator import Actuator
from sim.batch_env import Physics
from sim.kinematics import energy, gravity_torque, mass_matrix
from sim.model import RigidModel
from sim.robots import find_robot, load_robot
from sim.tasks import TASKS, make_task
from sim.world import BulletWorld

GOOD, LOOK, WRONG = "✓", "!", "✗"
WATCHDOG = 0.025  # s without a command after which AK motors give no torque
HEAVY, WIDE = 200.0, 2.0  # kg of a link and m of its radius of gyration: more is rather a wrong unit
DRAWS = 500  # of poses and of hidden parameters
PASSIVE_TIME = 1.0  # s
DRIFT_LOOK, DRIFT_WRONG = 0.05, 0.5  # of the energy between the lowest and the highest pose
PROBE_STEP, PROBE_TIME, PROBE_RATE = 0.2, 1.5, 4.0  # rad, s, rad/s natural frequency

Findings = Iterator[tuple[str, str]]  # mark, text


class Subject:
    """A robot under judgement and what several checks need of it. Raises ConfigError. `J` joints."""

    def __init__(self, robot: str) -> None:
        self.spec: RobotSpec = load_robot(robot)
        self.model = RigidModel(self.spec)
        self.bodies = self.model.bodies(self.model.ranges.nominal[None])
        self.names = list(self.spec.joints)
        middle = self.spec.position_limits.mean(axis=1)
        self.rest: Array = np.array(self.spec.poses.get("hanging", middle), np.float64)  # (J,) rad
        turns = np.random.default_rng(0).uniform(-np.pi, np.pi, (DRAWS, len(self.names)))
        self.poses: Array = np.clip(turns, *self.spec.position_limits.T)  # (DRAWS, J) rad


def main(argv: list[str]) -> int:
    """`acclimate check ROBOT`: 0 when nothing is wrong, else 1. Raises ConfigError when there is nothing to judge."""
    parser = argparse.ArgumentParser("acclimate check", description=__doc__.splitlines()[0])
    parser.add_argument("robot", help="a robot that ships, or the path of its YAML file")
    robot = parser.parse_args(argv).robot
    read_yaml(find_robot(robot))  # a file that is not there, or no YAML, is no robot to judge
    marks: Counter[str] = Counter()
    for mark, title, text in judge(robot):
        marks[mark] += 1
        print(f"{mark} {title:<15} {text}", flush=True)
    print(f"{marks.total()} checks: {marks[WRONG]} wrong, {marks[LOOK]} to look at")
    return 1 if marks[WRONG] else 0


def judge(robot: str) -> Iterator[tuple[str, str, str]]:
    """(mark, title, text) of every check of a robot's name or YAML file, as they are done."""
    try:
        subject = Subject(robot)
    except ConfigError as error:
        yield WRONG, "robot", str(error)
        return
    sound = True
    for title, examine, simulates in CHECKS:
        if simulates and not sound:
            yield LOOK, title, "not simulated: first put right what is wrong above"
            continue
        try:
            for mark, text in examine(subject):
                sound &= mark != WRONG
                yield mark, title, text
        except ConfigError as error:
            sound = False
            yield WRONG, title, str(error)


def check_layout(subject: Subject) -> Findings:
    spec = subject.spec
    acting = ", ".join(subject.names[i] for i in spec.acting)
    yield GOOD, f"{spec.name}: joints {', '.join(subject.names)}; {acting} acts on {spec.command} commands"
    if spec.command != "torque":
        yield LOOK, "the simulator takes torque commands only: this robot can be run but not trained"
    slices = spec.channel_slices()
    layout = ", ".join(f"{c.name}[{slices[c.name].start}:{slices[c.name].stop}] {c.unit}" for c in spec.channels)
    yield GOOD, f"observation of {spec.observation_size}: {layout}"
    if not any(channel.source == "rollout_start" for channel in spec.channels):
        yield LOOK, "no rollout_start channel: a policy with memory cannot tell that a rollout begins"


def check_links(subject: Subject) -> Findings:
    sound = True
    for name, link in subject.model.links.items():
        where = f"{subject.model.path}: link {name}"
        moments = np.linalg.eigvalsh(link.inertia)
        shown = ", ".join(f"{moment:.3g}" for moment in moments)
        if moments[2] > (moments[0] + moments[1]) * (1 + 1e-6) + 1e-12:
            sound = False
            yield WRONG, f"{where}: got principal moments {shown} kg·m²; allowed: none above the sum of the others"
        if link.mass > 0 and moments[2] <= 0:
            yield LOOK, f"{where}: {link.mass:.3g} kg without inertia is a point"
        if link.mass > HEAVY or moments[2] > max(link.mass, 1e-6) * WIDE**2:
            yield LOOK, f"{where}: {link.mass:.3g} kg with moments {shown} kg·m²: are these kg and kg·m²?"
    if sound:
        carried = ", ".join(f"{n} {m:.3g} kg" for n, m in zip(subject.names, subject.bodies.mass[0], strict=True))
        yield GOOD, f"{len(subject.model.links)} links with possible inertias; moving: {carried}"


def check_motors(subject: Subject) -> Findings:
    spec, sound = subject.spec, True
    for name, joint in spec.joints.items():
        motor = joint.motor
        bounds = {  # key → (value, greatest, unit)
            "velocity_limit": (joint.velocity_limit, motor.velocity_range, "rad/s"),
            "kp": (joint.kp, motor.kp_range, "N·m/rad"),
            "kd": (joint.kd, motor.kd_range, "N·m·s/rad"),
            "stop_damping": (joint.stop_damping, motor.kd_range, "N·m·s/rad"),
            "torque_limit": (joint.torque_limit, MotorCodec(motor).torque_bound, "N·m"),
        }
        for key, (value, greatest, unit) in bounds.items():
            if value > greatest:
                sound = False
                text = f"got {value:g}; allowed: at most {greatest:g} {unit} (motor {motor.model})"
                yield WRONG, f"{spec.source}: joints.{name}.{key}: {text}"
        if joint.stop_damping == 0:
            yield LOOK, f"{name}: stop_damping is 0, so a stop leaves the joint free"
    ids = [joint.motor.id & 0xFF for joint in spec.joints.values()]
    if len(set(ids)) < len(ids):
        sound = False
        yield WRONG, f"{spec.source}: joints.*.motor.id: got {ids}; allowed: ids that differ in their low byte"
    if sound:
        limits = [f"{n} {j.torque_limit:g} N·m, {j.velocity_limit:g} rad/s" for n, j in spec.joints.items()]
        yield GOOD, f"limits within the motors' ranges: {'; '.join(limits)}"


def check_torque(subject: Subject) -> Findings:
    spec = subject.spec
    needed = np.abs([gravity_torque(subject.bodies, pose) for pose in subject.poses]).max(axis=0)  # (J,) N·m
    for joint in spec.acting:
        limit, weight = subject.spec.joint_values("torque_limit")[joint], needed[joint]
        compared = f"{subject.names[joint]}: {limit:.3g} N·m against a weight of up to {weight:.3g} N·m"
        if limit <= 0:
            yield WRONG, f"{spec.source}: joints.{subject.names[joint]}.torque_limit: got {limit:g}; allowed: above 0"
        elif weight < 1e-6:
            yield GOOD, f"{compared}: gravity does not matter"
        else:
            verdict = "can hold any pose" if limit >= weight else "cannot hold every pose, must pump"
            yield GOOD, f"{compared} ({limit / weight:.2f}): {verdict}"
    if len(spec.acting) < len(subject.names):
        passive = [name for i, name in enumerate(subject.names) if i not in spec.acting]
        yield GOOD, f"underactuated: nothing drives {', '.join(passive)}"


def check_rates(subject: Subject) -> Findings:
    spec, period = subject.spec, subject.spec.period
    rates = f"policy {1 / period.policy:g} Hz, I/O {1 / period.io:g} Hz"
    yield GOOD, f"{rates}: {WATCHDOG / period.io:.1f} I/O periods fit in the motors' watchdog of {WATCHDOG * 1e3:g} ms"
    if spec.safety.stale_after < period.io:
        text = f"got {spec.safety.stale_after:g}; allowed: at least the I/O period of {period.io:g} s"
        yield WRONG, f"{spec.source}: safety.stale_after: {text}"
    for name, joint in spec.joints.items():
        swing = joint.torque_rate_limit * period.policy
        if joint.acts and swing < 2 * joint.torque_limit:
            text = f"of {2 * joint.torque_limit:g} N·m in a policy period; simulated torques are not slowed"
            yield LOOK, f"{name}: torque_rate_limit allows a change of {swing:g} {text}"


def check_dynamics(subject: Subject) -> Findings:
    ranges = subject.model.ranges
    if not ranges.parameters:
        yield LOOK, "no hidden parameters: every simulated robot is the same, there is nothing to adapt to"
        return
    draws = np.vstack([ranges.bounds("test").T, ranges.sample(DRAWS, np.random.default_rng(0), "test")])
    bodies = subject.model.bodies(draws)
    moments = np.linalg.eigvalsh(bodies.inertia)
    impossible = (bodies.mass <= 0).any(axis=1) | (moments[..., 0] < -1e-9).any(axis=1)
    if impossible.any():
        share = f"{impossible.sum()} of {len(draws)} draws from the test ranges and their ends"
        yield WRONG, f"{subject.spec.source}: dynamics: {share} have a body without mass or with negative inertia"
    latest = sum(parameter.test[1] for parameter in ranges.parameters.values() if parameter.apply == "latency")
    wider = sum(parameter.test != parameter.train for parameter in ranges.parameters.values())
    text = f"{len(ranges)} hidden parameters, {wider} with a wider test range; latency up to {latest * 1e3:g} ms"
    yield GOOD, f"{text} ({latest / subject.spec.period.policy:.1f} policy periods)"


def check_tasks(subject: Subject) -> Findings:
    spec = subject.spec
    low, high = spec.position_limits.T
    for name, pose in spec.poses.items():
        if not ((np.array(pose) >= low) & (np.array(pose) <= high)).all():
            yield WRONG, f"{spec.source}: poses.{name}: got {list(pose)}; allowed: within the position limits"
    if not spec.tasks:
        yield LOOK, f"no tasks; there are {', '.join(TASKS)}"
    for name in spec.tasks:
        steps = make_task(name, spec).steps
        yield GOOD, f"{name}: {steps} steps of {spec.period.policy:g} s"


def check_passive(subject: Subject) -> Findings:
    """Falls from 1 rad beside rest without friction: Bullet must keep the energy that the URDF says it has."""
    still = np.zeros(len(subject.names))
    path = simulate(subject, subject.rest + 1.0, PASSIVE_TIME)
    energies = np.array([energy(subject.bodies, q, v) for q, v in path])
    heights = [energy(subject.bodies, pose, still) for pose in subject.poses]
    scale = max(float(np.ptp(heights)), 1e-9)
    drift = float(np.abs(energies - energies[0]).max() / scale)
    text = f"{PASSIVE_TIME:g} s of free fall, {substep(subject) * 1e3:g} ms a substep: energy drifts by {drift:.1%}"
    if not drift <= DRIFT_WRONG:  # also where it is not a number
        yield WRONG, f"{text} of {scale:.3g} J; raise physics.substeps or check the inertias"
    elif drift > DRIFT_LOOK:
        yield LOOK, f"{text} of {scale:.3g} J; raise physics.substeps"
    else:
        yield GOOD, f"{text} of {scale:.3g} J"


def check_probes(subject: Subject) -> Findings:
    """Each acting joint is asked to move a little from rest by stiffness and damping, through motors as they are."""
    spec = subject.spec
    inertia = np.diag(mass_matrix(subject.bodies, subject.rest))
    lifted = np.abs(gravity_torque(subject.bodies, subject.rest + PROBE_STEP))
    for index, joint in enumerate(spec.acting):
        kp = inertia[joint] * PROBE_RATE**2 + lifted[joint] / PROBE_STEP
        kd = 2 * np.sqrt(kp * inertia[joint])
        gains = np.zeros((2, spec.action_size))
        gains[:, index] = kp, kd
        path = simulate(subject, subject.rest, PROBE_TIME, subject.rest + PROBE_STEP, gains)
        moved = path[2 * len(path) // 3 :, 0, joint].mean() - subject.rest[joint]
        text = f"{subject.names[joint]}: asked for {PROBE_STEP:+.2f} rad, moved {moved:+.2f} rad in {PROBE_TIME:g} s"
        gentle = f"({kp:.3g} N·m/rad, {kd:.3g} N·m·s/rad)"
        if moved > 0.2 * PROBE_STEP:
            yield (GOOD if moved < 2 * PROBE_STEP else LOOK), f"{text} {gentle}"
        else:
            yield WRONG, f"{text} {gentle}: positive torque does not move it forwards"


def substep(subject: Subject) -> float:
    """Of the simulation, s. Raises ConfigError for a bad `physics` section."""
    physics = build(Physics, subject.spec.physics, subject.spec.source, "physics")
    return subject.spec.period.policy / physics.substeps


def simulate(
    subject: Subject, start: Array, seconds: float, target: Array | None = None, gains: Array | None = None
) -> Array:
    """Positions and velocities (T+1, 2, J) from a standstill, without friction.

    `gains` (2, A) in N·m/rad and N·m·s/rad pull the acting joints towards `target` (J,) rad; else no motor acts.
    """
    spec, h = subject.spec, substep(subject)
    count = round(spec.period.policy / h)
    acting = spec.acting
    world = BulletWorld(subject.model, 1, h)
    motors = Actuator(spec, subject.model.ranges, 1, count, state_age=spec.period.io)
    try:
        none = np.zeros((1, len(subject.names)))
        world.build(subject.bodies, none, none)
        q, v = start[None].copy(), none.copy()
        world.set_state(q, v)
        path = [np.concatenate([q, v])]
        for _ in range(round(seconds / spec.period.policy)):
            torque = np.zeros((count, 1, len(acting)))
            if target is not None and gains is not None:
                torque = motors.torques(gains[0] * (target - q)[:, acting] - gains[1] * v[:, acting])
            world.advance(torque, q, v)
            path.append(np.concatenate([q, v]))
    finally:
        world.close()
    return np.array(path)


# title, check, whether it needs Bullet
CHECKS: tuple[tuple[str, Callable[[Subject], Findings], bool], ...] = (
    ("specification", check_layout, False),
    ("links", check_links, False),
    ("motors", check_motors, False),
    ("torque", check_torque, False),
    ("rates", check_rates, False),
    ("dynamics", check_dynamics, False),
    ("tasks", check_tasks, False),
    ("free fall", check_passive, True),
    ("probe", check_probes, True),
)
