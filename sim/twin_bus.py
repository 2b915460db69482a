"""The bus of a twin in real time: a CAN adapter on a pseudo-terminal, or one of python-can's networks.

On a pseudo-terminal the twin speaks the ASCII protocol of serial CAN adapters (slcan, after LAWICEL): every line ends
in a carriage return and is answered by one, or by a bell when it is refused.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tty
from collections.abc import Callable
from types import FrameType
from typing import Any

from hardware_io.clock import MonotonicClock
from hardware_io.state import DriverError
from hardware_io.timing import real_time
from sim.twin import REPLY_ID, Twin

IDLE = 0.005  # s between looks at the clock while nothing arrives
BITRATE = 1_000_000  # bit/s, what the motors speak
LONGEST_LINE = 32  # bytes; what is longer than any command is noise
OK, REFUSED = b"\r", b"\a"
TRANSPORTS = ("slcan", "socketcan", "udp_multicast")
DEFAULT_CHANNELS = {"socketcan": "can0", "udp_multicast": "239.74.163.2"}


class RealTime:
    """A twin whose time is the monotonic clock's, from now on. Ends after `duration` s or when told."""

    def __init__(self, twin: Twin, duration: float) -> None:
        self._twin, self._clock = twin, MonotonicClock()
        self._start = self._clock.now() - twin.time
        self._end = self._clock.now() + duration
        self._stopped = self._lifted = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """End at the next look at the clock: a signal handler."""
        self._stopped = True

    def set_right(self, number: int, frame: FrameType | None) -> None:
        """Put the robot back at its start at the next look at the clock, as a hand would: a signal handler."""
        self._lifted = True

    def catch_up(self) -> bool:
        """Let physics reach the present; whether to go on."""
        self._twin.advance_to(self._clock.now() - self._start)
        if self._lifted:
            self._lifted = False
            self._twin.reset(self._twin.rest, 0 * self._twin.rest)
        return not self._stopped and self._clock.now() < self._end

    def handle(self, can_id: int, payload: bytes) -> bytes | None:
        """A frame that arrived now, and the motor's answer."""
        self._twin.advance_to(self._clock.now() - self._start)
        return self._twin.handle(can_id, payload)


class SerialAdapter:
    """What a serial CAN adapter answers to bytes, with motors on its bus that `handle` speaks for."""

    def __init__(self, handle: Callable[[int, bytes], bytes | None]) -> None:
        self._handle = handle
        self._open = False
        self._buffer = b""

    def receive(self, data: bytes) -> bytes:
        """Bytes from the computer → bytes to the computer."""
        *lines, rest = (self._buffer + data).split(b"\r")
        self._buffer = rest[-LONGEST_LINE:]
        return b"".join(self._answer(line) for line in lines)

    def _answer(self, line: bytes) -> bytes:
        kind = line[:1]
        if kind in (b"O", b"L"):
            accepted, self._open = not self._open, True
            return OK if accepted else REFUSED
        if kind == b"C":
            self._open = False
            return OK
        if kind in (b"S", b"s"):
            return REFUSED if self._open else OK
        if kind in (b"t", b"T"):
            return self._transmit(line) if self._open else REFUSED
        return {b"": OK, b"F": b"F00" + OK, b"V": b"V1010" + OK, b"N": b"NTWIN" + OK}.get(kind, REFUSED)

    def _transmit(self, line: bytes) -> bytes:
        digits = 3 if line[:1] == b"t" else 8
        try:
            can_id, size = int(line[1 : digits + 1], 16), int(line[digits + 1 : digits + 2])
            payload = bytes.fromhex(line[digits + 2 :].decode("ascii"))
        except ValueError:
            return REFUSED
        if len(payload) != size or size > 8:
            return REFUSED
        done = b"z" + OK if digits == 3 else b"Z" + OK
        reply = self._handle(can_id, payload) if digits == 3 else None  # the motors know short addresses only
        if reply is None:
            return done
        return done + f"t{REPLY_ID:03X}{len(reply)}{reply.hex().upper()}".encode() + OK


def serve(twin: Twin, transport: str, channel: str | None, duration: float) -> None:
    """Play the twin for `duration` s or until a signal ends it. Raises DriverError when the bus cannot be opened."""
    robot = RealTime(twin, duration)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, robot.stop)
    signal.signal(signal.SIGUSR1, robot.set_right)
    with real_time():  # a motor answers on time, whatever else its computer does
        if transport == "slcan":
            _serve_terminal(robot)
        else:
            _serve_network(robot, transport, channel or DEFAULT_CHANNELS[transport])


def _serve_terminal(robot: RealTime) -> None:
    master, slave = os.openpty()  # holding the slave's end, too, lets computers come and go
    tty.setraw(slave)
    os.set_blocking(master, False)
    adapter = SerialAdapter(robot.handle)
    print(f"ready slcan {os.ttyname(slave)}", flush=True)
    try:
        while robot.catch_up():
            if select.select([master], [], [], IDLE)[0]:
                answer = adapter.receive(os.read(master, 4096))
                with contextlib.suppress(BlockingIOError):  # nobody reads: an adapter's buffer overflows as well
                    os.write(master, answer)
    finally:
        os.close(master)
        os.close(slave)


def _serve_network(robot: RealTime, interface: str, channel: str) -> None:
    import can

    try:
        bus: Any = can.Bus(interface=interface, channel=channel, bitrate=BITRATE)
    except Exception as error:  # socket, value and import errors, as the interface has it
        raise DriverError(f"twin: cannot open interface {interface!r}, channel {channel!r}: {error}") from error
    print(f"ready {interface} {channel}", flush=True)
    try:
        while robot.catch_up():
            message = bus.recv(IDLE)
            if message is None or message.is_error_frame or message.is_remote_frame or message.is_extended_id:
                continue
            reply = robot.handle(message.arbitration_id, bytes(message.data))
            if reply is not None:
                bus.send(can.Message(arbitration_id=REPLY_ID, data=reply, is_extended_id=False))
    finally:
        bus.shutdown()
