"""Robots drawn as they moved: kinematics of the URDF seen along the first joint's axis, and the player in the page.

`J` joints, `A` of them act, `T` steps, `F` frames, `N` nodes: the J joints, then the tip of each link that carries no
other joint.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.dynamics import DynamicsRange
from sim.model import RigidModel, rotation_about
from sim.robots import find_robot, robot_names

FRAME = 0.02  # s between two frames at most; the player interpolates
REACH = 88.0  # units of the drawing that the robot may reach from its base


@dataclass(frozen=True)
class Chain:
    """Where the joints of a robot sit, and what it is drawn as."""

    parent: tuple[int, ...]  # (J,) index of the joint above, -1 for the base
    position: Array  # (J, 3) m in the parent's frame
    rotation: Array  # (J, 3, 3)
    axis: Array  # (J, 3)
    base_rotation: Array  # (3, 3) of the base in the world
    tips: dict[int, Array]  # joint → (3,) m in its frame

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Pairs of nodes that a link joins."""
        joints = [(above, j) for j, above in enumerate(self.parent) if above >= 0]
        return joints + [(j, len(self.parent) + k) for k, j in enumerate(self.tips)]

    def nodes(self, angles: Array) -> Array:
        """Nodes in the world, (F, N, 3) m, at joint angles (F, J) rad."""
        frames = len(angles)
        places: list[Array] = []
        turns: list[Array] = []
        for j, above in enumerate(self.parent):
            origin = places[above] if above >= 0 else np.zeros((frames, 3))
            turn = turns[above] if above >= 0 else np.tile(self.base_rotation, (frames, 1, 1))
            places.append(origin + turn @ self.position[j])
            turns.append(turn @ self.rotation[j] @ rotation_about(self.axis[j], angles[:, j]))
        places += [places[j] + turns[j] @ tip for j, tip in self.tips.items()]
        return np.stack(places, axis=1)

    def seen(self, points: Array) -> Array:
        """World points (..., 3) in the drawing's plane, (..., 2): right and up, the first axis towards the viewer."""
        right, up = self._view()
        return np.stack([points @ right, points @ up], axis=-1)

    def senses(self) -> list[int]:
        """1 for each joint whose positive turn is counter-clockwise as seen, else -1."""
        turns: list[Array] = []
        for j, above in enumerate(self.parent):
            turns.append((turns[above] if above >= 0 else self.base_rotation) @ self.rotation[j])
        viewer = turns[0] @ self.axis[0]
        return [1 if (turn @ axis) @ viewer >= 0 else -1 for turn, axis in zip(turns, self.axis, strict=True)]

    def _view(self) -> tuple[Array, Array]:
        viewer = self.base_rotation @ self.rotation[0] @ self.axis[0]
        up = np.array([0.0, 0.0, 1.0]) - viewer[2] * viewer
        if np.linalg.norm(up) < 1e-6:  # seen from above
            up = np.array([0.0, 1.0, 0.0])
        up = up / np.linalg.norm(up)
        return np.cross(up, viewer), up


def chain_of(spec: RobotSpec, hidden: dict[str, float]) -> Chain:
    """The robot of a recording from its shipped URDF, else a chain of links of 1 m; `hidden` may tilt its base."""
    try:
        model = RigidModel(replace(spec, source=str(_shipped(spec.name))))
        ranges = DynamicsRange.of(spec)
        values = np.array([[hidden.get(n, v) for n, v in zip(ranges.names, ranges.nominal, strict=True)]])
        bodies = model.bodies(values)
    except ConfigError:
        return _plain_chain(len(spec.joints))
    leaves = set(range(len(spec.joints))) - set(bodies.parent)
    tips = {j: _tip(model, name) for j, name in enumerate(spec.joints) if j in leaves}
    return Chain(bodies.parent, bodies.position, bodies.rotation, bodies.axis, bodies.base_rotation[0], tips)


def _shipped(name: str) -> Path:
    for candidate in robot_names():
        if candidate.rpartition("/")[2] == name:
            return find_robot(candidate)
    return find_robot(name)


def _plain_chain(joints: int) -> Chain:
    down = np.array([0.0, 0.0, -1.0])
    position = np.stack([np.zeros(3), *[down] * (joints - 1)])
    axis = np.tile([0.0, 1.0, 0.0], (joints, 1))
    turns = np.tile(np.eye(3), (joints, 1, 1))
    return Chain(tuple(range(-1, joints - 1)), position, turns, axis, np.eye(3), {joints - 1: down})


def _tip(model: RigidModel, joint: str) -> Array:
    """The farthest point of the joint's link that its URDF shows, (3,) m; its centre of mass where it shows none."""
    link = model.urdf_joints[joint].child
    ends = [other.position for other in model.urdf_joints.values() if other.parent == link]
    for visual in ElementTree.parse(model.path).getroot().findall(f"link[@name='{link}']/visual"):
        origin, cylinder = visual.find("origin"), visual.find("geometry/cylinder")
        place = np.array((origin.get("xyz", "0 0 0") if origin is not None else "0 0 0").split(), np.float64)
        half = np.array([0.0, 0.0, float(cylinder.get("length", 0)) / 2 if cylinder is not None else 0.0])
        ends += [place + half, place - half]
    ends = [end for end in ends if end.shape == (3,) and np.linalg.norm(end) > 1e-3] or [model.links[link].centre]
    return max(ends, key=lambda end: float(np.linalg.norm(end)))


def animation(
    spec: RobotSpec,
    chain: Chain,
    shown: Sequence[tuple[str, str, Array, Array | None]],
    goal: Array | None,
) -> str:
    """The player: a drawing for each of `shown` (label, colour, angles (T+1, J) rad, torque (T, A) N·m), side by side.

    `goal` (J,) rad is drawn behind as a ghost.
    """
    joints, acting = len(spec.joints), spec.acting
    clips = [chain.seen(chain.nodes(_finer(angles, spec.period.policy))) for _, _, angles, _ in shown]
    reach = max(float(np.abs(clip).max()) for clip in clips)
    scale = REACH / (reach or 1.0)
    ghost = None if goal is None else (chain.seen(chain.nodes(goal[None]))[0] * scale * [1, -1]).round(1).tolist()
    lean = chain.seen(chain.base_rotation @ np.array([0.0, 0.0, -1.0]))
    document: dict[str, Any] = {
        "period": spec.period.policy,
        "edges": chain.edges,
        "joints": joints,
        "acting": acting,
        "senses": [chain.senses()[j] for j in acting],
        "limit": spec.action_limit.tolist(),
        "clips": [],
    }
    for (_, _, angles, torque), clip in zip(shown, clips, strict=True):
        frames = (clip * scale * [1, -1]).round(1).reshape(len(clip), -1)
        document["clips"].append(
            {
                "frame": (len(angles) - 1) * spec.period.policy / max(len(clip) - 1, 1),
                "duration": (len(angles) - 1) * spec.period.policy,
                "nodes": frames.tolist(),
                "torque": [] if torque is None else np.nan_to_num(torque).round(3).tolist(),
            }
        )
    tilt = -math.degrees(math.atan2(lean[0], -lean[1]))
    panes = "".join(_pane(label, colour, chain, ghost, tilt, acting) for label, colour, _, _ in shown)
    controls = (
        '<div class="controls"><button type="button" class="play" aria-label="play or pause">▶</button>'
        '<input type="range" class="scrub" min="0" max="1" step="any" value="0" aria-label="time">'
        '<output class="clock">0.00 s</output><select class="speed" aria-label="speed"><option value="1">real time'
        '</option><option value="0.5">½</option><option value="0.25">¼</option></select></div>'
    )
    clips_text = escape(json.dumps(document, allow_nan=False))
    return f'<div class="player" data-clips="{clips_text}"><div class="panes">{panes}</div>{controls}</div>'


def _finer(angles: Array, period: float) -> Array:
    """Angles (F, J) at most FRAME s apart, from angles (T+1, J) `period` s apart; what is not finite is bridged."""
    factor = max(1, math.ceil(period / FRAME - 1e-9))
    wanted = np.linspace(0, len(angles) - 1, (len(angles) - 1) * factor + 1)
    finer = np.zeros((len(wanted), angles.shape[1]))
    for j, column in enumerate(angles.T):
        (known,) = np.nonzero(np.isfinite(column))
        if len(known):
            finer[:, j] = np.interp(wanted, known, column[known])
    return finer


def _pane(
    label: str, colour: str, chain: Chain, ghost: list[list[float]] | None, tilt: float, acting: list[int]
) -> str:
    """One drawing; the player fills in what moves."""
    lines = "".join('<line class="link"/>' for _ in chain.edges)
    joints = "".join('<circle class="joint" r="4.5"/>' for _ in chain.parent)
    tips = "".join('<circle class="tip" r="8"/>' for _ in chain.tips)
    arcs = "".join('<g class="torque"><path class="arc"/><path class="head"/></g>' for _ in acting)
    shade = ""
    if ghost is not None:
        shade = "".join(
            f'<line class="ghost" x1="{ghost[a][0]}" y1="{ghost[a][1]}" x2="{ghost[b][0]}" y2="{ghost[b][1]}"/>'
            for a, b in chain.edges
        )
        shade += "".join(f'<circle class="ghost" cx="{x}" cy="{y}" r="8"/>' for x, y in ghost[len(chain.parent) :])
    base = (
        f'<g class="base" transform="rotate({tilt:.2f})"><rect x="-17" y="-13" width="34" height="26" rx="4"/>'
        '<path d="M0 -13V-24M-9 -24H9"/></g><path class="plumb" d="M0 0V96M-3 91L0 97L3 91"/>'
    )
    return (
        f'<figure class="pane" style="--own:{escape(colour)}"><figcaption>{escape(label)}</figcaption>'
        f'<svg viewBox="-110 -106 220 212" role="img" aria-label="{escape(label)}">{base}{shade}'
        f'<path class="trail"/>{arcs}{lines}{joints}{tips}</svg><output class="now"></output></figure>'
    )
