"""Carts that balance a pole of unknown length and mass: Barto, Sutton and Anderson 1983, as Gymnasium's CartPole-v1.

https://doi.org/10.1109/TSMC.1983.6313077. The equations are Gymnasium's, explicit Euler steps of 20 ms included.
"""

from __future__ import annotations

import math
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

GRAVITY, PERIOD = 9.8, 0.02  # m/s², s
REACH, LEAN = 2.4, math.radians(12)  # m, rad: where a rollout ends
NEAR = 0.05  # m, m/s, rad, rad/s: starts are within it of rest
FAR = np.array([REACH, 1.0, LEAN, 1.0])  # and those anywhere within half of this
NOMINAL = (0.5, 0.1, 1.0, 10.0)  # Gymnasium's, in the order of PARAMETERS
PARAMETERS = ("length", "pole_mass", "cart_mass", "force")


@dataclass(frozen=True)
class CartpoleSettings:
    """Length of a rollout, and what carts are drawn from; Gymnasium's has 0.5 m, 0.1 kg, 1 kg and 10 N."""

    horizon: int = option(200, min=1, help="steps of a rollout; 500 in CartPole-v1")
    length: tuple[float, float] = option((0.25, 1.5), unit="m", help="[low, high] of half the pole's length")
    pole_mass: tuple[float, float] = option((0.05, 0.5), unit="kg")
    cart_mass: tuple[float, float] = option((0.5, 2.0), unit="kg")
    force: tuple[float, float] = option((5.0, 15.0), unit="N", help="of a push; below 0 left is right")
    feedback: bool = option(False, help="show previous reward and rollout start")

    def __post_init__(self) -> None:
        check_ranges({name: getattr(self, name) for name in PARAMETERS}, signed="force")


class Cartpole(Family):
    """Observation: position m, velocity m/s, angle rad from upright, angular velocity rad/s. Action: left or right.

    The hidden parameters are half the pole's length, its mass, the cart's mass and the force of a push, (4,).
    """

    name = "cartpole"
    convex = True

    def __init__(self, settings: CartpoleSettings) -> None:
        self.settings, self.steps = settings, settings.horizon
        bounds = tuple(getattr(settings, name) for name in PARAMETERS)
        plain = Interface(observation=4, limit=(1.0, 1.0), discrete=True, bounds=bounds, nominal=NOMINAL)
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Cartpole:
        """Raises ConfigError naming the setting."""
        return cls(build(CartpoleSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Carts (n, 4); those of training and tests have the same distribution."""
        return uniform(self.interface.bounds, self.interface.bounds, n, rng, split, self.name)

    def block(self, n: int) -> Block:
        block = CartpoleBlock(n)
        return feedback_block(block) if self.settings.feedback else block

    def success(self, observation: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether the pole stood to the end."""
        x, lean = observation[..., -1, 0], observation[..., -1, 2]
        return valid[..., -1] & (np.abs(x) <= REACH) & (np.abs(lean) <= LEAN)


class CartpoleBlock:
    """`n` carts side by side."""

    def __init__(self, n: int) -> None:
        self.dynamics = np.tile(NOMINAL, (n, 1))
        self.state = np.zeros((n, 4))
        self.reward, self.terminated = np.zeros(n), np.zeros(n, bool)

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: carts (n, 4)."""
        self.dynamics[...] = dynamics

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Every cart near rest; a share `anywhere` of them all over the inner half of where they may be."""
        far = rng.uniform(size=(len(self.state), 1)) < anywhere
        self.state[...] = rng.uniform(-1, 1, self.state.shape) * np.where(far, FAR / 2, NEAR)
        self.reward[...] = 0
        self.terminated[...] = False
        return self.state.astype(np.float32)

    def step(self, command: Array) -> NDArray[np.float32]:
        """Push each cart to the side where its command (n, 2) is greatest; a step that was lived pays 1."""
        length, pole, cart, strength = self.dynamics.T
        _, speed, lean, turn = self.state.T
        force = np.where(command[:, 1] > command[:, 0], strength, -strength)
        sine, cosine, total = np.sin(lean), np.cos(lean), pole + cart
        pushed = (force + pole * length * turn**2 * sine) / total
        angular = (GRAVITY * sine - cosine * pushed) / (length * (4 / 3 - pole * cosine**2 / total))
        linear = pushed - pole * length * angular * cosine / total
        change = PERIOD * np.stack([speed, linear, turn, angular], axis=1)
        self.state += np.where(self.terminated[:, None], 0.0, change)
        self.reward[...] = ~self.terminated
        self.terminated |= (np.abs(self.state[:, [0, 2]]) > (REACH, LEAN)).any(axis=1)
        return self.state.astype(np.float32)

    def close(self) -> None:
        """It holds nothing that needs to be freed."""
