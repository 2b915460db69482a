"""What a robot *is*: joints, motors, observation channels, rates and limits, read from one YAML file.

`O` is the size of the observation, `A` the number of joints that act, `J` the number of joints.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hardware_io.config import ConfigError, build, dump, merge, option, read_yaml
from hardware_io.state import Array

SOURCES = {  # where the values of a channel come from, and their unit
    "joint_position": "rad",
    "joint_velocity": "rad/s",
    "joint_torque": "N·m",
    "previous_reward": "1",
    "rollout_start": "1",  # 1 at the first observation of a rollout, else 0
}


@dataclass(frozen=True)
class Motor:
    """How one joint's motor is addressed and how its numbers are coded on the bus."""

    id: int = option(min=0, max=0x7FF, help="address on the bus")
    model: str = option("AK80-6")
    sign: int = option(1, choices=(-1, 1), help="joint = sign · motor + offset")
    offset: float = option(0.0, unit="rad")
    position_range: float = option(12.5, unit="rad", min=1e-3)
    velocity_range: float = option(22.5, unit="rad/s", min=1e-3)
    torque_range: float = option(12.0, unit="N·m", min=1e-3)
    kp_range: float = option(500.0, unit="N·m/rad", min=1e-3)
    kd_range: float = option(5.0, unit="N·m·s/rad", min=1e-3)


@dataclass(frozen=True)
class Joint:
    """One joint: what it may do and who drives it."""

    motor: Motor
    position_limit: tuple[float, float] = option(unit="rad")
    velocity_limit: float = option(unit="rad/s", min=1e-3)
    torque_limit: float = option(unit="N·m", min=0.0)
    torque_rate_limit: float = option(1e4, unit="N·m/s", min=1e-3)
    acts: bool = option(True, help="whether the policy commands it; else it is held at zero torque")
    endless: bool = option(False, help="whole turns make no difference: a policy sees sine and cosine alone")
    kp: float = option(0.0, unit="N·m/rad", min=0.0)
    kd: float = option(0.0, unit="N·m·s/rad", min=0.0)
    stop_damping: float = option(0.3, unit="N·m·s/rad", min=0.0)

    def __post_init__(self) -> None:
        low, high = self.position_limit
        if low >= high:
            raise ConfigError("", "position_limit", list(self.position_limit), "[low, high] rad with low < high")
        if self.torque_limit > self.motor.torque_range:
            raise ConfigError("", "torque_limit", self.torque_limit, f"at most {self.motor.torque_range} N·m (motor)")
        reach = self.motor.position_range - abs(self.motor.offset)
        if max(-low, high) > reach:
            raise ConfigError("", "position_limit", list(self.position_limit), f"within ±{reach} rad (motor range)")


@dataclass(frozen=True)
class Channel:
    """A named run of the observation. `joints` empty means all of them."""

    name: str
    source: str = option(choices=tuple(SOURCES))
    joints: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        return SOURCES[self.source]


@dataclass(frozen=True)
class Period:
    """The two rates of the loop."""

    policy: float = option(unit="s", min=1e-3, max=1.0)
    io: float = option(unit="s", min=5e-4, max=0.02, help="the motors' watchdog cuts a loop slower than 25 ms")

    def __post_init__(self) -> None:
        ratio = self.policy / self.io
        if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
            raise ConfigError("", "policy", self.policy, f"a whole multiple of the I/O period {self.io} s")

    @property
    def ratio(self) -> int:
        """I/O ticks per policy step."""
        return round(self.policy / self.io)


@dataclass(frozen=True)
class Safety:
    """When the envelope stops the robot, beside the limits of the joints."""

    stale_after: float = option(0.03, unit="s", min=1e-3, help="age of the last state at which the loop stops")
    missed_deadlines: int = option(5, min=1, help="deadlines missed in a row at which the loop stops")
    still_velocity: float = option(0.1, unit="rad/s", min=1e-4, help="slower than this counts as still")
    still_time: float = option(0.5, unit="s", min=0.0, help="how long it must be still between rollouts")
    still_timeout: float = option(15.0, unit="s", min=0.1, help="then the operator is asked")


@dataclass(frozen=True)
class RobotSpec:
    """A robot. `dynamics`, `tasks` and `poses` are read by the simulator; `raw` is the document itself."""

    name: str
    urdf: str
    period: Period
    joints: dict[str, Joint]
    channels: tuple[Channel, ...]
    command: str = option("torque", choices=("torque", "position"))
    safety: Safety = option(Safety)
    poses: dict[str, tuple[float, ...]] = option(dict, unit="rad")
    dynamics: dict[str, Any] = option(dict)
    tasks: dict[str, Any] = option(dict)
    physics: dict[str, Any] = option(dict)
    description: str = ""
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.acting:
            raise ConfigError("", "joints", list(self.joints), "at least one joint with acts: true")
        for index, channel in enumerate(self.channels):
            if channel.name in [other.name for other in self.channels[:index]]:
                raise ConfigError("", f"channels[{index}].name", channel.name, "a name that differs from the others")
            for name in channel.joints:
                if name not in self.joints:
                    raise ConfigError("", f"channels[{index}].joints", name, f"one of {', '.join(self.joints)}")
        for name, pose in self.poses.items():
            if len(pose) != len(self.joints):
                raise ConfigError("", f"poses.{name}", list(pose), f"{len(self.joints)} values, one a joint")

    @property
    def acting(self) -> list[int]:
        """Indices of the joints that the policy commands, (A,)."""
        return [i for i, joint in enumerate(self.joints.values()) if joint.acts]

    @property
    def observed(self) -> list[Channel]:
        """The channel of each entry of the observation, (O,)."""
        return [channel for channel in self.channels for _ in range(self.channel_size(channel))]

    @property
    def action_size(self) -> int:
        return len(self.acting)

    @property
    def observation_size(self) -> int:
        return sum(self.channel_size(channel) for channel in self.channels)

    def channel_size(self, channel: Channel) -> int:
        """How many values of the observation a channel holds."""
        if channel.source.startswith("joint_"):
            return len(channel.joints or self.joints)
        return 1

    def channel_slices(self) -> dict[str, slice]:
        """Where each named channel lies in the observation."""
        slices, start = {}, 0
        for channel in self.channels:
            slices[channel.name] = slice(start, start + self.channel_size(channel))
            start += self.channel_size(channel)
        return slices

    def joint_values(self, name: str) -> Array:
        """One number of every joint (`torque_limit`, `kd`, …), (J,)."""
        return np.array([getattr(joint, name) for joint in self.joints.values()], dtype=np.float64)

    @property
    def position_limits(self) -> Array:
        """(J, 2) rad."""
        return np.array([joint.position_limit for joint in self.joints.values()], dtype=np.float64)

    @property
    def action_limit(self) -> Array:
        """Largest command of each acting joint, (A,): N·m, or rad for position commands."""
        if self.command == "torque":
            return self.joint_values("torque_limit")[self.acting]
        return np.abs(self.position_limits).max(axis=1)[self.acting]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `RobotSpec.from_dict` reads back."""
        data = dump(self)
        del data["source"]
        return data

    @staticmethod
    def from_dict(data: dict[str, Any], source: str) -> RobotSpec:
        """Raises ConfigError naming `source` and the key."""
        return replace(build(RobotSpec, data, source), source=source)


def load_spec(path: str | Path) -> RobotSpec:
    """The robot in a YAML file; `base: other.yaml` inherits from a file beside it. Raises ConfigError."""
    path = Path(path)
    data, read = read_yaml(path), {path.name}
    while (base := data.pop("base", None)) is not None:
        if base in read:
            raise ConfigError(str(path), "base", base, "a file that does not inherit from this one in turn")
        read.add(base)
        data = merge(read_yaml(path.parent / str(base)), data)
    spec = RobotSpec.from_dict(data, str(path))
    if not (path.parent / spec.urdf).is_file():
        raise ConfigError(str(path), "urdf", spec.urdf, f"a URDF file beside {path.name}")
    return spec
