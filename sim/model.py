"""The rigid bodies of a robot: its URDF as arrays, changed by hidden parameters, with fixed links merged.

Working on arrays instead of on a loaded body lets any mass, centre of mass or inertia differ from robot to robot.
Kinematic trees on a fixed base, with revolute and fixed joints. `n` robots, `J` joints in the order of the spec.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.dynamics import DynamicsRange

MOVING, FIXED = ("revolute", "continuous"), ("fixed",)


@dataclass(frozen=True)
class Link:
    """A link of the URDF, in its own frame."""

    mass: float  # kg
    centre: Array  # (3,) m
    inertia: Array  # (3, 3) kg·m² about the centre of mass


@dataclass(frozen=True)
class UrdfJoint:
    """A joint of the URDF: where the child's frame sits in the parent's."""

    name: str
    kind: str
    parent: str
    child: str
    position: Array  # (3,) m
    rotation: Array  # (3, 3)
    axis: Array  # (3,)


@dataclass(frozen=True)
class Bodies:
    """Moving bodies of `n` robots, one a joint, in the frame of that joint."""

    mass: Array  # (n, J) kg
    centre: Array  # (n, J, 3) m
    inertia: Array  # (n, J, 3, 3) kg·m² about the centre of mass
    parent: tuple[int, ...]  # index of the parent body, -1 for the base
    position: Array  # (J, 3) m, of the joint in the parent's frame
    rotation: Array  # (J, 3, 3)
    axis: Array  # (J, 3)
    base_rotation: Array  # (n, 3, 3) of the base in the world


class RigidModel:
    """The URDF of a robot. Raises ConfigError that names the file, the element and what is allowed."""

    def __init__(self, spec: RobotSpec) -> None:
        self.path = str(Path(spec.source).parent / spec.urdf)
        self.links, self.urdf_joints = read_urdf(self.path)
        self.spec = spec
        self.by_child = {joint.child: joint for joint in self.urdf_joints.values()}
        self._check_joints()
        self.ranges = DynamicsRange.of(spec)
        for name, parameter in self.ranges.parameters.items():
            if parameter.link and parameter.link not in self.links:
                raise ConfigError(
                    spec.source, f"dynamics.{name}.link", parameter.link, f"one of {', '.join(self.links)}"
                )

    def bodies(self, dynamics: Array) -> Bodies:
        """Moving bodies under hidden parameters (n, P)."""
        n, joints = len(dynamics), list(self.spec.joints)
        mass = {name: np.full(n, link.mass) for name, link in self.links.items()}
        centre = {name: np.tile(link.centre, (n, 1)) for name, link in self.links.items()}
        inertia = {name: np.tile(link.inertia, (n, 1, 1)) for name, link in self.links.items()}
        base_rotation = np.tile(np.eye(3), (n, 1, 1))
        rotor = np.zeros((n, len(joints)))
        for (_, parameter), value in zip(self.ranges.parameters.items(), dynamics.T, strict=True):
            axis = np.asarray(parameter.axis)
            if parameter.apply == "mass_scale":
                mass[parameter.link] = mass[parameter.link] * value
                inertia[parameter.link] = inertia[parameter.link] * value[:, None, None]
            elif parameter.apply == "inertia_scale":
                inertia[parameter.link] = inertia[parameter.link] * value[:, None, None]
            elif parameter.apply == "com_shift":
                centre[parameter.link] = centre[parameter.link] + value[:, None] * axis / np.linalg.norm(axis)
            elif parameter.apply == "motor_inertia":
                rotor[:, joints.index(parameter.joint)] += value
            elif parameter.apply == "base_tilt":
                base_rotation = rotation_about(axis, value) @ base_rotation
        return self._merge(mass, centre, inertia, rotor, base_rotation)

    def _merge(
        self,
        mass: dict[str, Array],
        centre: dict[str, Array],
        inertia: dict[str, Array],
        rotor: Array,
        base_rotation: Array,
    ) -> Bodies:
        """Lump every link with the joint that moves it (parallel-axis theorem)."""
        joints = list(self.spec.joints)
        n = len(rotor)
        total, moment = np.zeros((n, len(joints))), np.zeros((n, len(joints), 3))
        about_origin = np.zeros((n, len(joints), 3, 3))
        for name in self.links:
            owner, position, rotation = self._owner(name)
            if owner is None:
                continue
            j = joints.index(owner)
            c = centre[name] @ rotation.T + position
            total[:, j] += mass[name]
            moment[:, j] += mass[name][:, None] * c
            about_origin[:, j] += rotation @ inertia[name] @ rotation.T + mass[name][:, None, None] * _steiner(c)
        whole = np.where(total > 0, total, 1.0)[..., None]
        middle = moment / whole
        about_centre = about_origin - total[..., None, None] * _steiner(middle)
        axes = np.stack([self.urdf_joints[name].axis for name in joints])
        # Bullet has no rotors: as inertia of the link they are exact on the base, and turn with their parent elsewhere.
        about_centre += rotor[..., None, None] * axes[:, :, None] * axes[:, None, :]
        placed = [self._placed(name) for name in joints]
        return Bodies(
            mass=total,
            centre=middle,
            inertia=about_centre,
            parent=tuple(-1 if parent is None else joints.index(parent) for parent, _, _ in placed),
            position=np.stack([position for _, position, _ in placed]),
            rotation=np.stack([rotation for _, _, rotation in placed]),
            axis=axes,
            base_rotation=base_rotation,
        )

    def _owner(self, link: str) -> tuple[str | None, Array, Array]:
        """The moving joint that carries a link, and the link's frame in that joint's child frame."""
        position, rotation = np.zeros(3), np.eye(3)
        while link in self.by_child:
            joint = self.by_child[link]
            if joint.kind in MOVING:
                return joint.name, position, rotation
            position, rotation = joint.position + joint.rotation @ position, joint.rotation @ rotation
            link = joint.parent
        return None, position, rotation

    def _placed(self, name: str) -> tuple[str | None, Array, Array]:
        """The moving joint above a joint, and the joint's frame in that one's child frame."""
        joint = self.urdf_joints[name]
        parent, position, rotation = self._owner(joint.parent)
        return parent, position + rotation @ joint.position, rotation @ joint.rotation

    def _check_joints(self) -> None:
        for name in self.spec.joints:
            joint = self.urdf_joints.get(name)
            if joint is None:
                allowed = ", ".join(self.urdf_joints) or "none in this URDF"
                raise ConfigError(self.spec.source, f"joints.{name}", name, f"a joint of {self.spec.urdf}: {allowed}")
            if joint.kind not in MOVING:
                raise ConfigError(self.path, f"joint {name}", joint.kind, f"a type among {', '.join(MOVING)}")
        for joint in self.urdf_joints.values():
            if joint.kind in MOVING and joint.name not in self.spec.joints:
                raise ConfigError(self.spec.source, "joints", list(self.spec.joints), f"joint {joint.name!r} as well")
        order = {name: i for i, name in enumerate(self.spec.joints)}
        for name, index in order.items():
            above = self._placed(name)[0]
            if above is not None and order[above] > index:
                raise ConfigError(self.spec.source, "joints", list(self.spec.joints), f"{above!r} before {name!r}")
        for link, item in self.links.items():
            if item.mass < 0 or np.linalg.eigvalsh(item.inertia)[0] < -1e-12:
                raise ConfigError(self.path, f"link {link}", item.mass, "mass >= 0 and a positive inertia")
        nominal = {name: link.mass for name, link in self.links.items()}
        carried: dict[str, float] = dict.fromkeys(self.spec.joints, 0.0)
        for link, value in nominal.items():
            owner = self._owner(link)[0]
            if owner is not None:
                carried[owner] += value
        for name, value in carried.items():
            if value <= 0:
                raise ConfigError(self.path, f"joint {name}", value, "a moving mass > 0 kg")


def read_urdf(path: str) -> tuple[dict[str, Link], dict[str, UrdfJoint]]:
    """Links and joints of a URDF file by name. Raises ConfigError naming the element."""
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise ConfigError(path, "", error.strerror, "a readable URDF file") from error
    except ElementTree.ParseError as error:
        raise ConfigError(path, f"line {error.position[0]}", str(error), "well-formed XML") from error
    if root.tag != "robot":
        raise ConfigError(path, "root element", root.tag, "<robot>")
    links = {_attribute(path, e, "name"): _link(path, e) for e in root.findall("link")}
    joints = {_attribute(path, e, "name"): _joint(path, e) for e in root.findall("joint")}
    children = set()
    for joint in joints.values():
        for role in (joint.parent, joint.child):
            if role not in links:
                raise ConfigError(path, f"joint {joint.name}", role, f"a link among {', '.join(links)}")
        if joint.child in children:
            raise ConfigError(path, f"joint {joint.name}", joint.child, "a child with one parent joint")
        children.add(joint.child)
    roots = set(links) - children
    if len(roots) != 1:
        raise ConfigError(path, "links", sorted(roots), "exactly one root link")
    _check_tree(path, roots, joints)
    return links, joints


def _check_tree(path: str, reached: set[str], joints: dict[str, UrdfJoint]) -> None:
    """Every link hangs on the root: a ring of joints would never end."""
    left = list(joints.values())
    while left:
        joined = {joint.child for joint in left if joint.parent in reached}
        if not joined:
            names = [joint.name for joint in left]
            raise ConfigError(path, "joints", names, "a tree: these never reach the root link")
        reached, left = reached | joined, [joint for joint in left if joint.child not in joined]


def rotation_about(axis: Array, angle: Array) -> Array:
    """Rotation matrices (n, 3, 3) about one axis (3,) by angles (n,) rad (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.asarray(angle)[:, None, None]
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _steiner(c: Array) -> Array:
    """|c|² 1 - c cᵀ for vectors (..., 3)."""
    return (c**2).sum(-1)[..., None, None] * np.eye(3) - c[..., :, None] * c[..., None, :]


def _rpy(rpy: Array) -> Array:
    z, y, x = (np.array([0.0, 0, 1]), np.array([0.0, 1, 0]), np.array([1.0, 0, 0]))
    roll, pitch, yaw = (rotation_about(a, np.array([v]))[0] for a, v in zip((x, y, z), rpy, strict=True))
    return yaw @ pitch @ roll


def _attribute(path: str, element: ElementTree.Element | None, name: str, default: str | None = None) -> str:
    value = default if element is None else element.get(name, default)
    if value is None:
        tag = "element" if element is None else f"<{element.tag} name={element.get('name')!r}>"
        raise ConfigError(path, tag, None, f"the attribute {name!r}")
    return value


def _numbers(path: str, element: ElementTree.Element | None, name: str, count: int, default: str | None) -> Array:
    text = _attribute(path, element, name, default)
    tag = "element" if element is None else element.tag
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError as error:
        raise ConfigError(path, f"<{tag} {name}>", text, f"{count} numbers") from error
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise ConfigError(path, f"<{tag} {name}>", text, f"{count} finite numbers")
    return values


def _link(path: str, element: ElementTree.Element) -> Link:
    inertial = element.find("inertial")
    if inertial is None:
        return Link(0.0, np.zeros(3), np.zeros((3, 3)))
    origin, tensor = inertial.find("origin"), inertial.find("inertia")
    values = {k: _numbers(path, tensor, k, 1, "0")[0] for k in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")}
    xx, xy, xz, yy, yz, zz = values.values()
    rotation = _rpy(_numbers(path, origin, "rpy", 3, "0 0 0"))
    inertia = rotation @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ rotation.T
    mass = _numbers(path, inertial.find("mass"), "value", 1, None)[0]
    return Link(float(mass), _numbers(path, origin, "xyz", 3, "0 0 0"), inertia)


def _joint(path: str, element: ElementTree.Element) -> UrdfJoint:
    name, kind = _attribute(path, element, "name"), _attribute(path, element, "type")
    if kind not in MOVING + FIXED:
        raise ConfigError(path, f"joint {name}", kind, f"a type among {', '.join(MOVING + FIXED)}")
    origin = element.find("origin")
    axis = _numbers(path, element.find("axis"), "xyz", 3, "1 0 0")
    if np.linalg.norm(axis) < 1e-9:
        raise ConfigError(path, f"joint {name}", axis.tolist(), "an axis that is not zero")
    return UrdfJoint(
        name=name,
        kind=kind,
        parent=_attribute(path, element.find("parent"), "link"),
        child=_attribute(path, element.find("child"), "link"),
        position=_numbers(path, origin, "xyz", 3, "0 0 0"),
        rotation=_rpy(_numbers(path, origin, "rpy", 3, "0 0 0")),
        axis=axis / np.linalg.norm(axis),
    )
