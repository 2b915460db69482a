"""One adaptation on disk: every rollout and every decision is in its logs before it is used, and is not made twice.

A session is a folder of numbered logs; each run of the program and each turn of a watch begins a new one, and none is
ever written over. What an interrupted session had come to is read back: asked for a rollout or a decision that the
logs hold, it answers from them, and only then does the robot move. So the program that adapts is written as if nothing
could interrupt it. A rollout that was cut stays in its log and is run again, with the noise that it had.
"""

from __future__ import annotations

import fcntl
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from adapt.drift import FIT
from adapt.scored import Scored, scored, task_of
from hardware_io.bundle import Bundle
from hardware_io.clock import Clock
from hardware_io.config import ConfigError, build, dump, option
from hardware_io.loop import ControlLoop
from hardware_io.recorder import Recorder, RecordingError
from hardware_io.recording import Recording, Rollout, read_recording

Float32 = NDArray[np.float32]
WHOLE = ("done", "limit")  # outcomes of rollouts that nothing but the robot cut short
TURN, END = "turn", "end"  # events that begin a log of a watch, and end a session


@dataclass(frozen=True)
class Plan:
    """What an adaptation may cost and how sure it must be."""

    rollouts: int = option(3, min=1, help="that teach")
    adaptations: int = option(1, min=1, help="among which they are divided")
    judge: int = option(6, min=1, max=10, help="most rollouts of each policy that judge")
    error_rate: float = option(0.05, min=1e-4, max=0.5, help="chance to deploy what is no better")
    seed: int = option(0, min=0, help="of exploration noise and of the order of rollouts")
    every: int = option(0, min=0, help="rollouts that are watched between two adaptations; 0: one adaptation, then end")
    false_alarms: float = option(0.005, min=1e-6, max=0.5, help="a watched rollout, on average, at most")

    def __post_init__(self) -> None:
        if self.rollouts < self.adaptations:
            raise ConfigError("", "rollouts", self.rollouts, f"at least {self.adaptations}, one an adaptation")
        if 0 < self.every < FIT:
            raise ConfigError(
                "", "every", self.every, f"at least {FIT}, from which the drift alarm learns what is usual"
            )

    def lessons(self) -> list[int]:
        """How many rollouts come before each adaptation."""
        return [len(part) for part in np.array_split(np.arange(self.rollouts), self.adaptations)]


class Session:
    """Rollouts and decisions of one file on one robot. Set `loop` before anything is asked that the logs do not hold.

    `report(Scored, from_log)` hears of each rollout. Raises ConfigError when the folder holds a session of another file
    or plan, one that has ended, or one that another process is in; RecordingError when a log cannot be read.
    """

    def __init__(self, folder: Path, bundle: Bundle, digest: str, plan: Plan, clock: Clock) -> None:
        self.folder, self.bundle, self.plan = folder, bundle, plan
        self.task = task_of(bundle)
        self.loop: ControlLoop | None = None
        self.report: Callable[[Scored, bool], None] | None = None
        self.rollouts: list[Scored] = []  # of this turn, from the logs or from the robot
        self.turn: dict[str, Any] = {}  # what the present turn began with, empty in the first
        self.logs: list[Path] = []  # of this turn
        self._clock, self._metadata = clock, {"bundle": digest, "task": bundle.task, "plan": dump(plan)}
        self._rollouts: dict[str, deque[Rollout]] = defaultdict(deque)
        self._decisions: dict[tuple[str, int], dict[str, Any]] = {}
        self._lock = self._take()
        for recording in self._past():
            self._remember(recording)
        self.recorder = self._open()

    def rollout(self, role: str, fast: Float32, explore: bool = False) -> Scored:
        """The next rollout of a role, from the fast state (F,); the robot settles before it.

        Raises what ControlLoop.rollout raises, and ConfigError when the log's began with another fast state.
        """
        remembered = bool(self._rollouts[role])
        if remembered:
            rollout = self._rollouts[role].popleft()
            wanted = np.where(self.bundle.kept, fast, self.bundle.fast)
            if not np.array_equal(rollout.fast_start, wanted):
                raise ConfigError(str(self.folder), role, "another fast state", "a session of this version")
        else:
            assert self.loop is not None
            self.loop.settle()
            rng = self.draw(len(self.rollouts)) if explore else None
            rollout = self.loop.rollout(fast, self.task.steps, rng, role)
        one = scored(self.task, rollout)
        self.rollouts.append(one)
        if self.report is not None:
            self.report(one, remembered)
        return one

    def decide(self, event: str, number: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A decision, made once: what the logs hold, or what `make` says, logged before it is used."""
        if (event, number) not in self._decisions:
            made = make()
            self.recorder.event(event, number=number, **made)
            self._decisions[event, number] = made
        return self._decisions[event, number]

    def meanwhile(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `work` gives, while the robot is kept damped."""
        return work() if self.loop is None else self.loop.meanwhile(work)

    def draw(self, *stream: int) -> np.random.Generator:
        """Random numbers that are the same after an interruption."""
        return np.random.default_rng((self.plan.seed, int(self.turn.get("number", 0)), *stream))

    def begin_turn(self, number: int, **state: Any) -> None:
        """Go on in a log of its own that begins with the state: nothing before it is needed any more."""
        self.recorder.close()
        self.rollouts, self.logs = [], []
        self._rollouts.clear()
        self._decisions.clear()
        self.recorder = self._open()
        self.turn = {"number": number, **state}
        self.recorder.event(TURN, **self.turn)
        if self.loop is not None:
            self.loop.record(self.recorder)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.recorder.__exit__(kind, *rest)
        self._lock.close()

    def end(self, **details: Any) -> None:
        """Nothing is left to do: the folder is closed to further adaptation."""
        self.recorder.event(END, **details)

    def _take(self) -> IO[bytes]:
        """The folder for this process alone, until it ends in whatever way."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("ab")
        except OSError as error:
            raise RecordingError(f"{self.folder}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            allowed = "a session that no other process is in, or another one with --session FOLDER"
            raise ConfigError(str(self.folder), "session", "in use", allowed) from error
        return lock

    def _past(self) -> list[Recording]:
        """The logs since the last turn began, in order."""
        found: list[Recording] = []
        for path in reversed(logs_of(self.folder)):
            recording = read_recording(path)
            self._check(recording)
            found.insert(0, recording)
            if any(message.values.get("event") == TURN for message in recording.messages):
                break
        return found

    def _check(self, recording: Recording) -> None:
        metadata, source = recording.metadata, str(recording.path)
        other = "another session, with --session FOLDER"
        events = {message.values.get("event") for message in recording.messages}
        if END in events:
            raise ConfigError(source, "session", "ended", other)
        if not events & {"rollout_start", TURN}:
            return  # nothing came of it
        if metadata and metadata.get("bundle") != self._metadata["bundle"]:
            raise ConfigError(source, "bundle", metadata.get("bundle"), f"{self._metadata['bundle']}; or {other}")
        before = metadata.get("plan")
        if before is not None and build(Plan, before, source, "plan") != self.plan:
            key = next(key for key, value in dump(self.plan).items() if before.get(key) != value)
            now = dump(self.plan)[key]
            raise ConfigError(source, f"plan.{key}", now, f"{before.get(key)} as this session began; or {other}")

    def _remember(self, recording: Recording) -> None:
        self.logs.append(recording.path)
        for rollout in recording.rollouts():
            if rollout.outcome in WHOLE:
                self._rollouts[rollout.role].append(rollout)
        for message in recording.messages:
            values = dict(message.values)
            if message.topic == "/event" and values["event"] == TURN:
                self.turn = {key: value for key, value in values.items() if key not in ("event", "time")}
            elif message.topic == "/event" and "number" in values:
                key = values.pop("event"), values.pop("number")
                self._decisions[key] = {name: value for name, value in values.items() if name != "time"}

    def _open(self) -> Recorder:
        """A log of its own. Raises RecordingError."""
        number = max((int(path.stem) for path in logs_of(self.folder)), default=0) + 1
        recorder = Recorder(self.folder / f"{number:04d}.mcap", self.bundle.spec, self._clock, **self._metadata)
        self.logs.append(recorder.path)
        return recorder


def logs_of(folder: Path) -> list[Path]:
    """The logs of a session in order; other files in the folder are none of its business."""
    return sorted((path for path in folder.glob("*.mcap") if path.stem.isdigit()), key=lambda path: int(path.stem))


def ended(folder: Path) -> bool:
    """Whether a session has come to its end. Raises RecordingError."""
    logs = logs_of(folder)
    return bool(logs) and any(m.values.get("event") == END for m in read_recording(logs[-1]).messages)


def folder_for(source: Path) -> Path:
    """Where the session of a file lies: FILE.adapt, or after sessions that have ended FILE.adapt-2, -3, …"""
    first = source.with_name(f"{source.stem}.adapt")
    number, folder = 1, first
    while folder.exists() and ended(folder):
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder
