"""The walking robots whose MJCF files come with PyBullet, as arrays, with bodies merged that no joint moves.

Bullet's own importer gives every joint two links and every fixed body another one. The robots then cost twice as much
a substep as with one link a joint, and the imported half-cheetah does not repeat itself from one world to the next.
From its importer we keep what its robots weigh: 1000 kg/m³ whatever the file says, or the mass that a body names;
the powers that pybullet_envs gives to their joints fit no other masses. Springs and rotor inertias (`stiffness`,
`armature`) Bullet does not have. `L` links.
"""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import numpy as np
import pybullet_data

from hardware_io.state import Array

DENSITY = 1000.0  # kg/m³


@dataclass(frozen=True)
class Capsule:
    """A geom: a capsule, or a sphere where its length is 0."""

    centre: Array  # (3,) m, in the frame of its link
    rotation: Array  # (3, 3); its axis is the third column
    radius: float  # m
    length: float  # m, of the cylinder between the caps

    @property
    def mass(self) -> float:
        """kg"""
        return DENSITY * math.pi * self.radius**2 * (self.length + 4 / 3 * self.radius)

    @property
    def inertia(self) -> Array:
        """(3, 3) kg·m² about its centre, in the frame of its link."""
        r, h = self.radius, self.length
        rod, ball = DENSITY * math.pi * r**2 * h, DENSITY * 4 / 3 * math.pi * r**3
        along = rod * r**2 / 2 + ball * 0.4 * r**2
        # Two half balls whose centres of mass are 3/8 r beyond the ends of the cylinder.
        across = rod * (r**2 / 4 + h**2 / 12) + ball * (0.4 * r**2 + h**2 / 4 + 3 / 8 * h * r)
        return self.rotation @ np.diag([across, across, along]) @ self.rotation.T


@dataclass
class Link:
    """A body with all that is fixed to it, and the joint that moves it."""

    parent: int  # index of its parent's link, -1: the base or the world
    position: Array  # (3,) m, of its frame in its parent's
    joint: str = ""
    slides: bool = False  # a prismatic joint; otherwise it turns
    axis: Array = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    limits: tuple[float, float] | None = None  # rad or m
    damping: float = 0.0  # N·m·s/rad
    mass: float | None = None  # kg, where the file names it
    capsules: list[Capsule] = field(default_factory=list)

    def inertial(self) -> tuple[float, Array, Array]:
        """Mass kg, centre of mass (3,) m and inertia (3, 3) kg·m² about it, in the frame of the link."""
        masses = np.array([capsule.mass for capsule in self.capsules])
        if len(masses) == 0:
            return 0.0, np.zeros(3), np.zeros((3, 3))
        centres = np.stack([capsule.centre for capsule in self.capsules])
        centre = masses @ centres / masses.sum()
        inertia = np.zeros((3, 3))
        for capsule, mass, arm in zip(self.capsules, masses, centres - centre, strict=True):
            inertia += capsule.inertia + mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
        mass = masses.sum() if self.mass is None else self.mass
        return float(mass), centre, inertia * (mass / masses.sum())


@dataclass(frozen=True)
class Model:
    """A robot. A base without joints floats; otherwise `base` is None and its first link hangs in the world."""

    base: Link | None
    links: tuple[Link, ...]  # (L,), each after its parent

    @property
    def joints(self) -> tuple[str, ...]:
        """Names, in the order of the links."""
        return tuple(link.joint for link in self.links)


def read(name: str) -> Model:
    """The robot of `pybullet_data/mjcf/<name>.xml`."""
    root = ElementTree.parse(os.path.join(pybullet_data.getDataPath(), "mjcf", f"{name}.xml")).getroot()
    compiler, body, default = root.find("compiler"), root.find("worldbody/body"), root.find("default/joint")
    if compiler is None or body is None or default is None:
        raise ValueError(f"{name}.xml: needs a compiler, a body and defaults of joints")
    reader = _Reader(default, math.pi / 180 if compiler.get("angle") == "degree" else 1.0)
    if body.find("joint") is None:
        reader.add(body, base := Link(-1, _numbers(body, "pos", np.zeros(3))), -1, np.zeros(3))
        return Model(base, tuple(reader.links))
    reader.add(body, None, -1, np.zeros(3))
    return Model(None, tuple(reader.links))


class _Reader:
    def __init__(self, default: ElementTree.Element, angle: float) -> None:
        self.default, self.angle = default, angle  # angle: rad a unit of the file
        self.links: list[Link] = []

    def add(self, body: ElementTree.Element, link: Link | None, index: int, origin: Array) -> None:
        """Add a body that sits at `origin` in the frame of `link`, and all below it."""
        joints = body.findall("joint")
        for i, joint in enumerate(joints):  # several joints: a chain of links of which the last one is the body
            link = Link(index, origin if i == 0 else np.zeros(3))
            self.links.append(link)
            index = len(self.links) - 1
            self._set_joint(link, joint)
        if joints:
            origin = np.zeros(3)
        if link is None:
            raise ValueError("a body without joints hangs in the world")
        link.capsules += [_capsule(geom, origin) for geom in body.findall("geom")]
        inertial = body.find("inertial")
        if inertial is not None:
            link.mass = float(inertial.attrib["mass"])
        for child in body.findall("body"):
            self.add(child, link, index, origin + _numbers(child, "pos", np.zeros(3)))

    def _set_joint(self, link: Link, joint: ElementTree.Element) -> None:
        link.joint, link.slides = joint.attrib["name"], joint.get("type") == "slide"
        axis = _numbers(joint, "axis", link.axis)
        link.axis = axis / np.linalg.norm(axis)
        link.damping = float(joint.get("damping", self.default.get("damping", "0")))
        if joint.get("limited", self.default.get("limited")) == "true":
            low, high = _numbers(joint, "range", np.zeros(2)) * self.angle
            link.limits = float(low), float(high)


def _capsule(geom: ElementTree.Element, origin: Array) -> Capsule:
    size = _numbers(geom, "size", np.zeros(1))
    if geom.get("type") == "sphere":
        return Capsule(origin + _numbers(geom, "pos", np.zeros(3)), np.eye(3), float(size[0]), 0.0)
    if geom.get("fromto"):
        ends = _numbers(geom, "fromto", np.zeros(6)).reshape(2, 3)
        along, middle = ends[1] - ends[0], ends.mean(axis=0)
        length = float(np.linalg.norm(along))
        return Capsule(origin + middle, _frame(along / length), float(size[0]), length)
    turn = _numbers(geom, "axisangle", np.array([0.0, 0.0, 1.0, 0.0]))
    upright = _rotate(np.array([0.0, 0.0, 1.0]), turn[:3], turn[3])
    return Capsule(origin + _numbers(geom, "pos", np.zeros(3)), _frame(upright), float(size[0]), 2 * float(size[1]))


def _numbers(element: ElementTree.Element, key: str, default: Array) -> Array:
    text = element.get(key)
    return default if text is None else np.array(text.split(), float)


def _rotate(vector: Array, axis: Array, angle: float) -> Array:
    """Rodrigues' formula, `axis` of unit length, `angle` in rad."""
    turned = vector * math.cos(angle) + np.cross(axis, vector) * math.sin(angle)
    return np.asarray(turned + axis * (axis @ vector) * (1 - math.cos(angle)))


def _frame(along: Array) -> Array:
    """A rotation (3, 3) whose third column is the unit vector `along`."""
    across = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(along, across), along], axis=1)
