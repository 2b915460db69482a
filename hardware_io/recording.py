"""A log read back: whatever a cut, a full disk or a bad record left of it, as the rollouts that were run.

`T` policy steps, `N` ticks, `O` observation, `A` action, `F` fast state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware_io.recorder import METADATA, TOPICS, RecordingError
from hardware_io.spec import RobotSpec
from hardware_io.state import Array

Float32 = NDArray[np.float32]
REQUIRED = {topic: set(properties) for topic, properties in TOPICS.items()} | {"/event": {"time", "event"}}


@dataclass(frozen=True)
class Rollout:
    """One rollout of a robot, as it was run or as a log remembers it."""

    observation: Float32  # (T+1, O)
    asked: Float32  # (T, A) what the policy wanted, N·m or rad
    sent: Float32  # (T, A) what the envelope and the driver made of it, at the first tick of the step
    noise: Float32  # (T, A)
    fast_start: Float32  # (F,)
    fast_end: Float32  # (F,)
    outcome: str  # done, limit, stop (the session ended in it), cut (the log ends in it)
    reason: str  # of a limit or a stop, else empty
    latency: Array  # (T,) s, of each inference
    late: Array  # (N,) s, how long after its due time each tick began
    missed: int  # deadlines skipped
    role: str = ""  # what it was for, as the caller of the loop said

    @property
    def steps(self) -> int:
        return len(self.asked)


class Message(NamedTuple):
    topic: str
    row: int  # among the messages of its topic, from 0
    values: dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """What a log holds. `complete` is false when it was cut; `problems` name file, topic and row."""

    path: Path
    complete: bool
    metadata: dict[str, Any]
    messages: list[Message] = field(repr=False)  # in the order of writing
    problems: tuple[str, ...] = ()

    @property
    def spec(self) -> RobotSpec:
        """The robot that was recorded. Raises ConfigError, RecordingError."""
        if "spec" not in self.metadata:
            raise RecordingError(f"{self.path}: no robot in it: cut before the first record, or not made by acclimate")
        return RobotSpec.from_dict(self.metadata["spec"], f"{self.path} (spec)")

    def column(self, topic: str, name: str) -> NDArray[np.float64]:
        """One value of all messages of a topic, (rows, …); null becomes NaN."""
        return np.array([m.values[name] for m in self.messages if m.topic == topic], dtype=np.float64)

    def rollouts(self) -> list[Rollout]:
        """All rollouts with at least one whole step. Raises RecordingError naming the row of a number not finite."""
        rollouts: list[Rollout | None] = []
        start: Message | None = None
        steps: list[Message] = []
        ticks: list[Message] = []
        for message in self.messages:
            event = message.values.get("event")
            if event == "rollout_start":
                start, steps, ticks = message, [], []
            elif start and event in ("rollout_end", "stop"):
                rollouts.append(self._rollout(start, steps, ticks, message.values))
                start = None
            elif message.topic == "/policy":
                steps.append(message)
            elif message.topic == "/command":
                ticks.append(message)
        if start:
            rollouts.append(self._rollout(start, steps, ticks, {"event": "cut"}))
        return [rollout for rollout in rollouts if rollout is not None]

    def _rollout(
        self, start: Message, steps: list[Message], ticks: list[Message], end: dict[str, Any]
    ) -> Rollout | None:
        """The last step is left out where the observation after it was not recorded."""
        observation = [self._vector(step, "observation") for step in steps]
        if "observation" in end:
            observation.append(np.array(end["observation"], np.float32))
        steps = steps[: len(observation) - 1]
        if not steps:
            return None
        asked, sent, noise = (
            np.stack([self._vector(step, name) for step in steps]) for name in ("asked", "sent", "noise")
        )
        fast = self._vector(start, "fast")
        return Rollout(
            observation=np.stack(observation),
            asked=asked,
            sent=sent,
            noise=noise,
            fast_start=fast,
            fast_end=np.array(end["fast"], np.float32) if "fast" in end else fast,
            outcome=end.get("outcome", end["event"]),
            reason=end.get("reason", ""),
            latency=np.array([step.values["latency"] for step in steps]),
            late=np.array([tick.values["late"] for tick in ticks]),
            missed=end.get("missed", 0),
            role=start.values.get("role", ""),
        )

    def _vector(self, message: Message, name: str) -> Float32:
        value = message.values[name]
        if None in value:
            raise RecordingError(f"{self.path}: {_not_finite(message, name)}; leave this log out of the adaptation")
        return np.array(value, np.float32)


def read_recording(path: str | Path) -> Recording:
    """Everything in a log up to its end or to where it was cut. Raises RecordingError when it is no log at all."""
    from mcap.records import Channel, Footer, Metadata
    from mcap.records import Message as McapMessage

    path = Path(path)
    topics: dict[int, str] = {}
    counts = dict.fromkeys(TOPICS, 0)
    messages: list[Message] = []
    metadata: dict[str, Any] = {}
    problems: list[str] = []
    complete = False
    for record in _records(path, problems):
        if isinstance(record, Channel):
            topics[record.id] = record.topic
        elif isinstance(record, Metadata) and record.name == METADATA:
            metadata.update({key: json.loads(value) for key, value in record.metadata.items()})
        elif isinstance(record, McapMessage) and topics.get(record.channel_id) in TOPICS:
            topic = topics[record.channel_id]
            message = Message(topic, counts[topic], _decode(record.data))
            counts[topic] += 1
            problem = _problem(message)
            if problem:
                problems.append(f"{path}: {problem}")
            if REQUIRED[topic] <= message.values.keys():
                messages.append(message)
        complete = complete or isinstance(record, Footer)
    return Recording(path, complete, metadata, messages, tuple(problems))


def _records(path: Path, problems: list[str]) -> Iterator[Any]:
    """The records of an MCAP file up to where it ends, cut or not."""
    from mcap.exceptions import EndOfFile, InvalidMagic, McapError
    from mcap.stream_reader import StreamReader

    try:
        with path.open("rb") as file:
            stream: Any = _Exact(file)  # the reader wants no more than its read
            yield from StreamReader(stream).records
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    except InvalidMagic as error:
        raise RecordingError(f"{path}: not an MCAP log") from error
    except EndOfFile:
        problems.append(f"{path}: cut: it ends at byte {path.stat().st_size} without the closing record")
    except (McapError, ValueError, MemoryError) as error:  # ValueError: text that is not UTF-8
        problems.append(f"{path}: unreadable from here on: {error!r}")


class _Exact:
    """A file whose reads are whole or an error: the stream reader takes a short read for a short record."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, length: int) -> bytes:
        data = self._file.read(length)
        return data if len(data) == length else b""  # empty means end of file to the reader


def _decode(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _problem(message: Message) -> str:
    missing = REQUIRED[message.topic] - message.values.keys()
    if missing:
        return f"{message.topic} row {message.row}: left out, without {', '.join(sorted(missing))}"
    bad = [name for name, value in message.values.items() if isinstance(value, list) and None in value]
    return _not_finite(message, bad[0]) if bad else ""


def _not_finite(message: Message, name: str) -> str:
    return f"{message.topic} row {message.row}: {name}[{message.values[name].index(None)}] is not finite"
