"""What identification fits: rigid bodies, friction and motors of a planar robot, from measured torque to motion.

The torque that acts on a joint is gain · measured + offset, less viscous friction and dry friction, which grows with
the load: (coulomb + load · |torque|) · tanh(speed / 0.03 rad/s). A velocity that comes from past positions is old:
`start_age` moves it on by the acceleration at the start, `velocity_age` one that was logged, because it was filtered.
`K` parameters, `n` draws, `W` windows, `J` joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adapt.posterior import Prior
from adapt.windows import FIT, Batch
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.model import RigidModel
from sim.planar import PlanarBodies, PlanarModel, acceleration

FITTED = ("mass_scale", "com_shift", "inertia_scale", "viscous_friction", "coulomb_friction", "motor_inertia",
          "base_tilt")  # fmt: skip
SIGNED = ("com_shift", "base_tilt")
DRY_SPEED = 0.03  # rad/s, faster than this dry friction is whole
GAIN, LOAD, AGE = 0.1, 0.05, 0.004  # prior standard deviations: 1, 1, s
OFFSET = 0.001  # of the torque limit, prior standard deviation of a constant torque
DRY_DOUBT = 2.0  # times its range: dry friction is what a robot's designer knows least
DRIFT = {  # of prior standard deviations, what may change from session to session; bodies stay what they are
    "viscous_friction": 0.5, "coulomb_friction": 0.5, "torque_gain": 3.0, "torque_offset": 1.0, "load_friction": 1.0,
    "velocity_age": 1.0,
}  # fmt: skip
WILD = 1e4  # rad/s², no start is corrected by more
MECHANICAL_FLOOR = 1e-3  # of a scale, in units of 1: a mass that vanishes cannot be integrated


@dataclass(frozen=True)
class Parameter:
    """One number to fit, with what is known before any data."""

    name: str
    unit: str
    mean: float
    sd: float
    low: float = -np.inf
    drift: float = 0.0  # standard deviation of what changes from session to session


@dataclass(frozen=True)
class Forces:
    """What acts on the joints, each (J, n, 1)."""

    gain: Array
    offset: Array  # N·m
    viscous: Array  # N·m·s/rad
    coulomb: Array  # N·m
    load: Array  # N·m a N·m

    def net(self, torque: Array, velocity: Array) -> Array:
        """Torque that moves the bodies, (J, n, W) N·m, at measured torque (J, 1, W) and velocity (J, n, W)."""
        drive = self.gain * torque + self.offset
        dry = (self.coulomb + self.load * np.abs(drive)) * np.tanh(velocity / DRY_SPEED)
        return np.asarray(drive - self.viscous * velocity - dry)


class RobotModel:
    """Parameters and predictions of one robot. Raises ConfigError for a robot that is not planar."""

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        rigid = RigidModel(spec)
        self.ranges = rigid.ranges
        self._plane = PlanarModel(rigid)
        self._fitted = [i for i, p in enumerate(self.ranges.parameters.values()) if p.apply in FITTED]
        self.parameters = (*self._physical(), *self._measured())
        self.names = tuple(p.name for p in self.parameters)

    @property
    def prior(self) -> Prior:
        """Before any data."""
        sd = np.array([p.sd for p in self.parameters])
        return Prior(self.mean, np.diag(sd**2), self.low)

    @property
    def mean(self) -> Array:
        """Before any data, (K,)."""
        return np.array([p.mean for p in self.parameters])

    @property
    def low(self) -> Array:
        """Least physical values, (K,)."""
        return np.array([p.low for p in self.parameters])

    def predict(self, values: Array, batch: Batch) -> Array:
        """Positions (R, J, n, W) rad at the rows of windows under parameters (n, K)."""
        bodies, forces = self._plane.bodies(self._dynamics(values)), self._forces(values)
        shape = (len(self.spec.joints), len(values), len(batch.windows))
        q = np.broadcast_to(batch.position[:, None], shape)
        v = self._start(bodies, forces, values, batch, q, np.broadcast_to(batch.velocity[:, None], shape))
        path = np.empty((len(batch.step), *shape))
        with np.errstate(over="ignore", invalid="ignore"):  # a wild guess ends at infinity, which costs it the fit
            for k, h in enumerate(batch.step):
                q, v = self._advance(bodies, forces, q, v, batch.torque[k][:, None], h)
                path[k] = q
        rows = path[batch.ends, :, :, np.arange(len(batch.windows))]  # (R, W, J, n)
        return np.ascontiguousarray(rows.transpose(0, 2, 3, 1))

    def _advance(
        self, bodies: PlanarBodies, forces: Forces, q: Array, v: Array, torque: Array, h: Array
    ) -> tuple[Array, Array]:
        """One step of Runge and Kutta (4) of h (W,) s."""

        def at(q: Array, v: Array) -> Array:
            return acceleration(bodies, q, v, forces.net(torque, v))

        half = h / 2
        a1 = at(q, v)
        v2 = v + half * a1
        a2 = at(q + half * v, v2)
        v3 = v + half * a2
        a3 = at(q + half * v2, v3)
        v4 = v + h * a3
        a4 = at(q + h * v3, v4)
        return q + h / 6 * (v + 2 * v2 + 2 * v3 + v4), v + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)

    def _start(self, bodies: PlanarBodies, forces: Forces, values: Array, batch: Batch, q: Array, v: Array) -> Array:
        slope, logged = (values[:, self.names.index(name), None] for name in ("start_age", "velocity_age"))
        age = np.where(batch.sloped, slope, logged)  # (n, W) s
        now = v
        for _ in range(2):  # friction depends on the speed that is sought
            push = acceleration(bodies, q, now, forces.net(batch.torque[0][:, None], now))
            now = v + age * np.clip(push, -WILD, WILD)
        return now

    def _dynamics(self, values: Array) -> Array:
        """Hidden parameters of the robot (n, P); those that are not fitted are nominal."""
        dynamics = np.tile(self.ranges.nominal, (len(values), 1))
        dynamics[:, self._fitted] = values[:, : len(self._fitted)]
        return dynamics

    def _forces(self, values: Array) -> Forces:
        joints = list(self.spec.joints)
        found = {kind: np.zeros((len(joints), len(values), 1)) for kind in ("viscous_friction", "coulomb_friction")}
        for column, index in enumerate(self._fitted):
            parameter = list(self.ranges.parameters.values())[index]
            if parameter.apply in found:
                found[parameter.apply][joints.index(parameter.joint), :, 0] += values[:, column]
        extra = values[:, len(self._fitted) : -2].T.reshape(3, len(joints), len(values), 1)
        return Forces(extra[0], extra[1], found["viscous_friction"], found["coulomb_friction"], extra[2])

    def _physical(self) -> list[Parameter]:
        """The robot's own parameters; the range in tests is two standard deviations to either side."""
        chosen = []
        for name, p in self.ranges.parameters.items():
            if p.apply in FITTED:
                doubt = DRY_DOUBT if p.apply == "coulomb_friction" else 1.0
                low = -np.inf if p.apply in SIGNED else MECHANICAL_FLOOR if p.unit == "1" else 0.0
                sd = max(doubt * (p.test[1] - p.test[0]) / 4, 1e-9)
                chosen.append(Parameter(name, p.unit, p.nominal, sd, low, DRIFT.get(p.apply, 0.0) * sd))
        return chosen

    def _measured(self) -> list[Parameter]:
        """What stands between a log and the bodies."""
        joints = self.spec.joints
        gain, load, age = (
            DRIFT[k] * sd for k, sd in (("torque_gain", GAIN), ("load_friction", LOAD), ("velocity_age", AGE))
        )
        offset, shift = {k: OFFSET * joint.torque_limit for k, joint in joints.items()}, DRIFT["torque_offset"]
        return [
            *(Parameter(f"torque_gain.{k}", "1", 1.0, GAIN, MECHANICAL_FLOOR, gain) for k in joints),
            *(Parameter(f"torque_offset.{k}", "N·m", 0.0, sd, drift=shift * sd) for k, sd in offset.items()),
            *(Parameter(f"load_friction.{k}", "1", 0.0, LOAD, 0.0, load) for k in joints),
            Parameter("start_age", "s", FIT / 2, AGE, 0.0),
            Parameter("velocity_age", "s", FIT / 2, AGE, 0.0, age),
        ]
