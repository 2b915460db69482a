"""System identification as adaptation: the fast state of an oracle is what its robot was found to be.

An oracle is trained with the true hidden parameters in its fast state, so a calibration from its own rollouts is all
that it has to be told (identify first, then act: Kumar et al. 2021, https://arxiv.org/abs/2107.04034, with a fit in
place of a network). Bodies, friction and the motor's gain follow from how the robot moved under the torque that was
measured (`adapt/identify.py`), the motor's delay and lag from how that followed what was sent. What neither tells, such
as noise, stays nominal. `J` joints, `P` hidden parameters, `T` ticks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter

from adapt.identify import identify
from adapt.robot_model import RobotModel
from adapt.session import WHOLE
from hardware_io.bundle import Bundle
from hardware_io.motion_log import MotionLog
from hardware_io.recorder import RecordingError
from hardware_io.recording import read_recording
from hardware_io.robots import find_robot
from hardware_io.state import Array

TRIED = 9  # values of each of delay and lag, from end to end of what training had
FINE = 5e-4  # s, between samples of what was sent


@dataclass(frozen=True)
class Lived:
    """The ticks of one rollout."""

    motion: MotionLog
    sent_at: Array  # (T,) s
    sent: Array  # (T, J) N·m


class Identifier:
    """Finds the parameters of the robot that a file acts on. Raises ConfigError for a robot that is not planar."""

    def __init__(self, bundle: Bundle) -> None:
        spec = replace(bundle.spec, source=str(find_robot(bundle.spec.name)))  # beside which its URDF lies
        self._model, self._fast = RobotModel(spec), bundle.fast
        self._joints = list(spec.joints)

    def learn(self, logs: list[Path], role: str, count: int, last: bool = True) -> np.ndarray:
        """The fast state (F,) after the `count` whole rollouts of a role in the logs, whether they are the last or not.

        Raises RecordingError when there are more or fewer, ConfigError when too little moves in them.
        """
        lived = [one for path in logs for one in rollouts_of(path, role)]
        if len(lived) != count:
            raise RecordingError(f"{logs[-1]}: {len(lived)} whole rollouts of {role!r}; needed: {count}")
        fast, ranges = self._fast.copy(), self._model.ranges
        told = ranges.normalise(self.dynamics(lived)).clip(-1, 1)  # in training it was told nothing else
        fast[: len(told)] = told
        return fast

    def dynamics(self, lived: list[Lived]) -> Array:
        """The most probable hidden parameters, (P,), each in its unit; nominal where nothing tells them."""
        found = {name: p.mean for name, p in identify(self._model, [one.motion for one in lived])[0].parameters.items()}
        delay, lags = self._delays(lived)
        values = self._model.ranges.nominal
        for index, (name, p) in enumerate(self._model.ranges.parameters.items()):
            if name in found:
                values[index] = found[name]
            elif p.apply == "torque_scale":
                values[index] = found[f"torque_gain.{p.joint}"]
            elif p.apply == "latency":
                values[index] = delay
            elif p.apply == "torque_response" and p.joint in lags:
                values[index] = lags[p.joint]
        return values

    def _delays(self, lived: list[Lived]) -> tuple[float, dict[str, float]]:
        """Delay of the commands, s, and lag of each motor that has one, s."""
        ranges = self._model.ranges.parameters.values()
        delays = next((np.linspace(*p.train, TRIED) for p in ranges if p.apply == "latency"), np.zeros(1))
        lags = {p.joint: np.linspace(*p.train, TRIED) for p in ranges if p.apply == "torque_response"}
        total, best = np.zeros(len(delays)), dict[str, Any]()
        for joint, tried in lags.items():
            index = self._joints.index(joint)
            errors = sum(delay_errors(one, index, delays, tried) for one in lived)
            total, best[joint] = total + np.min(errors, axis=1), errors
        first = int(np.argmin(total))
        return float(delays[first]), {joint: float(lags[joint][np.argmin(e[first])]) for joint, e in best.items()}


def delay_errors(lived: Lived, joint: int, delays: Array, lags: Array) -> Array:
    """Square sum of measured torque less what was sent, so late and through such a lag, (delays, lags) (N·m)²."""
    at = lived.motion.time
    time = np.arange(lived.sent_at[0], at[-1], FINE)
    errors = np.empty((len(delays), len(lags)))
    for (i, delay), (k, lag) in product(enumerate(delays), enumerate(lags)):
        row = np.searchsorted(lived.sent_at, time - delay + 1e-9, side="right") - 1
        wanted = np.where(row >= 0, lived.sent[row, joint], 0.0)
        decay = np.exp(-FINE / max(lag, 1e-9))
        acting = lfilter([0.0, 1 - decay], [1.0, -decay], wanted)
        errors[i, k] = ((np.interp(at, time, acting) - lived.motion.torque[:, joint]) ** 2).sum()
    return errors


def rollouts_of(path: Path, role: str) -> Iterator[Lived]:
    """The rollouts of a role in a log that nothing but the robot cut short. Raises RecordingError."""
    states, commands, ours = list[dict[str, Any]](), list[dict[str, Any]](), False
    for message in read_recording(path).messages:
        values, event = message.values, message.values.get("event")
        if message.topic == "/state":
            states.append(values)
        elif message.topic == "/command":
            commands.append(values)
        elif event == "rollout_start":
            states, commands, ours = [], [], values.get("role", "") == role
        elif event == "rollout_end" and ours and values["outcome"] in WHOLE:
            time, position, velocity, torque = _columns(states, "time", "position", "velocity", "torque")
            motion = MotionLog(str(path), time, position, velocity, torque, None)
            yield Lived(motion, *_columns(commands, "time", "torque"))


def _columns(messages: list[dict[str, Any]], *names: str) -> list[Array]:
    return [np.array([values[name] for values in messages], np.float64) for name in names]
