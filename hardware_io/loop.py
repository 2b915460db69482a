"""The fixed-rate control loop: reads, asks the policy, passes the envelope, writes, records. Damped on the way out.

Every tick at `period.io` reads the newest state and writes a command; every `period.ratio`-th asks the policy, and the
command is held (and limited anew) in between. `T` policy steps, `O` observation, `A` action, `F` fast state.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware_io.clock import Clock, MonotonicClock
from hardware_io.envelope import NEAR, Envelope, EnvelopeStop, LimitReached
from hardware_io.observation import assemble
from hardware_io.prompt import ask_operator
from hardware_io.recorder import Recorder, RecordingError
from hardware_io.recording import Rollout
from hardware_io.runtime import Policy
from hardware_io.spec import RobotSpec
from hardware_io.state import Array, DriverError, JointCommand, JointState, Pollable, RobotIO, StaleState
from hardware_io.timing import Grid, Interruptions, real_time, undisturbed

Float32 = NDArray[np.float32]
# observation (O,), action (A,), next observation (O,), the action before (A,) or zeros → number
Reward = Callable[[Float32, Float32, Float32, Float32], Any]
Answer = TypeVar("Answer")
FIRST_ANSWER = 0.2  # s, for a robot that was silent because nobody asked it


class ControlLoop:
    """Runs rollouts of one policy on one robot.

    `reward` fills the channel `previous_reward`; a robot that has the channel needs it, else ValueError. `rest` is
    the pose, (J,) rad, near which rollouts start, or None for anywhere. With `dry_run` nothing is ever enabled:
    states are polled, and what would be sent is recorded. `ask` puts a question to the operator.
    """

    def __init__(
        self,
        policy: Policy,
        robot: RobotIO,
        clock: Clock,
        recorder: Recorder | None = None,
        reward: Reward | None = None,
        dry_run: bool = False,
        rest: Array | None = None,
        ask: Callable[[str], bool] = ask_operator,
    ) -> None:
        self.policy, self.robot, self.dry_run = policy, robot, dry_run
        self.spec: RobotSpec = policy.spec
        self.envelope = Envelope(self.spec)
        self.scheduling = "virtual time"  # what priority the last rollout ran with
        self._clock, self._recorder, self._reward, self._rest, self._ask = clock, recorder, reward, rest, ask
        self._signals = Interruptions()
        self._grid = Grid(clock, self.spec.period.io)
        self._state: JointState | None = None
        self._rollouts = 0
        sources = {channel.source for channel in self.spec.channels}
        self._rewards = "previous_reward" in sources
        if self._rewards and reward is None:
            raise ValueError(f"robot {self.spec.name} has a channel previous_reward; the loop needs the task's reward")
        if dry_run and not isinstance(robot, Pollable):
            raise DriverError(f"{type(robot).__name__} cannot poll a state; a dry run needs a driver that can")

    @contextmanager
    def session(self) -> Iterator[ControlLoop]:
        """Open and enable the robot; stop it damped on the way out, whatever the reason, and record the reason."""
        failure: BaseException | None = None
        with self._signals.installed():
            try:
                self.robot.open()
                self.enable()
                yield self
            except BaseException as error:
                failure = error
                raise
            finally:
                with self._signals.held():
                    self.robot.stop()
                    if failure is not None and self._recorder is not None:
                        with suppress(RecordingError):  # a full disk may be the very reason
                            self._recorder.event("stop", reason=f"{type(failure).__name__}: {failure}")

    def enable(self) -> None:
        """Let the motors act, damped, unless this is a dry run. Raises DriverError."""
        if not self.dry_run:
            self.robot.enable()

    def record(self, recorder: Recorder) -> None:
        """Log to `recorder` from now on."""
        self._recorder = recorder

    def settle(self) -> None:
        """Damp the robot until it is still and near `rest`; the operator is asked after `still_timeout`.

        Still means that no joint travelled more than still_velocity · still_time within still_time: the noise of a
        velocity sensor does not keep it waiting. Raises EnvelopeStop when the operator says no.
        """
        with self._priority():
            self._settle()

    def _settle(self) -> None:
        safety = self.spec.safety
        self._resume()
        patience = self._clock.now() + safety.still_timeout
        history: deque[tuple[float, Array]] = deque()
        while True:
            state = self._idle_tick(homing=True)
            history.append((state.time, state.position))
            while history[-1][0] - history[0][0] > safety.still_time + self.spec.period.io / 2:
                history.popleft()
            watched = history[-1][0] - history[0][0] >= safety.still_time - self.spec.period.io / 2
            travel = np.ptp([position for _, position in history], axis=0)
            still = watched and bool((travel <= safety.still_velocity * safety.still_time).all())
            away = "" if self._rest is None else self._away(state, self._rest)
            if still and not away:
                return
            if self._clock.now() > patience:
                self._consult(away or f"not still after {safety.still_timeout} s")
                self._resume()
                patience = self._clock.now() + safety.still_timeout
                history.clear()

    def rollout(
        self, fast: Float32, steps: int, noise_rng: np.random.Generator | None = None, role: str = ""
    ) -> Rollout:
        """One rollout of at most `steps` policy steps from the fast state (F,), of which only what is kept counts.

        Without `noise_rng` the policy acts without exploration. `role` is what it is for, for the log. Leaving the
        limits ends the rollout with outcome `limit`, damped. Raises EnvelopeStop, NonFinite, StaleState, DriverError,
        RecordingError: then the session is over. Nothing moves the robot between rollouts: motors whose watchdog bites
        go limp until the next `settle`.
        """
        start = self.policy.start_fast(fast)
        number, self._rollouts = self._rollouts, self._rollouts + 1
        if self._recorder:
            self._recorder.event("rollout_start", rollout=number, fast=start, **({"role": role} if role else {}))
        gathered = _Gathered(self.spec, steps, start, number, noise_rng)
        with undisturbed(), self._priority():
            self._resume()
            outcome, reason = self._run(gathered)
        if self._recorder:
            self._recorder.event(
                "rollout_end",
                rollout=number,
                outcome=outcome,
                reason=reason,
                missed=gathered.missed,
                fast=gathered.fast,
                observation=gathered.observation[gathered.step],
            )
        return replace(gathered.rollout(outcome, reason), role=role)

    def meanwhile(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns or raises; in real time the robot is kept damped, tick by tick, until then."""
        if not isinstance(self._clock, MonotonicClock):
            return work()
        future = self._begin(work)  # outside, so that it has no real-time priority
        with self._priority():
            self._resume()
            return self._damped_until(future)

    @staticmethod
    def _begin(work: Callable[[], Answer]) -> Future[Answer]:
        """Have it done by a thread that does not keep the process alive."""
        future: Future[Answer] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def _damped_until(self, future: Future[Answer]) -> Answer:
        while not future.done():
            self._idle_tick(homing=False)
        return future.result()

    @contextmanager
    def _priority(self) -> Iterator[None]:
        """Real-time priority while ticking, on a real clock; what it came to stays in `scheduling`."""
        if isinstance(self._clock, MonotonicClock):
            with real_time() as self.scheduling:
                yield
        else:
            yield

    def _run(self, gathered: _Gathered) -> tuple[str, str]:
        """Tick until the rollout ends: outcome and reason."""
        ratio = self.spec.period.ratio
        first = due_next = -1
        asked = np.zeros(self.spec.action_size, np.float32)
        while True:
            number, due, missed = self._grid.next()
            with self._signals.held():
                late = self._clock.now() - due
                first = number if first < 0 else first
                state = self._read(due, missed)
                gathered.tick(late, missed if number > first else 0)
                decides = number >= due_next
                try:
                    self.envelope.admit(state)
                except LimitReached as limit:
                    self._observe(gathered, state)
                    self._write(self.envelope.damped(), late)
                    return "limit", str(limit)
                if decides:
                    self._observe(gathered, state)
                    if gathered.step == gathered.steps:
                        self._write(self.envelope.damped(), late)
                        return "done", ""
                    asked, latency = self._decide(gathered)
                    due_next = first + ((number - first) // ratio + 1) * ratio
                sent = self._write(self.envelope.limit(state, asked.astype(np.float64)), late)
                if decides:
                    self._note_step(gathered, asked, sent, latency)

    def _observe(self, gathered: _Gathered, state: JointState) -> None:
        """Put the observation of this moment behind the last step."""
        step, reward = gathered.step, 0.0
        if self._rewards and self._reward is not None and step:
            before, action = gathered.observation[step - 1], gathered.asked[step - 1]
            previous = gathered.asked[step - 2] if step > 1 else np.zeros_like(action)
            reward = float(self._reward(before, action, assemble(self.spec, state, False), previous))
        gathered.observation[step] = assemble(self.spec, state, step == 0, reward)

    def _decide(self, gathered: _Gathered) -> tuple[Float32, float]:
        """The command that the policy asks for, (A,), and how long it took, s."""
        step = gathered.step
        gathered.draw_noise()
        begin = time.perf_counter()
        asked, gathered.fast = self.policy.step(gathered.observation[step], gathered.fast, gathered.noise[step])
        return asked, time.perf_counter() - begin

    def _note_step(self, gathered: _Gathered, asked: Float32, command: JointCommand, latency: float) -> None:
        """Keep and record a step once its command is out."""
        values = command.torque if self.spec.command == "torque" else command.position
        step, sent = gathered.step, values[self.spec.acting]
        observation, noise = gathered.observation[step], gathered.noise[step]
        if self._recorder:
            now = self._clock.now()
            self._recorder.policy(now, gathered.number, step, observation, noise, asked, sent, latency)
        gathered.add_step(asked, sent, latency)

    def _read(self, due: float, missed: int) -> JointState:
        """The newest state, watched and recorded. One that is lost on the way is bridged by the one before."""
        try:
            self._state = self.robot.read(self.spec.period.io / 2)
        except StaleState:
            age = np.inf if self._state is None else due - missed * self.spec.period.io - self._state.time
            if self._state is None or age > self.spec.safety.stale_after:
                raise
        if self._recorder:
            self._recorder.state(self._state)
        self.envelope.check(self._state, due, missed)
        return self._state

    def _write(self, command: JointCommand, late: float) -> JointCommand:
        """Send a command, or in a dry run ask for the next state instead; record what was or would have been sent."""
        if self.dry_run and isinstance(self.robot, Pollable):
            self.robot.poll()
            sent = command
        else:
            sent = self.robot.write(command)
        if self._recorder:
            self._recorder.command(self._clock.now(), sent, late)
        return sent

    def _idle_tick(self, homing: bool) -> JointState:
        """A tick between rollouts."""
        _, due, missed = self._grid.next()
        with self._signals.held():
            late = self._clock.now() - due
            state = self._read(due, missed)
            pose = self._rest if homing else None
            command = self.envelope.damped() if pose is None else self.envelope.homing(state, pose)
            self._write(command, late)
        return state

    def _resume(self) -> None:
        """Take the robot up again after a pause in which nobody ticked: a fresh state, a fresh grid."""
        period = self.spec.period.io
        if self._state is not None and self._clock.now() - self._state.time < 1.5 * period:
            return
        with self._signals.held():
            if self._state is not None or self.dry_run:
                self._write(self.envelope.damped(), 0.0)
            self._state = self.robot.read(FIRST_ANSWER)
            if self._clock.now() - self._state.time > 1.5 * period:  # what enabling was answered with, long ago
                self._write(self.envelope.damped(), 0.0)
                self._state = self.robot.read(FIRST_ANSWER)
        self.envelope.missed = 0
        self._grid = Grid(self._clock, period)

    def _away(self, state: JointState, rest: Array) -> str:
        """Which joint is not where rollouts start, or nothing."""
        for name, position, wanted in zip(self.spec.joints, state.position, rest, strict=True):
            if abs(position - wanted) > NEAR:
                return f"joint {name} is at {position:.2f} rad; a rollout starts within {NEAR} rad of {wanted:.2f} rad"
        return ""

    def _consult(self, problem: str) -> None:
        """Ask whether to go on waiting; in real time the robot stays damped meanwhile. Raises EnvelopeStop on no."""
        question = f"{self.spec.name}: {problem}. Set it right and go on?"
        real = isinstance(self._clock, MonotonicClock)
        if not (self._damped_until(self._begin(lambda: self._ask(question))) if real else self._ask(question)):
            raise EnvelopeStop(f"{problem}; nobody says to go on")


class _Gathered:
    """The arrays of a rollout as it grows."""

    def __init__(
        self, spec: RobotSpec, steps: int, fast: Float32, number: int, noise_rng: np.random.Generator | None
    ) -> None:
        size = spec.action_size
        self.steps, self.step, self.number, self.missed = steps, 0, number, 0
        self.start = self.fast = fast
        self.observation = np.zeros((steps + 1, spec.observation_size), np.float32)
        self.asked, self.sent, self.noise = (np.zeros((steps, size), np.float32) for _ in range(3))
        self._latency = np.zeros(steps)
        self._late: list[float] = []
        self._rng = noise_rng

    def draw_noise(self) -> None:
        if self._rng is not None:
            self.noise[self.step] = self._rng.standard_normal(self.noise.shape[1])

    def tick(self, late: float, missed: int) -> None:
        self._late.append(late)
        self.missed += missed

    def add_step(self, asked: Float32, sent: Array, latency: float) -> None:
        self.asked[self.step], self.sent[self.step], self._latency[self.step] = asked, sent, latency
        self.step += 1

    def rollout(self, outcome: str, reason: str) -> Rollout:
        n = self.step
        return Rollout(
            observation=self.observation[: n + 1],
            asked=self.asked[:n],
            sent=self.sent[:n],
            noise=self.noise[:n],
            fast_start=self.start,
            fast_end=self.fast,
            outcome=outcome,
            reason=reason,
            latency=self._latency[:n],
            late=np.array(self._late),
            missed=self.missed,
        )
