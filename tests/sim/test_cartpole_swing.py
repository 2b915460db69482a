"""Carts that swing a heavy pole up: mechanics, reward, and what differs from cart to cart."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.families import cartpole_swing, make_family
from sim.families.cartpole_swing import FORCE, INERTIA, CartpoleSwingBlock, CartpoleSwingSettings

REST = np.zeros(4)


def block_at(*states: object) -> CartpoleSwingBlock:
    block = CartpoleSwingBlock(len(states))
    block.reset(np.random.default_rng(0))
    block.state[...] = states
    return block


def test_energy_and_momentum_are_kept_without_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cartpole_swing, "DAMPING", 0.0)
    block = block_at([0.0, 2.5, 0.3, 1.0], [0.0, 1.0, 0.0, 0.0])
    pole, cart, _ = block.dynamics.T

    def kept() -> np.ndarray:
        _, angle, speed, turn = block.state.T
        motion = (pole + cart) * speed**2 / 2 - pole * 0.3 * np.cos(angle) * speed * turn + INERTIA * pole * turn**2 / 2
        momentum = (pole + cart) * speed - pole * 0.3 * np.cos(angle) * turn
        return np.stack([motion - pole * 9.81 * 0.3 * np.cos(angle), momentum])

    before = kept()
    for _ in range(50):
        block.step(np.zeros((2, 1)))
    np.testing.assert_allclose(kept(), before, atol=1e-3)


def test_a_pole_hangs_or_stands_at_rest_and_falls_from_beside() -> None:
    block = block_at(REST, [0, np.pi, 0, 0], [0, np.pi - 0.1, 0, 0])
    seen = block.step(np.zeros((3, 1)))
    assert seen[:2] == pytest.approx(np.array([REST, [0, np.pi, 0, 0]]), abs=1e-5) and seen[2, 1] < np.pi - 0.1
    off = np.array([4.0, 0.0])  # squared distance of the tip from the goal in lengths of the pole
    assert block.reward[:2] == pytest.approx(np.exp(-off)) and block.reward[2] < 1


def test_a_motor_pulls_with_its_gain_and_the_rail_ends() -> None:
    block = block_at(REST, REST, REST, [2.49, 0, 5, 0])
    block.set_dynamics(np.array([[5.02, 10.47, 1.0], [5.02, 10.47, -1.0], [5.02, 20.0, 1.0], [5.02, 10.47, 1.0]]))
    seen = block.step(np.array([[100.0], [100.0], [100.0], [0.0]]))
    assert seen[0, 0] == pytest.approx(-seen[1, 0]) and 0 < seen[2, 0] < seen[0, 0]
    assert seen[3, 0] == 2.5 and seen[3, 2] == 0
    assert block.reward[0] == pytest.approx(block.reward[1]) and block.reward[0] < np.exp(-4) - 0.009
    stronger, limited = block_at(REST), block_at(REST)
    assert np.array_equal(stronger.step(np.array([[9 * FORCE]])), limited.step(np.array([[FORCE]])))


def test_carts_are_drawn_from_their_ranges() -> None:
    same = make_family("cartpole_swing", {}, "x.yaml").sample(3, np.random.default_rng(0))
    assert np.array_equal(same, np.tile([5.02, 10.47, 1.0], (3, 1)))
    family = make_family("cartpole_swing", {"gain": [-1.0, 1.0]}, "x.yaml")
    drawn = family.sample(500, np.random.default_rng(0))
    assert (
        drawn[:, 2].min() < -0.9
        and drawn[:, 2].max() > 0.9
        and np.array_equal(drawn[:, :2], np.tile(same[0, :2], (500, 1)))
    )
    with pytest.raises(ConfigError, match=r"pole_mass: got \[0, 1\]; allowed: .*both above 0"):
        CartpoleSwingSettings(pole_mass=(0, 1))


def test_poles_start_hanging_or_anywhere() -> None:
    block = CartpoleSwingBlock(2000)
    assert np.abs(block.reset(np.random.default_rng(0))).max() < 0.6
    far = np.abs(block.reset(np.random.default_rng(0), anywhere=0.5)[:, 1]) > 0.6
    assert far.mean() == pytest.approx(0.5 * (1 - 0.6 / np.pi), abs=0.04)
