"""Ants that are to walk forward or backward, or to a place that nobody tells them.

The direction task of MAML (Finn et al. 2017, section 5.3, https://arxiv.org/abs/1703.03400) and the goal task of PEARL
(Rakelly et al. 2019, section 6.1, https://arxiv.org/abs/1903.08254) on PyBullet's model. Their cost of contact forces
is left out, as in Gymnasium's Ant-v4: clipped to 1 they cost at most 0.003 a step and body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import build, option
from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.families import mjcf
from sim.families.feedback import feedback_block, feedback_interface
from sim.families.locomotion import Locomotion
from sim.families.ranges import check_split
from sim.family import Block, Family

# With the density of the file, 5 kg/m³, an ant weighs 0.9 kg, and its motors throw it to the sky. Bullet's importer
# takes that of water, and the motors of pybullet_envs (`power` 2.5 times `power_coef` 100) are made for such ants.
TORQUE = 250.0  # N·m
RADIUS = (3.0, 4.0)  # m, within which goals are in training as in PEARL, and in tests
NOISE = 0.1  # rad, m, rad/s and m/s around the standing pose, as in Gymnasium
START = 0.55  # m, of the torso; with ankles bent by 1 rad the feet are at the ground (`init_qpos` of the file)
HEIGHT = (0.26, 1.0)  # m, of an ant that has not fallen: the torso is a ball of 0.25 m, which then lies on the ground
COST = {"direction": 0.005, "goal": 0.1}  # for the squared shares of the torques, of MAML's and of PEARL's task
SURVIVAL = 0.05  # reward of each step in MAML's task


@dataclass(frozen=True)
class AntSettings:
    """Which task, how long and how finely simulated."""

    task: str = option("direction", choices=("direction", "goal"), help="what differs from task to task")
    horizon: int = option(200, min=1, help="steps of 0.05 s in a rollout")
    substeps: int = option(5, min=5, max=100, help="Bullet steps in each of them")
    feedback: bool = option(False, help="show previous reward and rollout start")


class Ant(Family):
    """Hidden parameters: the direction along x (1,), -1 or 1, each as often; or the goal (2,), m, in a disc.

    Action (8,), N·m at the joints hip_1, ankle_1, … hip_4, ankle_4 (legs: front left, front right, back left, back
    right).
    Observation (27,), as in Gymnasium's Ant: 0 height of the torso, m; 1–4 its orientation, quaternion wxyz; 5–12
    angles of the joints in the order of the action, rad; 13–15 velocity of the torso, m/s; 16–18 its angular velocity,
    rad/s, both along the axes of the world; 19–26 velocities of the joints, rad/s. Where there is a goal, x and y of
    the torso, m, come before all that: (29,).
    Reward of a direction: velocity along it, less 0.005 times the squared norm of the torques as shares of their
    limits, plus 0.05; a rollout ends when the ant falls. Reward of a goal: minus the distance in x, minus that in y,
    less 0.1 times that norm; a rollout never ends early.
    """

    name = "ant"

    def __init__(self, settings: AntSettings) -> None:
        self.settings, self.steps = settings, settings.horizon
        self.convex = settings.task == "goal"
        model = mjcf.read("ant", density=1000.0)
        self.model = replace(model, gear=dict.fromkeys(model.gear, TORQUE))
        limit = tuple(self.model.gear.values())
        if settings.task == "goal":
            bounds = ((-RADIUS[0], RADIUS[0]),) * 2
            plain = Interface(observation=29, limit=limit, bounds=bounds, nominal=(0.0, 0.0))
        else:
            plain = Interface(observation=27, limit=limit, bounds=((-1.0, 1.0),), nominal=(1.0,))
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Ant:
        """Raises ConfigError naming the setting."""
        return cls(build(AntSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Directions (n, 1), or goals (n, 2) uniform on a disc; tests have a wider one, `outside` is its rim."""
        goal = self.settings.task == "goal"
        check_split(split, self.name, outside=goal)
        if not goal:
            return rng.choice([-1.0, 1.0], (n, 1))
        inner = RADIUS[0] if split == "outside" else 0.0
        outer = RADIUS[0] if split == "train" else RADIUS[1]
        radius, angle = np.sqrt(rng.uniform(inner**2, outer**2, n)), rng.uniform(-np.pi, np.pi, n)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    def block(self, n: int) -> Block:
        block = AntBlock(self.model, self.settings, n, self.interface.nominal)
        return feedback_block(block) if self.settings.feedback else block


class AntBlock(Locomotion):
    """`n` ants side by side."""

    def __init__(self, model: mjcf.Model, settings: AntSettings, n: int, nominal: tuple[float, ...]) -> None:
        super().__init__(model, n, settings.substeps, nominal)
        self.task = settings.task
        self.low, self.high = np.array([link.limits for link in model.links]).T  # (8,)
        bent = np.sign(self.low + self.high) * [name.startswith("ankle") for name in model.joints]  # rad
        base = np.zeros(13)
        base[2], base[6] = START, 1.0
        self.standing = bent, base

    def start(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        (position, base), shape = self.standing, self.walkers.position.shape
        bases = np.tile(base, (shape[0], 1))
        bases[:, 7:] = NOISE * rng.standard_normal((shape[0], 6))
        near = np.clip(position + rng.uniform(-NOISE, NOISE, shape), self.low, self.high)
        return near, NOISE * rng.standard_normal(shape), bases

    def where(self) -> Array:
        """Where the torsos are, (n, 2) m."""
        return self.walkers.base[:, :2]

    def score(self, share: Array, velocity: Array) -> Array:
        if self.task == "goal":
            gain = -np.abs(self.where() - self.dynamics).sum(axis=1)
        else:
            gain = velocity[:, 0] * self.dynamics[:, 0] + SURVIVAL
        return np.asarray(gain - COST[self.task] * np.square(share).sum(axis=1))

    def fallen(self) -> NDArray[np.bool_]:
        height = self.walkers.base[:, 2]
        return ((height < HEIGHT[0]) | (height > HEIGHT[1])) & (self.task == "direction")

    def observe(self) -> NDArray[np.float32]:
        base = self.walkers.base
        parts = [base[:, 2:3], base[:, [6, 3, 4, 5]], self.walkers.position, base[:, 7:], self.walkers.velocity]
        if self.task == "goal":
            parts.insert(0, self.where())
        return np.concatenate(parts, axis=1, dtype=np.float32)
