"""Half-cheetahs that are to run forward or backward, at a velocity that nobody tells them, or with a broken joint.

The tasks of MAML (Finn et al. 2017, section 5.3, https://arxiv.org/abs/1703.03400) and that of GrBAL (Nagabandi et al.
2019, section 6, https://arxiv.org/abs/1803.11347) on PyBullet's model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import build, option
from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.families import mjcf
from sim.families.feedback import feedback_block, feedback_interface
from sim.families.locomotion import Locomotion
from sim.families.ranges import check_split, uniform
from sim.family import Block, Family

ROOT = ("ignorex", "ignorez", "ignorey")  # m, m above the height in the file, rad: how the torso moves in its plane
VELOCITY = ((0.0, 2.0), (0.0, 3.0))  # m/s, of training as in the paper, and of tests
UNBROKEN, BROKEN, SPARED = -1, 5, 4  # disabled joint: none, the last of them, and the one that training never disables
CONTROL_COST = 0.05  # for the squared shares of the torques
NOISE = 0.1  # rad, m, rad/s and m/s around the standing pose, as in Gymnasium


@dataclass(frozen=True)
class HalfCheetahSettings:
    """Which task, how long and how finely simulated."""

    task: str = option(
        "direction", choices=("direction", "velocity", "disabled_joint"), help="what differs from task to task"
    )
    horizon: int = option(200, min=1, help="steps of 0.05 s in a rollout")
    substeps: int = option(5, min=5, max=100, help="Bullet steps in each of them")
    feedback: bool = option(False, help="show previous reward and rollout start")


class HalfCheetah(Family):
    """Hidden parameter (1,): the direction, -1 or 1, each as often; the velocity in m/s; or the joint, in the order of
    the action, that gives no torque, -1: none.

    Action (6,), N·m at the joints bthigh, bshin, bfoot, fthigh, fshin, ffoot (b: back, f: front), limited to the gears
    of the motors in the file.
    Observation (17,), as in Gymnasium's HalfCheetah: 0 height of the torso, m; 1 its pitch, rad; 2–7 angles of the
    joints in the order of the action, rad; 8 velocity of the torso forward and 9 upward, m/s; 10 pitch rate, rad/s;
    11–16 velocities of the joints, rad/s.
    Reward: forward velocity times direction, minus its distance from the one that is asked for, or forward velocity,
    less 0.05 times the squared norm of the torques as shares of their limits. A rollout never ends early.
    """

    name = "half_cheetah"

    def __init__(self, settings: HalfCheetahSettings) -> None:
        self.settings, self.steps = settings, settings.horizon
        self.convex = settings.task == "velocity"
        bounds, nominal = {
            "direction": ((-1.0, 1.0), 1.0),
            "velocity": (VELOCITY[0], 1.0),
            "disabled_joint": ((float(UNBROKEN), float(BROKEN)), float(UNBROKEN)),
        }[settings.task]
        self.model = mjcf.read("half_cheetah")
        limit = tuple(self.model.gear.values())
        plain = Interface(observation=17, limit=limit, angles=(1,), bounds=(bounds,), nominal=(nominal,))
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> HalfCheetah:
        """Raises ConfigError naming the setting."""
        return cls(build(HalfCheetahSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Directions, velocities or joints, (n, 1).

        Tests ask for velocities up to 3 m/s, and `outside` for those above 2. Tests disable any joint or none, training
        all but one, and `outside` that one.
        """
        if self.settings.task == "velocity":
            return uniform(VELOCITY[:1], VELOCITY[1:], n, rng, split, self.name)
        joints = self.settings.task == "disabled_joint"
        check_split(split, self.name, outside=joints)
        if not joints:
            return rng.choice([-1.0, 1.0], (n, 1))
        every = np.arange(UNBROKEN, BROKEN + 1.0)
        chosen = {"train": every[every != SPARED], "test": every, "outside": every[every == SPARED]}[split]
        return rng.choice(chosen, (n, 1))

    def block(self, n: int) -> Block:
        block = HalfCheetahBlock(self.model, self.settings, n, self.interface.nominal)
        return feedback_block(block) if self.settings.feedback else block


class HalfCheetahBlock(Locomotion):
    """`n` half-cheetahs side by side."""

    def __init__(self, model: mjcf.Model, settings: HalfCheetahSettings, n: int, nominal: tuple[float, ...]) -> None:
        super().__init__(model, n, settings.substeps, nominal)
        self.task = settings.task
        self.x, self.z, self.pitch = (model.joints.index(name) for name in ROOT)
        self.height = float(model.links[self.x].position[2])  # m, where its coordinate is 0
        unlimited = (-np.inf, np.inf)
        self.low, self.high = np.array([link.limits or unlimited for link in model.links]).T  # (J,)
        # Near this pose robots start; the front foot cannot reach 0, at which it would be straight.
        self.standing = np.clip(np.zeros(len(model.links)), self.low, self.high), np.zeros(13)

    def step(self, command: Array) -> NDArray[np.float32]:
        if self.task == "disabled_joint":  # a product, so that what is not finite stays so
            command = command * (np.arange(len(self.limit)) != self.dynamics)
        return super().step(command)

    def start(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        position, base = self.standing
        shape = self.walkers.position.shape
        near = np.clip(position + rng.uniform(-NOISE, NOISE, shape), self.low, self.high)
        near[:, self.x] = 0.0
        return near, NOISE * rng.standard_normal(shape), np.tile(base, (len(near), 1))

    def where(self) -> Array:
        """How far forward the torsos are, (n, 1) m."""
        return self.walkers.position[:, [self.x]]

    def score(self, share: Array, velocity: Array) -> Array:
        task, forward = self.dynamics[:, 0], velocity[:, 0]
        gain = {"direction": forward * task, "velocity": -np.abs(forward - task), "disabled_joint": forward}[self.task]
        return np.asarray(gain - CONTROL_COST * np.square(share).sum(axis=1))

    def fallen(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.reward), bool)

    def observe(self) -> NDArray[np.float32]:
        q, v, motors = self.walkers.position, self.walkers.velocity, self.walkers.motors
        parts = [
            q[:, [self.z]] + self.height,
            q[:, [self.pitch]],
            q[:, motors],
            v[:, [self.x, self.z, self.pitch]],
            v[:, motors],
        ]
        return np.concatenate(parts, axis=1, dtype=np.float32)
