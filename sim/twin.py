"""A stand-in for a robot: MuJoCo physics, its own model of the motors, and the MIT protocol they speak.

`Twin` is the robot, `LockstepBus` puts it behind a driver on a virtual clock inside one process, and `main`
(`acclimate twin`) plays it in real time in a process of its own. `J` joints, `P` hidden parameters.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from hardware_io.clock import Clock
from hardware_io.config import ConfigError
from hardware_io.mit_protocol import EXIT
from hardware_io.spec import RobotSpec
from hardware_io.state import Array, JointState
from sim.dynamics import SPLITS, DynamicsRange
from sim.robots import load_robot
from sim.twin_motor import INSTANT, TwinMotor

REPLY_ID = 0  # motors answer the address of the master and name themselves in the first byte


def draw_dynamics(spec: RobotSpec, seed: int, split: str = "train", fixed: dict[str, float] | None = None) -> Array:
    """The hidden parameters of robot number `seed`, (P,), with those in `fixed` replaced. Raises ConfigError."""
    ranges = DynamicsRange.of(spec)
    values = ranges.sample(1, np.random.default_rng(seed), split)[0]
    for name, value in (fixed or {}).items():
        if name not in ranges.names:
            raise ConfigError("dynamics", name, value, f"one of {', '.join(ranges.names)}")
        values[ranges.names.index(name)] = value
    return values


class Twin:
    """One robot and its motors. Time starts at 0 s and moves on with `advance_to` alone.

    Between events (a command that takes effect after the latency, a watchdog) physics steps of at most 1 ms; each
    applies the exact mean of the lagging torque. `seed` draws the sensor noise. With `record`, `trace` holds
    (time s, position, velocity, torque that acts), each (J,), after every step. Raises ConfigError, ImportError.
    """

    def __init__(self, spec: RobotSpec, dynamics: Array, seed: int = 0, record: bool = False) -> None:
        from sim.twin_model import STEP, Physics, motor_dynamics

        self._physics, self._hidden, self._longest = Physics(spec, dynamics), motor_dynamics(spec, dynamics), STEP
        hidden = zip(self._hidden.torque_scale.tolist(), self._hidden.response.tolist(), strict=True)
        self._motors = [
            TwinMotor(joint.motor, scale, response, self._hidden.latency)
            for joint, (scale, response) in zip(spec.joints.values(), hidden, strict=True)
        ]
        self._ids = {joint.motor.id: i for i, joint in enumerate(spec.joints.values())}
        self._noise = np.random.default_rng([seed, 1])
        self._acting = [0.0] * len(self._motors)  # N·m, on the joints
        self.trace: list[tuple[float, Array, Array, Array]] | None = [] if record else None
        self.time = 0.0
        self.rest = np.array(spec.poses.get("hanging", np.zeros(len(spec.joints))))  # rad, where a hand puts it

    def state(self) -> JointState:
        """What is true now: position, velocity and the torque that acts, each (J,)."""
        return JointState(
            self.time, self._physics.position.copy(), self._physics.velocity.copy(), np.array(self._acting)
        )

    def reset(self, position: Array, velocity: Array) -> None:
        """Put the joints at (J,) rad and (J,) rad/s, with no torque and no command under way."""
        self._physics.place(position, velocity)
        self._acting = [0.0] * len(self._motors)
        for motor in self._motors:
            motor.release()

    def advance_to(self, time: float) -> None:
        """Let physics happen until `time`, s."""
        while self.time < time - INSTANT:
            until = min(time, *(motor.catch_up(self.time) for motor in self._motors))
            count = max(1, math.ceil((until - self.time) / self._longest - 1e-6))
            self._move(count, (until - self.time) / count)
            self.time = until

    def _move(self, count: int, step: float) -> None:
        start, physics = self.time, self._physics
        for motor in self._motors:
            motor.prepare(step)
        for k in range(count):
            states = zip(self._motors, physics.position.tolist(), physics.velocity.tolist(), strict=True)
            self._acting = [motor.step(position, velocity) for motor, position, velocity in states]
            physics.step(self._acting, step)
            if self.trace is not None:
                self.time = start + (k + 1) * step
                state = self.state()
                self.trace.append((self.time, state.position, state.velocity, state.torque))

    def handle(self, can_id: int, payload: bytes) -> bytes | None:
        """A frame from the bus at the present time; the motor's answer, or None where no motor is meant."""
        index = self._ids.get(can_id)
        if index is None or len(payload) != 8:
            return None
        motor, hidden = self._motors[index], self._hidden
        position, velocity = self._physics.position[index], self._physics.velocity[index]
        motor.receive(self.time, payload, float(position))
        if payload == EXIT:
            self._acting[index] = 0.0
        noise = self._noise.standard_normal(3)
        position = position + noise[0] * hidden.position_noise[index]
        velocity = velocity + noise[1] * hidden.velocity_noise[index]
        return motor.reply(float(position), float(velocity), float(noise[2] * hidden.torque_noise[index]))


class Reply(NamedTuple):
    """A frame from the twin, as a driver reads it."""

    arbitration_id: int
    data: bytes
    is_error_frame: bool = False
    is_remote_frame: bool = False


class LockstepBus:
    """A bus with a twin at its end on a virtual clock: answers are there at once, and waiting moves the clock."""

    def __init__(self, twin: Twin, clock: Clock) -> None:
        self._twin, self._clock = twin, clock
        self._start = clock.now() - twin.time
        self._replies: deque[Reply] = deque()

    def send(self, msg: Any, timeout: float | None = None) -> None:
        self._twin.advance_to(self._clock.now() - self._start)
        reply = self._twin.handle(msg.arbitration_id, bytes(msg.data))
        if reply is not None:
            self._replies.append(Reply(REPLY_ID, reply))

    def recv(self, timeout: float | None = None) -> Reply | None:
        if self._replies:
            return self._replies.popleft()
        self._clock.sleep_until(self._clock.now() + (timeout or 0.0))
        return None

    def shutdown(self) -> None:
        self._replies.clear()


def main(argv: list[str]) -> int:
    """`acclimate twin`: play a robot on a bus until it is told to stop. Prints `ready INTERFACE CHANNEL` when it is.

    Raises ConfigError, DriverError, ModuleNotFoundError without MuJoCo.
    """
    from sim.twin_bus import TRANSPORTS, serve

    parser = argparse.ArgumentParser(
        "acclimate twin",
        description=__doc__.splitlines()[0],
        epilog="SIGUSR1 puts it back at its start, as a hand would; SIGTERM and Ctrl-C end it.",
    )
    parser.add_argument("--robot", required=True, help="a robot that ships, or the path of its YAML file")
    parser.add_argument("--seed", type=int, default=0, help="draws the hidden parameters and the sensor noise (0)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="range of the hidden parameters (train)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="fix a hidden parameter, SI")
    parser.add_argument("--transport", choices=TRANSPORTS, default="slcan", help="how the bus is reached (slcan)")
    parser.add_argument("--channel", help="of the bus; slcan makes a pseudo-terminal and prints its name")
    parser.add_argument("--duration", type=float, default=math.inf, help="end after so long, s (never)")
    parser.add_argument("--reveal", action="store_true", help="print the hidden parameters")
    options = parser.parse_args(argv)
    spec = load_robot(options.robot)
    dynamics = draw_dynamics(spec, options.seed, options.split, _assignments(options.set))
    twin = Twin(spec, dynamics, options.seed)
    if options.reveal:
        print("dynamics", json.dumps(dict(zip(DynamicsRange.of(spec).names, dynamics.tolist(), strict=True))))
    serve(twin, options.transport, options.channel, options.duration)
    return 0


def _assignments(texts: list[str]) -> dict[str, float]:
    values = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            values[name] = float(value)
        except ValueError as error:
            raise ConfigError("--set", name, value, "NAME=VALUE with a number") from error
    return values


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
