"""What a policy sees and gives, whatever it acts on: a robot, or any other distribution of tasks.

`O` observation, `A` action, `P` hidden parameters of a task.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_io.spec import RobotSpec
from hardware_io.state import Array


@dataclass(frozen=True)
class Linear:
    """A robot near rest in its goal: errors of position and velocity, (2J,), after one policy period.

    They are state @ errors + action @ command.
    """

    goal: tuple[float, ...]  # (J,) rad
    period: float  # s
    state: tuple[tuple[float, ...], ...]  # (2J, 2J) in rad and rad/s
    action: tuple[tuple[float, ...], ...]  # (2J, A), a N·m


@dataclass(frozen=True)
class Interface:
    """Sizes, units and ranges that a learner is built from; plain data, so that it travels in a checkpoint.

    With `discrete` actions a command is one-hot over `A` choices and `limit` is all ones; otherwise `limit` holds the
    largest command of each of the `A` actions, in its unit.
    """

    observation: int  # O
    limit: tuple[float, ...]  # (A,)
    discrete: bool = False
    angles: tuple[int, ...] = ()  # entries of the observation that are angles, rad
    endless: tuple[int, ...] = ()  # of these, those whose whole turns make no difference
    bounds: tuple[tuple[float, float], ...] = ()  # (P, 2) of the hidden parameters in training, each in its unit
    nominal: tuple[float, ...] = ()  # (P,)
    positions: tuple[int, ...] = ()  # entries of the observation that are positions of all joints, rad; or none
    velocities: tuple[int, ...] = ()  # those that are velocities of all joints, rad/s; or none
    linear: Linear | None = None  # of a robot with a pose to hold
    previous_reward: int | None = None  # entry of the observation: what the last step paid; or it is not seen
    rollout_start: int | None = None  # entry: 1 as a rollout, or an episode of it, begins

    @property
    def actions(self) -> int:
        """A"""
        return len(self.limit)

    @staticmethod
    def of(spec: RobotSpec, bounds: Array, nominal: Array, linear: Linear | None = None) -> Interface:
        """That of a robot whose hidden parameters have training bounds (P, 2) and nominal values (P,)."""
        slices = spec.channel_slices()
        units = [channel.unit for channel in spec.observed]
        whole = {  # the first of each source counts
            c.source: tuple(range(len(units))[slices[c.name]]) for c in reversed(spec.channels) if not c.joints
        }
        entry = {channel.source: slices[channel.name].start for channel in spec.channels}
        return Interface(
            observation=sum(part.stop - part.start for part in slices.values()),
            limit=tuple(map(float, spec.action_limit)),
            angles=tuple(i for i, unit in enumerate(units) if unit == "rad"),
            endless=tuple(
                slices[channel.name].start + index
                for channel in spec.channels
                if channel.source == "joint_position"
                for index, name in enumerate(channel.joints or spec.joints)
                if spec.joints[name].endless
            ),
            bounds=tuple((float(low), float(high)) for low, high in bounds),
            nominal=tuple(map(float, nominal)),
            positions=whole.get("joint_position", ()),
            velocities=whole.get("joint_velocity", ()),
            linear=linear,
            previous_reward=entry.get("previous_reward"),
            rollout_start=entry.get("rollout_start"),
        )
