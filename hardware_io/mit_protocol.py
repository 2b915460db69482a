"""The MIT mini-cheetah motor protocol, as CubeMars AK actuators speak it: frames ↔ SI units, on the motor's side.

A command is 8 bytes, big-endian: position 16 bit, velocity 12, kp 12, kd 12, torque 12. A reply is the motor's id,
position 16, velocity 12, torque 12; some firmware appends a temperature and a fault byte. Three reserved payloads
enter and leave the motor mode and set the zero. Two traps: the all-zero payload is a command at the lower end of
every range (full speed and torque backwards), and a command saturated at the upper end *is* a reserved frame. So the
codec refuses both, and `MotorCodec.torque_bound` says which torques cannot get there whatever the other fields hold.
No signed value has a code for exactly zero: zero takes the code just above the middle.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hardware_io.spec import Motor

ENTER = b"\xff" * 7 + b"\xfc"  # let the motor act
EXIT = b"\xff" * 7 + b"\xfd"  # no torque; the motor still replies to this frame
ZERO = b"\xff" * 7 + b"\xfe"  # the present position becomes 0 rad

LEVELS_16, LEVELS_12 = 0xFFFF, 0xFFF
_RESERVED = int.from_bytes(ENTER, "big")  # this and everything above: FF×7 FC … FF×8


class ProtocolError(ValueError):
    """A frame or command that the protocol cannot carry: names the field, the value and what is allowed."""


class MotorCommand(NamedTuple):
    """What one motor is told: torque + kp·(position − q) + kd·(velocity − q̇), on the motor's side."""

    position: float  # rad
    velocity: float  # rad/s
    kp: float  # N·m/rad
    kd: float  # N·m·s/rad
    torque: float  # N·m


class MotorReply(NamedTuple):
    """What one motor reports, on its own side."""

    id: int
    position: float  # rad
    velocity: float  # rad/s
    torque: float  # N·m
    temperature: int | None = None  # °C, where the firmware sends it
    fault: int = 0  # 0: none


class MotorCodec:
    """Encodes and decodes for one motor, with the ranges of its spec."""

    def __init__(self, motor: Motor) -> None:
        self.id = motor.id & 0xFF  # a reply holds no more than this of it
        self._position = LEVELS_16 / (2 * motor.position_range)  # codes per unit
        self._velocity = LEVELS_12 / (2 * motor.velocity_range)
        self._kp = LEVELS_12 / motor.kp_range
        self._kd = LEVELS_12 / motor.kd_range
        self._torque = LEVELS_12 / (2 * motor.torque_range)

    @property
    def torque_bound(self) -> float:
        """A torque within ± this, N·m, is neither all zeros nor a reserved frame, whatever the other fields are.

        Reserved frames end in the codes 0xFFC to 0xFFF, the all-zero frame in 0; this bound keeps to 4 … 0xFFB.
        """
        return (0xFFB - LEVELS_12 / 2) / self._torque

    def encode(self, command: MotorCommand) -> tuple[bytes, MotorCommand]:
        """The payload and what it says after saturation to the ranges and rounding to the nearest code.

        Raises ProtocolError for a value that is not finite and for a payload that means something else.
        """
        if not math.isfinite(sum(command)):
            for name, value in zip(MotorCommand._fields, command, strict=True):
                if not math.isfinite(value):
                    raise ProtocolError(f"{name}: got {value}; allowed: a finite number")
        position = _signed(command.position, self._position, LEVELS_16)
        velocity = _signed(command.velocity, self._velocity, LEVELS_12)
        kp = _positive(command.kp, self._kp)
        kd = _positive(command.kd, self._kd)
        torque = _signed(command.torque, self._torque, LEVELS_12)
        word = position << 48 | velocity << 36 | kp << 24 | kd << 12 | torque
        if word == 0 or word >= _RESERVED:
            meaning = "the all-zero frame" if word == 0 else "a reserved frame (enter, exit, zero)"
            raise ProtocolError(
                f"command: got {tuple(command)}, which encodes to {meaning}; "
                f"allowed: a torque within ±{self.torque_bound:.4g} N·m"
            )
        return word.to_bytes(8, "big"), self._command(word)

    def decode(self, payload: bytes) -> MotorCommand:
        """What a command payload tells the motor, reserved frames apart. Raises ProtocolError unless 8 bytes."""
        if len(payload) != 8:
            raise ProtocolError(f"command: got {len(payload)} bytes ({payload.hex()}); allowed: 8")
        return self._command(int.from_bytes(payload, "big"))

    def _command(self, word: int) -> MotorCommand:
        return MotorCommand(
            ((word >> 48) - LEVELS_16 / 2) / self._position,
            ((word >> 36 & LEVELS_12) - LEVELS_12 / 2) / self._velocity,
            (word >> 24 & LEVELS_12) / self._kp,
            (word >> 12 & LEVELS_12) / self._kd,
            ((word & LEVELS_12) - LEVELS_12 / 2) / self._torque,
        )

    def encode_reply(self, position: float, velocity: float, torque: float) -> bytes:
        """What a motor answers, 6 bytes, saturated to the ranges; rad, rad/s, N·m."""
        word = (
            self.id << 40
            | _signed(position, self._position, LEVELS_16) << 24
            | _signed(velocity, self._velocity, LEVELS_12) << 12
            | _signed(torque, self._torque, LEVELS_12)
        )
        return word.to_bytes(6, "big")

    def decode_reply(self, payload: bytes) -> MotorReply:
        """What a motor reports. Raises ProtocolError unless 6 or 8 bytes that begin with this motor's id."""
        if len(payload) not in (6, 8):
            raise ProtocolError(f"reply: got {len(payload)} bytes ({payload.hex()}); allowed: 6 or 8")
        if payload[0] != self.id:
            raise ProtocolError(f"reply: got motor id {payload[0]}; allowed: {self.id}")
        word = int.from_bytes(payload[1:6], "big")
        reply = MotorReply(
            self.id,
            ((word >> 24) - LEVELS_16 / 2) / self._position,
            ((word >> 12 & LEVELS_12) - LEVELS_12 / 2) / self._velocity,
            ((word & LEVELS_12) - LEVELS_12 / 2) / self._torque,
        )
        if len(payload) == 8:
            temperature = int.from_bytes(payload[6:7], "big", signed=True)
            return reply._replace(temperature=temperature, fault=payload[7])
        return reply


def _signed(value: float, scale: float, levels: int) -> int:
    """Code of a value in ±levels / (2·scale), saturated. Zero is exactly half way between two codes: the upper one."""
    code = value * scale + (levels + 1) / 2
    return 0 if code < 0 else int(min(code, levels))


def _positive(value: float, scale: float) -> int:
    """Code of a value in 0 … LEVELS_12 / scale, saturated."""
    return 0 if value <= 0 else int(min(value * scale + 0.5, LEVELS_12))
