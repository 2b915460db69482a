"""One motor of a twin: what it does with the frames that reach it, in plain floats, which for a few joints are faster
than arrays. Latency, saturation, lag and torque constant are the twin's own model of them."""

from __future__ import annotations

import math
from collections import deque

from hardware_io.mit_protocol import ENTER, EXIT, ZERO, MotorCodec, MotorCommand
from hardware_io.spec import Motor

WATCHDOG = 0.025  # s without a command, then there is no torque
INSTANT = 1e-9  # s, below which two times are one
IDLE = MotorCommand(0.0, 0.0, 0.0, 0.0, 0.0)


class TwinMotor:
    """A motor on a joint. `scale`: torque that acts over torque it believes; `response` and `latency` in s."""

    def __init__(self, motor: Motor, scale: float, response: float, latency: float) -> None:
        self._codec, self._limit = MotorCodec(motor), motor.torque_range
        self._sign, self._zero = motor.sign, motor.offset  # rad, position of the joint at which the motor reads 0
        self._scale, self._response, self._latency = motor.sign * scale, max(response, INSTANT), latency
        self._line: deque[tuple[float, MotorCommand]] = deque()  # (takes effect at s, command)
        self._command = IDLE  # in effect
        self._enabled = False
        self._expires = math.inf  # s, when the watchdog bites
        self._torque = 0.0  # N·m, as the motor believes, on its side
        self._decay = self._mean = 0.0  # of the lag over a step, and its mean over the step

    def receive(self, time: float, payload: bytes, position: float) -> None:
        """A frame of 8 bytes at `time` s, with the joint at `position` rad."""
        if payload == ENTER:
            self._enabled, self._expires = True, time + WATCHDOG
        elif payload == EXIT:
            self.release()
            self._enabled = False
        elif payload == ZERO:
            self._zero = position
        elif self._enabled:
            self._line.append((time + self._latency, self._codec.decode(payload)))
            self._expires = time + WATCHDOG

    def release(self) -> None:
        """No torque and no command under way."""
        self._forget()
        self._torque = 0.0

    def _forget(self) -> None:
        self._line.clear()
        self._command, self._expires = IDLE, math.inf

    def catch_up(self, time: float) -> float:
        """Let what is due by `time` take effect; when the next thing is due, s."""
        while self._line and self._line[0][0] <= time + INSTANT:
            self._command = self._line.popleft()[1]
        if self._expires <= time + INSTANT:
            self._forget()
        return min(self._expires, self._line[0][0]) if self._line else self._expires

    def prepare(self, step: float) -> None:
        """Set the length of the steps that follow, s."""
        self._decay = math.exp(-step / self._response)
        self._mean = self._response / step * (1 - self._decay)

    def step(self, position: float, velocity: float) -> float:
        """The mean torque on the joint over a step that begins at rad and rad/s, N·m."""
        wanted = self._command
        target = (
            wanted.torque
            + wanted.kp * (wanted.position - self._sign * (position - self._zero))
            + wanted.kd * (wanted.velocity - self._sign * velocity)
        )
        target = max(-self._limit, min(self._limit, target))
        lag = self._torque - target
        self._torque = target + lag * self._decay
        return self._scale * (target + lag * self._mean)

    def reply(self, position: float, velocity: float, noise: float) -> bytes:
        """What it reports of its joint, rad and rad/s, with `noise` N·m on the torque."""
        position, velocity = self._sign * (position - self._zero), self._sign * velocity
        return self._codec.encode_reply(position, velocity, self._torque + noise)
