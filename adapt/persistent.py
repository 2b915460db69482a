"""A control loop that goes on after a stop, for twins alone: what stops there is a busy machine, and nobody is near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from hardware_io.envelope import EnvelopeStop
from hardware_io.loop import Answer, ControlLoop, Float32
from hardware_io.recording import Rollout
from hardware_io.state import DriverError, StaleState

ATTEMPTS = 10
PAUSES = (EnvelopeStop, StaleState, DriverError)  # what a pause of this process or of the twin's may end in

Result = TypeVar("Result")


class PersistentLoop(ControlLoop):
    """The loop with its watchdogs as they are; what they stopped is begun again, as an operator would.

    The robot is stopped, enabled anew and settled, and a rollout is repeated from the fast state that it started with.
    Each stop is printed, is in the log with its reason and in `stops`; after ATTEMPTS of one thing it is raised.
    A policy that is not finite and a log that cannot be written are no pauses.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stops: list[str] = []  # reasons

    def enable(self) -> None:
        """Raises DriverError when no attempt enables the motors."""
        self._persist(super().enable)

    def settle(self) -> None:
        self._persist(super().settle)

    def rollout(
        self, fast: Float32, steps: int, noise_rng: np.random.Generator | None = None, role: str = ""
    ) -> Rollout:
        """As ControlLoop's. Exploration noise is drawn on, not repeated."""
        once = super().rollout
        return self._persist(lambda: once(fast, steps, noise_rng, role))

    def meanwhile(self, work: Callable[[], Answer]) -> Answer:
        """Nothing is begun twice: a twin hangs limp until it is done."""
        return work()

    def _persist(self, action: Callable[[], Result]) -> Result:
        stopped = 0
        while True:
            try:
                if stopped:
                    super().enable()
                    super().settle()
                return action()
            except PAUSES as error:
                stopped += 1
                if stopped == ATTEMPTS:
                    raise
                self._stop(error)

    def _stop(self, error: Exception) -> None:
        """Stop the robot and tell why; it is open again afterwards. Raises DriverError when its bus is gone."""
        with self._signals.held():
            self.robot.stop()
        self.stops.append(str(error))
        if self._recorder is not None:
            self._recorder.event("stop", reason=f"{type(error).__name__}: {error}")
        print(f"stopped: {error}; once more", flush=True)
        self.robot.open()
