"""Motors that speak the MIT mini-cheetah protocol on a CAN bus (CubeMars AK and relatives), over python-can.

Motors answer every frame they get, so a state is as fresh as the last thing that was sent. They answer the exit frame
too, which leaves them without torque: `poll` uses it, and with `poll` and `read` alone a robot can be watched or a
run rehearsed without a motor ever being enabled.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from hardware_io.clock import Clock
from hardware_io.config import ConfigError
from hardware_io.mit_protocol import ENTER, EXIT, MotorCodec, MotorCommand, MotorReply, ProtocolError
from hardware_io.spec import Joint, RobotSpec
from hardware_io.state import DriverError, JointCommand, JointState, StaleState

# s, then the bus counts as blocked. A serial port looks at its time-out after writing, so that a pause of our own
# process counts, too, although the frame is out: hence longer than what the loop's watchdog forgives (five deadlines of
# at most 20 ms, where a robot sets no other). On a blocked bus the motors' own watchdog stops a robot, after 25 ms.
SEND_TIMEOUT = 0.2
ENABLE_TIMEOUT = 0.2  # s, for every motor to answer
STOP_DAMPING = 0.1  # s that a stop damps before it disables
STOP_PERIOD = 0.01  # s between its damped commands, well within the motors' watchdog of 25 ms
DRAIN_WAIT = 2e-4  # s per late frame: with no wait at all, an adapter's acknowledgement hides the frames behind it
DRAIN_LOOKS = 2  # in a row that find no frame, then none is late: on a slow computer an acknowledgement takes one
MAX_LATE_FRAMES = 64  # read from the queue after a deadline, so that a flooded bus cannot hold the loop
DEFAULT_GROUP = "239.74.163.2"  # of udp_multicast: its own default is IPv6, which many networks do not route
HINTS = {
    "slcan": "plug in the adapter and give its serial port as channel, such as /dev/ttyACM0",
    "socketcan": "give a CAN network as channel, such as can0, and bring it up with `ip link set`",
    "udp_multicast": "give an IPv4 multicast address as channel, such as 239.74.163.2, that this machine routes",
}


class Bus(Protocol):
    """What the driver needs of a bus: python-can's `BusABC`, or a stand-in."""

    def send(self, msg: Any, timeout: float | None = None) -> None: ...

    def recv(self, timeout: float | None = None) -> Any: ...

    def shutdown(self) -> None: ...


class CanMit:
    """`RobotIO` over CAN. `interface`, `channel` and `bitrate` (bit/s) are python-can's; or pass an open `bus`.

    A state is stamped with the time at which the motors were asked for it, so it is never older than it says. A
    joint that does not act is sent no torque, stiffness or velocity; damping passes, so that a stop damps it too.
    `ignored` counts frames of no use by reason: `malformed`, `unknown` (no motor of this robot), `stale` (late),
    `echo` (our own). Raises ConfigError when two motors cannot be told apart.
    """

    def __init__(
        self,
        spec: RobotSpec,
        clock: Clock,
        interface: str = "slcan",
        channel: str | None = None,
        bitrate: int = 1_000_000,
        bus: Bus | None = None,
    ) -> None:
        self._clock = clock
        self._interface, self._channel, self._bitrate, self._given = interface, channel, bitrate, bus
        self._bus: Bus | None = None
        self._message: Any = None  # python-can's class, once open
        self._names = list(spec.joints)
        self._motors = [_Motor(joint) for joint in spec.joints.values()]
        self._index = {motor.codec.id: i for i, motor in enumerate(self._motors)}
        if len(self._index) < len(self._motors):
            ids = [motor.can_id for motor in self._motors]
            raise ConfigError(spec.source, "joints.*.motor.id", ids, "ids that differ in their low byte")
        self._stop_damping = JointCommand.damped(spec.joint_values("stop_damping"))
        self._enabled = False
        self.ignored: Counter[str] = Counter()

    def open(self) -> None:
        """Connect; sends nothing. Raises DriverError naming interface and channel."""
        if self._bus is not None:
            return
        from can import Message

        self._message = Message
        self._bus = self._given if self._given is not None else self._connect()
        self._pending = set(range(len(self._motors)))
        self._last_sent = [b""] * len(self._motors)
        self._replies: list[MotorReply | None] = [None] * len(self._motors)
        self._answered: list[float] = [self._clock.now()] * len(self._motors)  # s, or when the bus was opened
        self._asked = self._clock.now()
        self._state: JointState | None = None

    def _connect(self) -> Bus:
        import can

        options: dict[str, Any] = {"bitrate": self._bitrate}
        channel = self._channel
        if self._interface == "udp_multicast":
            channel = channel or DEFAULT_GROUP
        if self._interface == "slcan" and str(channel).startswith("/dev/pts/"):
            options["sleep_after_open"] = 0.0  # only a microcontroller that reboots on opening needs python-can's 2 s
        try:
            bus: Bus = can.Bus(interface=self._interface, channel=channel, **options)
        except Exception as error:  # serial, socket, value and import errors, as the interface has it
            hint = HINTS.get(self._interface, f"allowed interfaces: {', '.join(sorted(can.VALID_INTERFACES))}")
            where = f"interface {self._interface!r}, channel {self._channel!r}"
            raise DriverError(f"can_mit: cannot open {where}: {error}; {hint}") from error
        return bus

    def enable(self) -> None:
        """Let the motors act, damped. Raises DriverError when a joint does not answer, with all disabled again."""
        self._opened()
        self._enabled = True  # from the first frame on, so that a stop in between disables
        try:
            self._transmit([ENTER] * len(self._motors))
            self.read(ENABLE_TIMEOUT)
            self.write(self._stop_damping)
            self.read(ENABLE_TIMEOUT)
        except StaleState as error:
            self._transmit([EXIT] * len(self._motors))
            self._enabled = False
            raise DriverError(f"{error}; nothing is enabled; check the motors' power, wiring and ids") from error

    def poll(self) -> None:
        """Ask for a state with exit frames: for read-only use. Raises DriverError once the robot is enabled.

        An exit frame ends what another controller on the same bus does: only poll a robot that nobody runs.
        """
        if self._enabled:
            raise DriverError("can_mit: poll would disable the running motors; write a command to get a state")
        self._transmit([EXIT] * len(self._motors))

    def write(self, command: JointCommand) -> JointCommand:
        """Send a command; returns what was sent after saturation and quantisation, on the joint side.

        Nothing is sent unless every joint's part can be. Raises ProtocolError, naming the joint, for a value that is
        not finite; DriverError when the bus refuses.
        """
        rows = zip(*(field.tolist() for field in _fields(command)), strict=True)
        payloads, sent = [], []
        for name, motor, row in zip(self._names, self._motors, rows, strict=True):
            try:
                payload, actual = motor.encode(*row)
            except ProtocolError as error:
                raise ProtocolError(f"joint {name}: {error}") from error
            payloads.append(payload)
            sent.append(actual)
        self._transmit(payloads)
        return JointCommand(*np.array(sent).T)

    def read(self, timeout: float) -> JointState:
        """The state that answers the last write or poll, waiting at most `timeout` s for it.

        Raises StaleState naming the joints that did not answer; DriverError when the bus is gone or a motor reports
        a fault.
        """
        self._opened()
        deadline = self._clock.now() + timeout
        late = 0
        while self._pending:
            remaining = deadline - self._clock.now()
            message = self._receive(max(remaining, 0.0))
            if message is not None:
                self._accept(message)
            late += remaining <= 0
            if self._pending and ((message is None and late) or late > MAX_LATE_FRAMES):
                raise StaleState(self._describe_silence())
        assert self._state is not None
        return self._state

    def stop(self) -> None:
        """Damp for a moment if enabled, disable, disconnect. Idempotent; never raises, also when the bus is gone."""
        bus = self._bus
        if bus is None:
            return
        for step in (self._damp, self._disable, bus.shutdown):
            with contextlib.suppress(Exception, KeyboardInterrupt):  # an impatient Ctrl-C must not skip the next step
                step()
        self._bus = None

    def _damp(self) -> None:
        if not self._enabled:
            return
        start = self._clock.now()
        for k in range(round(STOP_DAMPING / STOP_PERIOD)):
            self.write(self._stop_damping)
            self._clock.sleep_until(start + (k + 1) * STOP_PERIOD)

    def _disable(self) -> None:
        self._enabled = False
        self._transmit([EXIT] * len(self._motors))

    def _transmit(self, payloads: Sequence[bytes]) -> None:
        """One frame to each motor; what was not answered before is dropped. Raises DriverError."""
        bus = self._opened()
        if self._pending:
            self._drain()
        self._pending = set(range(len(self._motors)))
        self._asked = self._clock.now()
        for i, payload in enumerate(payloads):
            can_id = self._motors[i].can_id
            self._last_sent[i] = payload
            try:
                bus.send(self._message(arbitration_id=can_id, data=payload, is_extended_id=False), SEND_TIMEOUT)
            except Exception as error:  # a bus raises what its vendor's library raises
                raise self._lost(f"joint {self._names[i]} (motor {can_id}) cannot be sent to", error) from error

    def _receive(self, timeout: float) -> Any:
        bus = self._opened()
        try:
            return bus.recv(timeout)
        except Exception as error:
            raise self._lost("cannot receive", error) from error

    def _opened(self) -> Bus:
        if self._bus is None:
            raise DriverError("can_mit: the bus is not open; call open first")
        return self._bus

    def _lost(self, what: str, error: Exception) -> DriverError:
        where = f"interface {self._interface!r}, channel {self._channel!r}"
        if self._given is not None:
            where = f"bus {type(self._given).__name__}"
        return DriverError(f"can_mit: {what}: {error} ({where}); check the adapter, its cable and its power")

    def _drain(self) -> None:
        in_vain = 0
        for _ in range(2 * MAX_LATE_FRAMES):
            if self._receive(DRAIN_WAIT) is not None:
                self.ignored["stale"] += 1
                in_vain = 0
            elif (in_vain := in_vain + 1) == DRAIN_LOOKS:
                return

    def _accept(self, message: Any) -> None:
        payload = bytes(message.data)
        if message.is_error_frame or message.is_remote_frame or not payload:
            self.ignored["malformed"] += 1
            return
        if payload in self._last_sent:  # UDP multicast echoes what we send
            self.ignored["echo"] += 1
            return
        index = self._index.get(payload[0])
        if index is None:
            self.ignored["unknown"] += 1
            return
        motor = self._motors[index]
        try:
            reply = motor.codec.decode_reply(payload)
        except ProtocolError:
            self.ignored["malformed"] += 1
            return
        if reply.fault:
            raise DriverError(f"joint {self._names[index]}: motor {motor.can_id} reports fault {reply.fault}")
        self._replies[index] = reply
        self._answered[index] = self._clock.now()
        self._pending.discard(index)
        if not self._pending:
            values = [motor.decode(reply) for motor, reply in zip(self._motors, self._replies, strict=True) if reply]
            self._state = JointState(self._asked, *np.array(values).T)

    def _describe_silence(self) -> str:
        now = self._clock.now()
        joints = []
        for i in sorted(self._pending):
            joint = f"joint {self._names[i]} (motor {self._motors[i].can_id})"
            joints.append(f"{joint} has not answered for {now - self._answered[i]:.3f} s")
        return f"can_mit: {'; '.join(joints)}"


class _Motor:
    """One joint's motor: joint = sign · motor + offset for positions, sign alone for velocities and torques."""

    def __init__(self, joint: Joint) -> None:
        self.can_id, self.acts = joint.motor.id, joint.acts
        self.sign, self.offset = joint.motor.sign, joint.motor.offset
        self.codec = MotorCodec(joint.motor)
        self._bound = self.codec.torque_bound  # no command of ours can be taken for a reserved or an all-zero frame

    def encode(
        self, position: float, velocity: float, kp: float, kd: float, torque: float
    ) -> tuple[bytes, tuple[float, float, float, float, float]]:
        """Payload, and what it says in the order of `JointCommand`. Raises ProtocolError."""
        if not self.acts:
            position, velocity, kp, torque = self.offset, 0.0, 0.0, 0.0
        if math.isfinite(torque):  # else the codec refuses it
            torque = max(-self._bound, min(self._bound, torque))
        payload, sent = self.codec.encode(
            MotorCommand(self.sign * (position - self.offset), self.sign * velocity, kp, kd, self.sign * torque)
        )
        position, velocity = self.sign * sent.position + self.offset, self.sign * sent.velocity
        return payload, (position, velocity, sent.kp, sent.kd, self.sign * sent.torque)

    def decode(self, reply: MotorReply) -> tuple[float, float, float]:
        """Position, velocity and torque on the joint side."""
        return self.sign * reply.position + self.offset, self.sign * reply.velocity, self.sign * reply.torque


def _fields(command: JointCommand) -> tuple[Any, ...]:
    return command.position, command.velocity, command.kp, command.kd, command.torque
