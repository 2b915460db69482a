"""The rigid body of a twin in MuJoCo: a robot's URDF on a fixed base, changed by hidden parameters.

It shares no code with the simulator that policies are trained in, so that a mistake there shows as a difference here.
`J` joints in the order of the spec, `P` hidden parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.dynamics import DynamicsParameter, DynamicsRange

STEP = 1e-3  # s, the longest physics step
STICTION_TIME = 2 * STEP  # s in which dry friction arrests a joint; MuJoCo allows no less


@dataclass(frozen=True)
class MotorDynamics:
    """What hidden parameters do to motors and sensors."""

    torque_scale: Array  # (J,) torque that acts over torque that the motor believes
    response: Array  # (J,) s, time constant of the torque
    latency: float  # s, from a command's arrival to its action
    position_noise: Array  # (J,) rad, standard deviation
    velocity_noise: Array  # (J,) rad/s
    torque_noise: Array  # (J,) N·m


class Physics:
    """One robot. Raises ConfigError for a URDF that MuJoCo refuses or that lacks a joint or link."""

    def __init__(self, spec: RobotSpec, dynamics: Array) -> None:
        path = str(Path(spec.source).parent / spec.urdf)
        try:
            body = mujoco.MjSpec.from_file(path)
            self._settle_options(body)
            _shape(body, spec, dynamics)
            self.model = body.compile()
        except ValueError as error:
            raise ConfigError(path, "", str(error), "a URDF that MuJoCo reads") from error
        self.data = mujoco.MjData(self.model)
        self._order = _order(self.model, spec)
        _weigh(self.model, spec, dynamics)
        mujoco.mj_setConst(self.model, self.data)
        if self.model.dof_M0.min() <= 0:
            raise ConfigError(path, "inertia", self.model.dof_M0.tolist(), "a moving mass at every joint")
        # MuJoCo's own arrays, looked up once: each look-up costs as much as a tenth of a step
        self._qpos, self._qvel, self._force = self.data.qpos, self.data.qvel, self.data.qfrc_applied
        self._option = self.model.opt
        mujoco.mj_forward(self.model, self.data)

    @staticmethod
    def _settle_options(body: mujoco.MjSpec) -> None:
        body.compiler.fusestatic = False  # fixed links stay, so that hidden parameters can name them
        body.compiler.discardvisual = True
        body.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        body.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT  # a fixed-base robot with nothing around it
        for joint in body.joints:
            joint.solref_friction = [STICTION_TIME, 1.0]
            joint.solimp_friction = [0.99, 0.999, 1e-3, 0.5, 2.0]  # as hard as the solver takes: little creep

    @property
    def position(self) -> Array:
        """(J,) rad; copy what you keep."""
        return self._qpos[self._order]

    @property
    def velocity(self) -> Array:
        """(J,) rad/s; copy what you keep."""
        return self._qvel[self._order]

    def step(self, torque: Sequence[float], duration: float) -> None:
        """Move on by `duration` s, at most STEP, under joint torques (J,) N·m."""
        self._option.timestep = duration
        self._force[self._order] = torque
        mujoco.mj_step(self.model, self.data)

    def place(self, position: Array, velocity: Array) -> None:
        """Put the joints at (J,) rad and (J,) rad/s."""
        mujoco.mj_resetData(self.model, self.data)
        self._qpos[self._order] = position
        self._qvel[self._order] = velocity
        mujoco.mj_forward(self.model, self.data)


def _shape(body: mujoco.MjSpec, spec: RobotSpec, dynamics: Array) -> None:
    """The parameters that move frames, before compilation: MuJoCo's shortcuts for frames that coincide are set then."""
    links = {item.name: item for item in body.bodies}
    for name, parameter, value in _items(spec, dynamics):
        if parameter.link and parameter.link not in links:
            raise ConfigError(spec.source, f"dynamics.{name}.link", parameter.link, f"one of {', '.join(links)}")
        if parameter.apply == "com_shift":
            shift = value * np.asarray(parameter.axis) / np.linalg.norm(parameter.axis)
            links[parameter.link].ipos = links[parameter.link].ipos + shift
        elif parameter.apply == "base_tilt":
            for root in body.worldbody.bodies:
                _turn(root, np.asarray(parameter.axis), value)


def _weigh(model: mujoco.MjModel, spec: RobotSpec, dynamics: Array) -> None:
    """The parameters that are numbers of the compiled model: the compiler refuses a link without mass, such as no
    payload, and its releases disagree on how a joint's damping is written."""
    for _, parameter, value in _items(spec, dynamics):
        if parameter.apply == "mass_scale":
            model.body(parameter.link).mass *= value
        if parameter.apply in ("mass_scale", "inertia_scale"):
            model.body(parameter.link).inertia *= value
        elif parameter.apply == "viscous_friction":
            model.joint(parameter.joint).damping = value
        elif parameter.apply == "coulomb_friction":
            model.joint(parameter.joint).frictionloss = value
        elif parameter.apply == "motor_inertia":
            model.joint(parameter.joint).armature = value


def motor_dynamics(spec: RobotSpec, dynamics: Array) -> MotorDynamics:
    """The parameters (P,) that act on motors and sensors."""
    names = list(spec.joints)
    scale, response = np.ones(len(names)), np.zeros(len(names))
    noise = {source: np.zeros(len(names)) for source in ("joint_position", "joint_velocity", "joint_torque")}
    channels = {channel.name: channel for channel in spec.channels}
    latency = 0.0
    for _, parameter, value in _items(spec, dynamics):
        if parameter.apply == "torque_scale":
            scale[names.index(parameter.joint)] *= value
        elif parameter.apply == "torque_response":
            response[names.index(parameter.joint)] = value
        elif parameter.apply == "latency":
            latency = float(value)
        elif parameter.apply == "sensor_noise":
            channel = channels[parameter.channel]
            for joint in channel.joints or names:
                noise[channel.source][names.index(joint)] = value
    return MotorDynamics(scale, response, latency, *noise.values())


def _items(spec: RobotSpec, dynamics: Array) -> list[tuple[str, DynamicsParameter, float]]:
    parameters = DynamicsRange.of(spec).parameters
    return [(name, item, float(v)) for (name, item), v in zip(parameters.items(), dynamics, strict=True)]


def _turn(body: mujoco.MjsBody, axis: Array, angle: float) -> None:
    """Turn a body that stands on the world about an axis through the world's origin."""
    turn, quaternion, position = np.zeros(4), np.zeros(4), np.zeros(3)
    mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), angle)
    mujoco.mju_mulQuat(quaternion, turn, body.quat)
    mujoco.mju_rotVecQuat(position, body.pos, turn)
    body.quat, body.pos = quaternion, position


def _order(model: mujoco.MjModel, spec: RobotSpec) -> Any:
    """Where the joints of the spec lie in MuJoCo's arrays: as a slice when they are all there is, in this order."""
    names = [model.joint(i).name for i in range(model.njnt)]
    for name in spec.joints:
        if name not in names:
            raise ConfigError(spec.source, f"joints.{name}", name, f"a moving joint of {spec.urdf}: {', '.join(names)}")
    if model.nv != model.njnt:
        raise ConfigError(spec.source, "urdf", spec.urdf, "revolute, continuous, prismatic and fixed joints only")
    return slice(None) if names == list(spec.joints) else [names.index(name) for name in spec.joints]
