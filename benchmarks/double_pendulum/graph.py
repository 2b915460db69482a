"""An exported file as a controller: one graph for all runs, asked in one batch, at its own period.

It is asked every 2 ms and decides at every tick of its period, holding the command in between, as the control loop
does: a pause delays no tick after it. Observations are the channels of its robot; the envelope is the hardware's and
stays out of the way, as does everything that the protocol does not tell a controller.
"""

from __future__ import annotations

import numpy as np

from benchmarks.double_pendulum.plant import DT, Flags
from hardware_io.bundle import Bundle
from hardware_io.config import ConfigError
from hardware_io.runtime import INPUTS, NonFinite, Policy, open_session
from hardware_io.spec import RobotSpec
from hardware_io.state import Array

MEASURED = {"joint_position": 0, "joint_velocity": 2}  # source → first row of a measured state
POSES = {"hanging": (0.0, 0.0), "upright": (np.pi, 0.0)}


def acting_joint(spec: RobotSpec) -> int:
    """0 for a pendubot, 1 for an acrobot. Raises ConfigError when the file is for another kind of robot."""
    source = spec.source or spec.name
    if len(spec.joints) != 2 or spec.action_size != 1:
        count = f"{len(spec.joints)} joints, {spec.action_size} acting"
        raise ConfigError(source, "joints", count, "two joints, shoulder and elbow, of which one acts")
    if spec.command != "torque":
        raise ConfigError(source, "command", spec.command, "torque")
    for name, pose in POSES.items():
        found = spec.poses.get(name)
        if found is None or not np.allclose(found, pose, atol=1e-3):
            raise ConfigError(source, f"poses.{name}", found, f"{pose}: the benchmark's angles")
    return spec.acting[0]


def policy_ratio(spec: RobotSpec) -> int:
    """Steps of 2 ms in a policy period. Raises ConfigError when it is no whole number."""
    ratio = spec.period.policy / DT
    if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
        source = spec.source or spec.name
        raise ConfigError(source, "period.policy", spec.period.policy, f"a whole multiple of {DT} s")
    return round(ratio)


class GraphController:
    """Raises BundleError or ConfigError when the file does not fit the benchmark."""

    def __init__(self, bundle: Bundle) -> None:
        self.spec = bundle.spec
        self.acting = acting_joint(self.spec)
        self.ratio = policy_ratio(self.spec)
        self._policy = Policy(bundle)  # checks names, types and sizes
        self._session = open_session(bundle.graph)
        batch = self._session.get_inputs()[0].shape[0]
        source = self.spec.source or self.spec.name
        if isinstance(batch, int):
            raise ConfigError(source, "graph", f"a batch of {batch}", "a dynamic batch, as `acclimate export` writes")
        self._names = list(self.spec.joints)
        for channel in self.spec.channels:
            if channel.source not in (*MEASURED, "rollout_start"):
                allowed = f"{', '.join(MEASURED)} and rollout_start: the benchmark tells no more"
                raise ConfigError(source, f"channels.{channel.name}.source", channel.source, allowed)
        self.start(0)

    def start(self, lanes: int) -> None:
        fast = self._policy.start_fast(self._policy.fast0)
        self._fast = np.tile(fast, (lanes, 1))
        self._command = np.zeros(lanes)
        self._due = np.zeros(lanes, dtype=int)
        self._fresh = np.ones(lanes, dtype=bool)

    def torque(self, measured: Array, step: int, asked: Flags) -> Array:
        """(n,) N·m. Raises NonFinite when the graph gives such a command."""
        deciding = np.flatnonzero(asked & (step >= self._due))
        if len(deciding):
            fast = self._fast[deciding]
            noise = np.zeros((len(deciding), 1), np.float32)
            observation = self._observe(measured[:, deciding], self._fresh[deciding])
            values = dict(zip(INPUTS, (observation, fast, noise), strict=True))
            command, self._fast[deciding] = self._session.run(("command", "next_fast"), values)
            if not np.isfinite(command).all():
                raise NonFinite(f"policy output command at {step * DT:.3f} s: allowed: finite numbers")
            self._command[deciding] = command[:, 0]
            self._due[deciding] = (step // self.ratio + 1) * self.ratio
            self._fresh[deciding] = False
        return self._command.copy()

    def _observe(self, measured: Array, fresh: Array) -> np.ndarray:
        """(n, O) float32 in the order of the channels."""
        parts = []
        for channel in self.spec.channels:
            if channel.source == "rollout_start":
                parts.append(fresh[None])
            else:
                joints = channel.joints or self._names
                parts.append(measured[[MEASURED[channel.source] + self._names.index(name) for name in joints]])
        return np.concatenate(parts).T.astype(np.float32)
