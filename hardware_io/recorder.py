"""Every tick on disk before the next one: an MCAP file that Foxglove opens and a cut leaves readable.

Unchunked and unbuffered: each message is one `write` to the operating system, so that a killed process loses at most
the message it was writing. A crash of the whole machine may lose what the system had not yet written back. Topics,
all JSON with a schema, times in s on the clock of the loop:

    /state    position (J,) rad, velocity (J,) rad/s, torque (J,) N·m       every tick
    /command  the joint command that was sent, as the driver quantised it   every tick
    /policy   observation (O,), noise (A,), asked (A,), sent (A,)           every policy step
    /event    rollout_start, rollout_end, stop, with role, reason and fast state; decisions of an adaptation

A number that is not finite is written as null, because JSON has none, and is reported when the log is read.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hardware_io.clock import Clock
from hardware_io.spec import RobotSpec
from hardware_io.state import JointCommand, JointState

ARRAY = {"type": "array", "items": {"type": "number"}}  # viewers know no unions, so null stays unsaid
NUMBER = {"type": "number"}
TEXT = {"type": "string"}
COMMAND_FIELDS = ("position", "velocity", "kp", "kd", "torque")
TOPICS: dict[str, dict[str, Any]] = {
    "/state": {"time": NUMBER, "position": ARRAY, "velocity": ARRAY, "torque": ARRAY},
    "/command": {"time": NUMBER, "late": NUMBER, **dict.fromkeys(COMMAND_FIELDS, ARRAY)},
    "/policy": {
        "time": NUMBER,
        "rollout": NUMBER,
        "step": NUMBER,
        "latency": NUMBER,
        **dict.fromkeys(("observation", "noise", "asked", "sent"), ARRAY),
    },
    "/event": {
        "time": NUMBER,
        "event": TEXT,
        "rollout": NUMBER,
        "role": TEXT,
        "outcome": TEXT,
        "reason": TEXT,
        "missed": NUMBER,
        "fast": ARRAY,
        "observation": ARRAY,
    },
}
METADATA = "acclimate"
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class RecordingError(RuntimeError):
    """A log that cannot be written or read: names the file and what is wrong."""


class Recorder:
    """Appends to a new log. Raises RecordingError when the file exists already or the disk refuses a write.

    As a context manager it closes the log on the way out; an error that is under way is never hidden by another.
    """

    def __init__(self, path: str | Path, spec: RobotSpec, clock: Clock, **metadata: Any) -> None:
        """`metadata`, such as `bundle` (digest) and `task`, is stored as JSON beside the spec."""
        from mcap.writer import CompressionType, Writer

        self.path = Path(path)
        self._file = _Unbuffered(self.path)
        self._epoch = time.time_ns() - round(clock.now() * 1e9)  # so that viewers show the date
        self._clock = clock
        stream: Any = self._file  # the writer wants no more than its write and tell
        self._writer = Writer(stream, use_chunking=False, compression=CompressionType.NONE)
        self._writer.start(profile="", library="acclimate")
        joints = ",".join(spec.joints)
        self._channels = {}
        for topic, properties in TOPICS.items():
            schema = {"title": topic[1:], "type": "object", "properties": properties}
            number = self._writer.register_schema(f"acclimate.{topic[1:]}", "jsonschema", json.dumps(schema).encode())
            self._channels[topic] = self._writer.register_channel(topic, "json", number, {"joints": joints})
        document = {"robot": spec.name, "spec": spec.to_dict(), **metadata}
        self._writer.add_metadata(METADATA, {key: json.dumps(value) for key, value in document.items()})

    def state(self, state: JointState) -> None:
        self._add(
            "/state",
            state.time,
            position=state.position.tolist(),
            velocity=state.velocity.tolist(),
            torque=state.torque.tolist(),
        )

    def command(self, time: float, command: JointCommand, late: float) -> None:
        """What was sent; `late` is how long after its due time the tick began, s."""
        values = {name: getattr(command, name).tolist() for name in COMMAND_FIELDS}
        self._add("/command", time, late=late, **values)

    def policy(
        self,
        time: float,
        rollout: int,
        step: int,
        observation: Iterable[float],
        noise: Iterable[float],
        asked: Iterable[float],
        sent: Iterable[float],
        latency: float,
    ) -> None:
        """One step of a rollout: (O,), (A,), (A,), (A,), and the time of the inference, s."""
        vectors = {"observation": observation, "noise": noise, "asked": asked, "sent": sent}
        lists = {name: np.asarray(value, np.float64).tolist() for name, value in vectors.items()}
        self._add("/policy", time, rollout=rollout, step=step, latency=latency, **lists)

    def event(self, event: str, **details: Any) -> None:
        """`rollout_start`, `rollout_end`, `stop` or a decision; arrays among the details are written as lists."""
        plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in details.items()}
        self._add("/event", self._clock.now(), event=event, **plain)

    def close(self) -> None:
        """Finish the file, so that viewers find its index. Idempotent. Raises RecordingError.

        A log that refused a write before is left as it is: readable up to there.
        """
        if self._file.closed:
            return
        try:
            if not self._file.broken:
                self._writer.finish()
        finally:
            self._file.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except RecordingError:
            if kind is None:
                raise

    def _add(self, topic: str, time: float, **values: Any) -> None:
        message = {"time": time, **values}
        try:
            text = _encode(message)
        except ValueError:
            text = _encode(_nulls(message))
        stamp = self._epoch + (round(time * 1e9) if math.isfinite(time) else 0)
        self._writer.add_message(self._channels[topic], stamp, text.encode(), stamp)


class _Unbuffered:
    """The file as the MCAP writer sees it: every write goes to the operating system, whole or with an error."""

    def __init__(self, path: Path) -> None:
        self._path, self._count, self.closed = path, 0, False
        self.broken: RecordingError | None = None  # what came after half a record could not be read
        if path.exists():
            raise RecordingError(f"{path}: exists already; a log is never overwritten, choose another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be written: {error.strerror}") from error

    def write(self, data: bytes) -> int:
        if self.broken:
            raise self.broken
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._file, view)
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                hint = "; free some space; what was recorded so far is readable" if full else ""
                self.broken = RecordingError(f"{self._path}: {error.strerror} after {self._count} bytes{hint}")
                raise self.broken from error
            self._count += written
            view = view[written:]
        return len(data)

    def tell(self) -> int:
        return self._count

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._file)


def _nulls(value: Any) -> Any:
    """The same value with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
