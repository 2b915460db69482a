"""The walking robots whose MJCF files come with PyBullet, as arrays, with bodies merged that no joint moves.

Bullet's own importer gives every joint two links and every fixed body another one, which costs twice as much a substep
as one link a joint, leaves out densities, dampings, rotor inertias and the total mass, and makes half-cheetahs that do
not repeat themselves from one world to the next. Here all of these are as in the file. Bullet has no rotors:
`armature` is added to the inertia of the link about the axis of its joint, which is exact at the first joint only.
`L` links.
"""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field, replace

import numpy as np
import pybullet_data

from hardware_io.state import Array

DENSITY = 1000.0  # kg/m³, where the file names none


@dataclass(frozen=True)
class Capsule:
    """A geom: a capsule, or a sphere where its length is 0."""

    centre: Array  # (3,) m, in the frame of its link
    rotation: Array  # (3, 3); its axis is the third column
    radius: float  # m
    length: float  # m, of the cylinder between the caps
    density: float  # kg/m³

    @property
    def mass(self) -> float:
        """kg"""
        return self.density * math.pi * self.radius**2 * (self.length + 4 / 3 * self.radius)

    @property
    def inertia(self) -> Array:
        """(3, 3) kg·m² about its centre, in the frame of its link."""
        r, h = self.radius, self.length
        rod, ball = self.density * math.pi * r**2 * h, self.density * 4 / 3 * math.pi * r**3
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
    stiffness: float = 0.0  # N·m/rad, of a spring that rests at 0
    armature: float = 0.0  # kg·m², of the rotor
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
        return float(masses.sum()), centre, inertia + self.armature * np.outer(self.axis, self.axis)


@dataclass(frozen=True)
class Model:
    """A robot. A base without joints floats; otherwise `base` is None and its first link hangs in the world."""

    base: Link | None
    links: tuple[Link, ...]  # (L,), each after its parent
    friction: float  # of its geoms, 1
    gear: dict[str, float]  # joint with a motor → N·m at most, in the order of the joints

    @property
    def joints(self) -> tuple[str, ...]:
        """Names, in the order of the links."""
        return tuple(link.joint for link in self.links)


def read(name: str, density: float | None = None) -> Model:
    """The robot of `pybullet_data/mjcf/<name>.xml`, made of something else where a `density` in kg/m³ is given."""
    root = ElementTree.parse(os.path.join(pybullet_data.getDataPath(), "mjcf", f"{name}.xml")).getroot()
    reader = _Reader(root, density)
    body = _find(root, "worldbody/body")
    place = _numbers(body, "pos", np.zeros(3))
    base = None if body.findall("joint") else Link(-1, place)
    reader.add(body, base, -1, np.zeros(3) if base else place)
    links = tuple(reader.links)
    total = _find(root, "compiler").get("settotalmass")
    if total is not None:
        bodies = [link for link in (base, *links) if link is not None]
        scale = float(total) / sum(capsule.mass for link in bodies for capsule in link.capsules)
        for link in bodies:
            link.capsules = [replace(capsule, density=capsule.density * scale) for capsule in link.capsules]
    gears = {motor.attrib["joint"]: float(motor.attrib["gear"]) for motor in root.findall("actuator/motor")}
    gear = {link.joint: gears[link.joint] for link in links if link.joint in gears}
    friction = float(_numbers(_find(root, "default/geom"), "friction", np.ones(1))[0])
    return Model(base, links, friction, gear)


class _Reader:
    """Collects the links of a tree of bodies."""

    def __init__(self, root: ElementTree.Element, density: float | None) -> None:
        self.joint = _find(root, "default/joint")
        self.density = float(_find(root, "default/geom").get("density", DENSITY)) if density is None else density
        self.angle = math.pi / 180 if _find(root, "compiler").get("angle") == "degree" else 1.0  # rad a unit
        self.links: list[Link] = []

    def add(self, body: ElementTree.Element, link: Link | None, index: int, origin: Array) -> None:
        """Add a body that sits at `origin` in the frame of `link`, and all below it."""
        joints = body.findall("joint")
        for i, joint in enumerate(joints):  # several joints: a chain of links of which the last one is the body
            link = self._jointed(joint, index, origin if i == 0 else np.zeros(3))
            self.links.append(link)
            index = len(self.links) - 1
        if joints:
            origin = np.zeros(3)
        if link is None:
            raise ValueError("a body without joints hangs in the world")
        link.capsules += [self._capsule(geom, origin) for geom in body.findall("geom")]
        for child in body.findall("body"):
            self.add(child, link, index, origin + _numbers(child, "pos", np.zeros(3)))

    def _jointed(self, joint: ElementTree.Element, parent: int, position: Array) -> Link:
        def value(key: str) -> str:
            return joint.get(key, self.joint.get(key, "0"))

        axis = _numbers(joint, "axis", np.array([0.0, 0.0, 1.0]))
        low, high = _numbers(joint, "range", np.zeros(2)) * self.angle
        return Link(
            parent=parent,
            position=position,
            joint=joint.attrib["name"],
            slides=joint.get("type") == "slide",
            axis=axis / np.linalg.norm(axis),
            limits=(float(low), float(high)) if value("limited") == "true" else None,
            damping=float(value("damping")),
            stiffness=float(value("stiffness")),
            armature=float(value("armature")),
        )

    def _capsule(self, geom: ElementTree.Element, origin: Array) -> Capsule:
        radius, *half = _numbers(geom, "size", np.zeros(1))
        centre, upright, length = origin + _numbers(geom, "pos", np.zeros(3)), np.array([0.0, 0.0, 1.0]), 0.0
        if geom.get("fromto"):
            start, end = _numbers(geom, "fromto", np.zeros(6)).reshape(2, 3)
            centre, length = origin + (start + end) / 2, float(np.linalg.norm(end - start))
            upright = (end - start) / length
        elif geom.get("type") == "capsule":
            turn = _numbers(geom, "axisangle", np.array([0.0, 0.0, 1.0, 0.0]))
            upright, length = _rotate(upright, turn[:3], turn[3]), 2 * float(half[0])
        return Capsule(centre, _frame(upright), float(radius), length, self.density)


def _find(root: ElementTree.Element, path: str) -> ElementTree.Element:
    found = root.find(path)
    if found is None:
        raise ValueError(f"a robot in MJCF needs {path}")
    return found


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
