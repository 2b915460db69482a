"""The process beside a control loop that works out adaptations: `python -m adapt.beside FILE.onnx`.

It says `ready`, or why not in an `error`. Then a line of JSON asks for one adaptation: `logs`, the `role` of the
rollouts that teach, how many there must be, and whether they are the `last` before the answer acts. The answer is a
line with the next `fast` state (F,), or with an `error`. It is `MetaLearner.adapt`, the inner loop of training, on what
is on disk, or for an oracle the identification of its robot; asked again it gives the same numbers. The end of its
input ends it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapt.scored import task_of
from hardware_io.bundle import Bundle, BundleError, read_bundle
from hardware_io.config import ConfigError
from hardware_io.recorder import RecordingError
from hardware_io.recording import Rollout, read_recording

if TYPE_CHECKING:
    from adapt.identified import Identifier

NICENESS = 10  # the control loop comes first
WHOLE = ("done", "limit")  # outcomes of rollouts that were not cut short by anything but the robot


def taught(logs: list[Path], role: str, count: int) -> list[Rollout]:
    """The `count` whole rollouts of a role in the logs. Raises RecordingError when there are more or fewer."""
    rollouts = [r for path in logs for r in read_recording(path).rollouts() if r.role == role and r.outcome in WHOLE]
    if len(rollouts) != count:
        raise RecordingError(f"{logs[-1]}: {len(rollouts)} whole rollouts of {role!r}; needed: {count}")
    return rollouts


class Pupil:
    """The learner of a file. Raises BundleError, ConfigError, ModuleNotFoundError without torch."""

    def __init__(self, bundle: Bundle) -> None:
        import torch

        from adapt.slow import unpack

        torch.set_num_threads(1)  # small products: more threads would only wait for each other, and for the loop
        self._learner, self._task = unpack(bundle), task_of(bundle)

    def learn(self, logs: list[Path], role: str, count: int, last: bool = True) -> np.ndarray:
        """The fast state (F,) after the rollouts of a role, settled after the `last` that teach.

        Raises DivergenceError, RecordingError, ValueError.
        """
        import torch

        from adapt.recorded import episodes_of

        episodes = episodes_of(taught(logs, role, count), self._task)
        with torch.no_grad():
            fast = self._learner.adapt(episodes.fast[:, 0], episodes)
            found: np.ndarray = fast[0].numpy()
        return self.settled(found) if last else found

    def settled(self, fast: np.ndarray) -> np.ndarray:
        """What to act with from the fast state (F,) when no more rollouts teach, (F,)."""
        import torch

        with torch.no_grad():
            found: np.ndarray = self._learner.settle(torch.from_numpy(fast)[None])[0].numpy()
        return found


def pupil_of(bundle: Bundle) -> Pupil | Identifier:
    """Whoever works out the fast state of a file. Raises as they do."""
    if bundle.slow:
        return Pupil(bundle)
    from adapt.identified import Identifier

    return Identifier(bundle)


def main(argv: list[str]) -> int:
    """Answer until the input ends. Returns 0, or 2 when it cannot begin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the loop, which ends this process
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.nice(NICENESS)
    try:
        pupil = pupil_of(read_bundle(argv[0]))
    except (BundleError, ConfigError) as error:
        return _refuse(str(error))
    except ModuleNotFoundError as error:
        return _refuse(f"{error.name} is not installed on this computer: pip install 'acclimate[train]'")
    _say({"ready": True})
    for line in sys.stdin:
        _say(_answer(pupil, json.loads(line)))
    return 0


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _refuse(problem: str) -> int:
    _say({"error": problem})
    return 2


def _answer(pupil: Pupil | Identifier, request: dict[str, Any]) -> dict[str, Any]:
    from adapt.outer import DivergenceError

    try:
        logs = [Path(path) for path in request["logs"]]
        found = pupil.learn(logs, request["role"], request["rollouts"], request["last"])
        return {"fast": found.tolist()}
    except (DivergenceError, RecordingError, ValueError) as error:
        return {"error": str(error)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
