"""How a fast state follows from rollouts on a robot: carried by the graph, or worked out beside the control loop.

A learner that changes its fast state inside the graph has adapted when a rollout is over. The others take gradient
steps on what was recorded, or an oracle's robot is identified from it, in a process of their own that reads the log:
the control loop goes on ticking and needs no torch. What adapts in another way is a class beside these and a line in
`method_of`.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adapt.scored import Scored
from hardware_io.bundle import Bundle

Float32 = NDArray[np.float32]
ATTEMPTS = 3  # at one adaptation, by a process that somebody kills
WITHOUT_NOISE = ("oracle", "latent_search")  # motion alone tells of a robot, and tries are compared as they would act
PATIENCE = 300.0  # s, for an answer; a small policy on a slow computer takes seconds


class AdaptationError(RuntimeError):
    """No fast state follows from what was recorded, now or ever: says what the learner says."""


class HelperLost(RuntimeError):
    """The process that adapts cannot begin, or ends without an answer; what was recorded is still there."""


class Method(AbstractContextManager["Method"], Protocol):
    """What `adapt/online.py` asks of an adaptation."""

    explores: bool  # whether rollouts that teach are to draw exploration noise

    def adapt(self, support: list[Scored], logs: list[Path], role: str, last: bool = True) -> Float32:
        """The fast state (F,) after rollouts of one role, the newest, which also lie in the logs.

        It is for more rollouts that teach, or the `last`, to act with. Raises AdaptationError, HelperLost.
        """


class InGraph:
    """The fast state that the graph left behind."""

    explores = False

    def adapt(self, support: list[Scored], logs: list[Path], role: str, last: bool = True) -> Float32:
        return support[-1].rollout.fast_end

    def __enter__(self) -> InGraph:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Beside:
    """The learner of a file in a process of its own, which is started at once and again when it dies.

    Raises HelperLost with the reason when it cannot begin: then nothing has moved.
    """

    def __init__(self, file: Path, explores: bool = True) -> None:
        self._file, self.explores = file, explores
        self._start()

    def adapt(self, support: list[Scored], logs: list[Path], role: str, last: bool = True) -> Float32:
        whole = sum(one.rollout.steps > 0 for one in support)
        files = [str(path.resolve()) for path in logs]
        request = {"logs": files, "role": role, "rollouts": whole, "last": last}
        for _ in range(ATTEMPTS):
            answer = self._ask(json.dumps(request))
            if "fast" in answer:
                return np.array(answer["fast"], np.float32)
            if "error" in answer:
                raise AdaptationError(str(answer["error"]))
            self.close()
            self._start()
        raise HelperLost(f"the process that adapts ended {ATTEMPTS} times without an answer")

    def close(self) -> None:
        """End the process. Idempotent."""
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):  # of a request that nobody reads any more
                pipe.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        command = [sys.executable, "-m", "adapt.beside", str(self._file)]
        root = Path(__file__).resolve().parent.parent
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        assert self.process.stdin is not None and self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        answer = self._answer()
        if "ready" not in answer:
            self.close()
            raise HelperLost(f"{self._file}: nothing can adapt it: {answer.get('error', 'the process ended')}")

    def _ask(self, request: str) -> dict[str, Any]:
        """The answer to one line, or nothing when the process died."""
        try:
            self._stdin.write(request.encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            return {}
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """A line of the process. Raises HelperLost when it takes for ever."""
        if not select.select([self._stdout], [], [], PATIENCE)[0]:
            raise HelperLost(f"the process that adapts gave no answer in {PATIENCE:.0f} s")
        line = self._stdout.readline()
        if not line.endswith(b"\n"):
            return {}
        answer: dict[str, Any] = json.loads(line)
        return answer


def method_of(bundle: Bundle, file: Path) -> Method:
    """How the policy in a file adapts."""
    if in_graph(bundle):
        return InGraph()
    return Beside(file.resolve(), explores=explores(bundle))


def explores(bundle: Bundle) -> bool:
    """Whether rollouts that teach what is not in the graph draw exploration noise."""
    return bundle.learner not in WITHOUT_NOISE


def in_graph(bundle: Bundle) -> bool:
    """Whether a file's fast state follows from its graph alone."""
    return not bundle.slow and bundle.learner != "oracle"
