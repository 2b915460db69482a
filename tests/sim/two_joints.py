"""A robot that differs from the pendulum wherever it can: two joints, on a heavy raised stand, a weight on each link
that is fixed to it, and motors with other ids, a negative sign and an offset. The shoulder does not act."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hardware_io.spec import RobotSpec, load_spec

LINKS = {"stand": (7.0, 0.5), "upper": (0.5, -0.1), "lower": (0.4, -0.15), "tip": (0.1, 0.0)}  # kg, m along z
JOINTS = {  # type, parent, child, height m
    "mount": ("fixed", "floor", "stand", 0.2),
    "shoulder": ("continuous", "stand", "upper", 1.0),
    "elbow": ("continuous", "upper", "lower", -0.25),
    "tip_mount": ("fixed", "lower", "tip", -0.3),
}


def urdf() -> str:
    lines = ['<robot name="two_joints">', '<link name="floor"/>']
    for name, (mass, z) in LINKS.items():
        tensor = '<inertia ixx="0.002" ixy="0" ixz="0" iyy="0.002" iyz="0" izz="0.001"/>'
        inertial = f'<inertial><origin xyz="0 0 {z}"/><mass value="{mass}"/>{tensor}</inertial>'
        lines.append(f'<link name="{name}">{inertial}</link>')
    for name, (kind, parent, child, z) in JOINTS.items():
        ends = f'<parent link="{parent}"/><child link="{child}"/><origin xyz="0 0 {z}"/><axis xyz="0 1 0"/>'
        lines.append(f'<joint name="{name}" type="{kind}">{ends}</joint>')
    return "\n".join([*lines, "</robot>"])


def two_joints(folder: Path, order: tuple[str, ...] = ("shoulder", "elbow"), **dynamics: Any) -> RobotSpec:
    """Write the robot into a folder and load it."""
    limits = {"position_limit": [-3.0, 3.0], "velocity_limit": 20.0, "torque_limit": 6.0}
    joints = {
        "shoulder": {**limits, "acts": False, "motor": {"id": 7}},
        "elbow": {**limits, "motor": {"id": 2, "sign": -1, "offset": 0.4}},
    }
    document = {
        "name": "two_joints",
        "urdf": "two_joints.urdf",
        "period": {"policy": 0.02, "io": 0.01},
        "joints": {name: joints[name] for name in order},
        "channels": [
            {"name": "position", "source": "joint_position"},
            {"name": "elbow_velocity", "source": "joint_velocity", "joints": ["elbow"]},
        ],
        "dynamics": dynamics,
    }
    (folder / "two_joints.urdf").write_text(urdf())
    (folder / "robot.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return load_spec(folder / "robot.yaml")
