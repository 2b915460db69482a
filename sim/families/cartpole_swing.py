"""Carts that swing a heavy pole up and balance it: the cart-pole of PETS (Chua et al. 2018, section 6.1).

https://arxiv.org/abs/1805.12114. Masses, damping, motor and reward are those of its MuJoCo model; the equations are
solved here. At the end of the rail a cart stops dead, where MuJoCo's bounces a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import build, option
from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.families.feedback import feedback_block, feedback_interface
from sim.families.ranges import check_ranges, uniform
from sim.family import Block, Family

GRAVITY, PERIOD, SUBSTEPS = 9.81, 0.04, 2  # m/s², s
LENGTH, REACH = 0.6, 2.5  # m, of the pole and of the rail to each side
INERTIA = 0.1276  # m², of a capsule of this length and 49 mm radius about its end, a kg
DAMPING = 1.0  # N·s/m on the rail and N·m·s/rad at the hinge
FORCE, UNIT = 300.0, 100.0  # N, the most that a motor gives, and what an action of 1 is in the paper's reward
NEAR = 0.1  # deviation of starts around rest, in m, rad, m/s and rad/s
NOMINAL = (5.02, 10.47, 1.0)  # the paper's, in the order of PARAMETERS
PARAMETERS = ("pole_mass", "cart_mass", "gain")


@dataclass(frozen=True)
class CartpoleSwingSettings:
    """Length of a rollout, and what carts are drawn from; by default all are the paper's."""

    horizon: int = option(200, min=1, help="steps of 0.04 s in a rollout")
    pole_mass: tuple[float, float] = option((5.02, 5.02), unit="kg", help="[low, high]")
    cart_mass: tuple[float, float] = option((10.47, 10.47), unit="kg")
    gain: tuple[float, float] = option((1.0, 1.0), help="force for each N of the command; below 0 left is right")
    feedback: bool = option(False, help="show previous reward and rollout start")

    def __post_init__(self) -> None:
        check_ranges({name: getattr(self, name) for name in PARAMETERS}, signed="gain")


class CartpoleSwing(Family):
    """Observation: position m, angle rad from hanging, velocity m/s, angular velocity rad/s. Action: force, N, (1,).

    The hidden parameters are the pole's mass, the cart's mass and the motor's gain, (3,). Reward: 1 with the tip above
    the middle of the rail, less with the squared distance from there, and 0.01 for a squared force of 100 N.
    """

    name = "cartpole_swing"
    convex = True

    def __init__(self, settings: CartpoleSwingSettings) -> None:
        self.settings, self.steps = settings, settings.horizon
        bounds = tuple(getattr(settings, name) for name in PARAMETERS)
        plain = Interface(observation=4, limit=(FORCE,), angles=(1,), endless=(1,), bounds=bounds, nominal=NOMINAL)
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> CartpoleSwing:
        """Raises ConfigError naming the setting."""
        return cls(build(CartpoleSwingSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Carts (n, 3); those of training and tests have the same distribution."""
        return uniform(self.interface.bounds, self.interface.bounds, n, rng, split, self.name)

    def block(self, n: int) -> Block:
        block = CartpoleSwingBlock(n)
        return feedback_block(block) if self.settings.feedback else block


class CartpoleSwingBlock:
    """`n` carts side by side."""

    def __init__(self, n: int) -> None:
        self.dynamics = np.tile(NOMINAL, (n, 1))
        self.state = np.zeros((n, 4))
        self.reward, self.terminated = np.zeros(n), np.zeros(n, bool)

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: carts (n, 3)."""
        self.dynamics[...] = dynamics

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Every pole hangs near rest; a share `anywhere` of them at any angle."""
        self.state[...] = NEAR * rng.standard_normal(self.state.shape)
        far = rng.uniform(size=len(self.state)) < anywhere
        self.state[:, 1] += far * rng.uniform(-np.pi, np.pi, len(self.state))
        self.reward[...] = 0
        return self.state.astype(np.float32)

    def step(self, command: Array) -> NDArray[np.float32]:
        """Pull each cart with its command (n, 1), N, clipped; Runge-Kutta steps of 0.02 s."""
        asked = np.clip(command[:, 0], -FORCE, FORCE)
        force, dt = self.dynamics[:, 2] * asked, PERIOD / SUBSTEPS
        for _ in range(SUBSTEPS):
            first = self.change(self.state, force)
            second = self.change(self.state + dt / 2 * first, force)
            third = self.change(self.state + dt / 2 * second, force)
            fourth = self.change(self.state + dt * third, force)
            self.state += dt / 6 * (first + 2 * second + 2 * third + fourth)
            self.state[:, 2] *= np.abs(self.state[:, 0]) < REACH
            self.state[:, 0] = np.clip(self.state[:, 0], -REACH, REACH)
        x, angle = self.state[:, 0], self.state[:, 1]
        off = (x / LENGTH - np.sin(angle)) ** 2 + (np.cos(angle) + 1) ** 2
        self.reward[...] = np.exp(-off) - 0.01 * (asked / UNIT) ** 2
        return self.state.astype(np.float32)

    def change(self, state: Array, force: Array) -> Array:
        """Of states (n, 4) under forces (n,) N, a second: Lagrange's equations of cart and pole."""
        pole, cart, _ = self.dynamics.T
        _, angle, speed, turn = state.T
        coupling = pole * LENGTH / 2 * np.cos(angle)
        swing = pole * LENGTH / 2 * np.sin(angle)
        on_cart = force - DAMPING * speed - swing * turn**2
        on_pole = -DAMPING * turn - GRAVITY * swing
        inertia, mass = INERTIA * pole, pole + cart
        rest = mass * inertia - coupling**2
        linear, angular = (inertia * on_cart + coupling * on_pole) / rest, (coupling * on_cart + mass * on_pole) / rest
        return np.stack([speed, turn, linear, angular], axis=1)

    def close(self) -> None:
        """It holds nothing that needs to be freed."""
