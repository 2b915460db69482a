"""The motor protocol: golden bytes worked by hand, round trips, and the payloads that must never be sent."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hardware_io.mit_protocol import ENTER, EXIT, ZERO, MotorCodec, MotorCommand, ProtocolError
from hardware_io.spec import Motor

MOTOR = Motor(id=1)  # ±12.5 rad, ±22.5 rad/s, ±12 N·m, 500 N·m/rad, 5 N·m·s/rad
CODEC = MotorCodec(MOTOR)


def test_golden_command() -> None:
    # 1 rad: 1·65535/25 + 32768 = 35389.4 → 0x8A3D. -2 rad/s: -2·4095/45 + 2048 = 1866 → 0x74A.
    # 50: 50·4095/500 = 409.5 → 410 = 0x19A. 1: 819 = 0x333. 3 N·m: 15·4095/24 = 2559.4 → 2559 = 0x9FF.
    payload, sent = CODEC.encode(MotorCommand(1.0, -2.0, 50.0, 1.0, 3.0))
    assert payload.hex() == "8a3d74a19a3339ff"
    assert sent == pytest.approx((35389 * 25 / 65535 - 12.5, -1.9945, 50.0611, 1.0, 2.9978), abs=1e-4)


def test_zero_and_damped_commands_sit_in_the_middle() -> None:
    assert CODEC.encode(MotorCommand(0, 0, 0, 0, 0))[0].hex() == "8000800000000800"
    assert CODEC.encode(MotorCommand(0, 0, 0, 0.3, 0))[0].hex() == "80008000000f6800"  # 0.3·4095/5 = 245.7 → 0x0F6


def test_golden_reply() -> None:
    # id 1, position 0x8000 = 0.5·25/65535 rad, velocity 0xFFF = 22.5 rad/s, torque 0 = -12 N·m
    reply = CODEC.decode_reply(bytes.fromhex("018000fff000"))
    assert reply[:4] == pytest.approx((1, 0.5 * 25 / 65535, 22.5, -12.0))
    assert reply.temperature is None and reply.fault == 0
    longer = CODEC.decode_reply(bytes.fromhex("018000fff000fb04"))
    assert longer[:4] == reply[:4] and longer.temperature == -5 and longer.fault == 4
    assert CODEC.encode_reply(0.0, 30.0, -30.0).hex() == "018000fff000"


def test_round_trip_is_within_half_a_code() -> None:
    rng = np.random.default_rng(0)
    low, high = np.array([-12.5, -22.5, 0, 0, -11.9]), np.array([12.5, 22.5, 500, 5, 11.9])
    half = (np.array([25, 45, 500, 5, 24]) / np.array([65535, 4095, 4095, 4095, 4095])) / 2
    for values in rng.uniform(low, high, (500, 5)):
        payload, sent = CODEC.encode(MotorCommand(*values))
        assert CODEC.decode(payload) == sent
        assert CODEC.encode(sent)[0] == payload  # what was sent says itself
        assert (np.abs(np.array(sent) - values) <= half * (1 + 1e-9)).all()
        reply = CODEC.decode_reply(CODEC.encode_reply(values[0], values[1], values[4]))
        assert (np.abs(np.array(reply[1:4]) - values[[0, 1, 4]]) <= half[[0, 1, 4]] * (1 + 1e-9)).all()


def test_saturates_at_the_ranges() -> None:
    _, sent = CODEC.encode(MotorCommand(99.0, -99.0, 1e9, -1.0, 1e300))
    assert sent == pytest.approx((12.5, -22.5, 500.0, 0.0, 12.0))


@pytest.mark.parametrize("field", MotorCommand._fields)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_refuses_what_is_not_finite(field: str, value: float) -> None:
    with pytest.raises(ProtocolError, match=f"^{field}: .*finite"):
        CODEC.encode(MotorCommand(0, 0, 0, 0, 0)._replace(**{field: value}))


def test_refuses_the_all_zero_payload() -> None:
    with pytest.raises(ProtocolError, match=r"all-zero.*11\.98 N·m"):
        CODEC.encode(MotorCommand(-12.5, -22.5, 0, 0, -12))


@pytest.mark.parametrize("torque", [(code - 2047.5) * 24 / 4095 for code in range(0xFFC, 0x1000)])
def test_refuses_aliases_of_reserved_frames(torque: float) -> None:
    with pytest.raises(ProtocolError, match="reserved frame"):
        CODEC.encode(MotorCommand(12.5, 22.5, 500, 5, torque))


def test_the_torque_bound_keeps_every_command_apart_from_the_reserved_ones() -> None:
    bound = CODEC.torque_bound
    assert 0.99 * MOTOR.torque_range < bound < MOTOR.torque_range
    extremes = itertools.product((-1e9, 1e9), (-1e9, 1e9), (0, 1e9), (0, 1e9), (-bound, 0, bound))
    payloads = {CODEC.encode(MotorCommand(*values))[0] for values in extremes}
    assert not payloads & {bytes(8), ENTER, EXIT, ZERO, b"\xff" * 8}


@pytest.mark.parametrize("payload", [b"", b"\x01" * 5, b"\x01" * 7, b"\x01" * 9, b"\x02" * 6])
def test_refuses_malformed_replies(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="allowed"):
        CODEC.decode_reply(payload)


def test_other_ranges() -> None:
    codec = MotorCodec(Motor(id=3, velocity_range=76.0, torque_range=18.0))
    reply = codec.decode_reply(codec.encode_reply(1.0, 70.0, -17.0))
    assert reply.id == 3 and reply[1:4] == pytest.approx((1.0, 70.0, -17.0), abs=0.02)
