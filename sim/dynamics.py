"""What differs from robot to robot and is hidden from the policy: named parameters, their ranges, how each acts.

`P` is the number of parameters, in the order of the robot's YAML. How a parameter changes the rigid bodies is in
`sim/model.py`; how it changes motors and sensors is in `sim/actuator.py` and `sim/sensor.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError, build, option
from hardware_io.spec import RobotSpec
from hardware_io.state import Array

MECHANISMS = {  # how a parameter can act → (unit, what it must name)
    "mass_scale": ("1", "link"),  # mass and inertia of a link times this
    "com_shift": ("m", "link"),  # centre of mass of a link moved along `axis`
    "inertia_scale": ("1", "link"),  # inertia of a link about its centre of mass times this
    "viscous_friction": ("N·m·s/rad", "joint"),
    "coulomb_friction": ("N·m", "joint"),
    "motor_inertia": ("kg·m²", "joint"),  # of the rotor, seen at the joint
    "torque_scale": ("1", "joint"),  # torque that acts over torque that was commanded
    "torque_bumps": ("N·m", "joint"),  # greatest height of knocks that come in a rollout (sim/bumps.py)
    "torque_response": ("s", "joint"),  # time constant of the motor's torque
    "latency": ("s", None),  # from a command's computation to its action
    "sensor_noise": (None, "channel"),  # standard deviation, in the unit of the channel
    "base_tilt": ("rad", None),  # of the base about `axis`
}
SPLITS = ("train", "test", "outside")


@dataclass(frozen=True)
class DynamicsParameter:
    """One hidden parameter: its unit, nominal value, range in training and wider range in tests."""

    unit: str
    nominal: float
    train: tuple[float, float]
    test: tuple[float, float]
    apply: str = option(choices=tuple(MECHANISMS))
    link: str = ""
    joint: str = ""
    channel: str = ""
    axis: tuple[float, float, float] = (0.0, 1.0, 0.0)
    weight: float = option(1.0, min=0.0, help="of its turn, where robots differ in one parameter at a time")

    def __post_init__(self) -> None:
        unit, needs = MECHANISMS.get(self.apply, (None, None))
        if unit is not None and self.unit != unit:
            raise ConfigError("", "unit", self.unit, f"{unit!r}, the unit of {self.apply}")
        if needs is not None and not getattr(self, needs):
            raise ConfigError("", needs, getattr(self, needs), f"the {needs} that {self.apply} acts on")
        for key in ("train", "test"):
            low, high = getattr(self, key)
            if low > high:
                raise ConfigError("", key, [low, high], "[low, high] with low <= high")
        if self.test[0] > self.train[0] or self.test[1] < self.train[1]:
            raise ConfigError("", "test", list(self.test), f"a range that contains train {list(self.train)}")
        if not self.test[0] <= self.nominal <= self.test[1]:
            raise ConfigError("", "nominal", self.nominal, f"within test {list(self.test)}")
        if self.test[0] < 0 and self.apply not in ("com_shift", "base_tilt"):
            raise ConfigError("", "test", list(self.test), f"values >= 0 for {self.apply}")


@dataclass(frozen=True)
class DynamicsRange:
    """All hidden parameters of a robot."""

    parameters: dict[str, DynamicsParameter]

    @staticmethod
    def of(spec: RobotSpec) -> DynamicsRange:
        """The `dynamics` section of a robot. Raises ConfigError naming the key."""
        parameters = {}
        channels = {channel.name: channel.unit for channel in spec.channels}
        for name, data in spec.dynamics.items():
            key = f"dynamics.{name}"
            parameter = build(DynamicsParameter, data, spec.source, key)
            if parameter.joint and parameter.joint not in spec.joints:
                raise ConfigError(spec.source, f"{key}.joint", parameter.joint, f"one of {', '.join(spec.joints)}")
            if parameter.apply == "torque_bumps" and not spec.joints[parameter.joint].acts:
                raise ConfigError(spec.source, f"{key}.joint", parameter.joint, "a joint that acts")
            if parameter.apply == "sensor_noise" and channels.get(parameter.channel) != parameter.unit:
                allowed = ", ".join(f"{channel} ({unit})" for channel, unit in channels.items())
                raise ConfigError(spec.source, f"{key}.channel", f"{parameter.channel} ({parameter.unit})", allowed)
            parameters[name] = parameter
        return DynamicsRange(parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    @property
    def nominal(self) -> Array:
        """(P,), each in its own unit."""
        return np.array([parameter.nominal for parameter in self.parameters.values()])

    def bounds(self, split: str = "train") -> Array:
        """Low and high of each parameter, (P, 2)."""
        key = "train" if split == "train" else "test"
        return np.array([getattr(parameter, key) for parameter in self.parameters.values()]).reshape(-1, 2)

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Uniform draws, (n, P). `outside`: within the test range with at least one parameter beyond training."""
        if split not in SPLITS:
            raise ConfigError("dynamics", "split", split, f"one of {', '.join(SPLITS)}")
        within, train = self.bounds(split), self.bounds("train")
        if split == "outside" and not wider(within, train).any():
            raise ConfigError("dynamics", "test", "same as train", "a parameter whose test range is wider")
        return draw(within, n, rng, train if split == "outside" else None)

    def normalise(self, values: Array) -> Array:
        """Values on a scale where the training range is [-1, 1], (..., P)."""
        low, high = self.bounds("train").T
        return (values - (low + high) / 2) / np.where(high > low, (high - low) / 2, 1.0)

    def describe(self, values: Array) -> dict[str, Any]:
        """One draw (P,) as {name: "value unit"}, for people."""
        items = zip(self.parameters.items(), values, strict=True)
        return {name: f"{value:.4g} {parameter.unit}" for (name, parameter), value in items}


def wider(within: Array, inner: Array) -> NDArray[np.bool_]:
    """Which bounds (P, 2) reach beyond the inner ones (P, 2), (P,)."""
    return np.asarray((within[:, 0] < inner[:, 0]) | (within[:, 1] > inner[:, 1]))


def draw(within: Array, n: int, rng: np.random.Generator, beyond: Array | None = None) -> Array:
    """Uniform draws (n, P) within bounds (P, 2); at least one lies `beyond` narrower ones (P, 2)."""
    low, high = within.T
    values = rng.uniform(low, high, (n, len(low)))
    if beyond is not None:
        inner_low, inner_high = beyond.T
        inside = np.flatnonzero(((values >= inner_low) & (values <= inner_high)).all(axis=1))
        chosen = rng.choice(np.flatnonzero(wider(within, beyond)), len(inside))
        below, above = (inner_low - low)[chosen], (high - inner_high)[chosen]
        offset = rng.uniform(0, below + above)
        values[inside, chosen] = np.where(offset < below, low[chosen] + offset, inner_high[chosen] + offset - below)
    return values
