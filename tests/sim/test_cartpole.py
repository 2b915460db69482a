"""Cartpoles: step by step against Gymnasium's own, with its parameters and with others."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.families import make_family
from sim.families.cartpole import LEAN, NOMINAL, PARAMETERS, REACH, Cartpole, CartpoleBlock, CartpoleSettings

OTHER = (0.9, 0.3, 1.7, 6.0)


def gymnasiums(parameters: tuple[float, ...], state: np.ndarray) -> gymnasium.Env:
    env = gymnasium.make("CartPole-v1")
    env.reset(seed=0)
    plain = env.unwrapped
    plain.length, plain.masspole, plain.masscart, plain.force_mag = parameters
    plain.total_mass = plain.masspole + plain.masscart
    plain.polemass_length = plain.masspole * plain.length
    plain.state = state.copy()
    return env


def test_every_step_is_gymnasiums() -> None:
    rng = np.random.default_rng(0)
    carts = np.array([NOMINAL, OTHER] * 4)
    block = CartpoleBlock(8)
    block.set_dynamics(carts)
    block.reset(rng, anywhere=0.5)
    envs = [gymnasiums(tuple(cart), state) for cart, state in zip(carts, block.state, strict=True)]
    going = np.ones(8, bool)
    for _ in range(200):
        actions = rng.integers(2, size=8)
        seen = block.step(np.eye(2)[actions])
        for lane in np.flatnonzero(going):
            wanted, reward, ended, *_ = envs[lane].step(actions[lane])
            assert np.array_equal(seen[lane], wanted)
            assert block.reward[lane] == reward and block.terminated[lane] == ended
        assert not block.reward[~going].any()
        going &= ~block.terminated
    assert not going.any(), "every pole falls under random pushes"


def test_starts_are_near_rest_and_some_anywhere() -> None:
    block = CartpoleBlock(1000)
    assert np.abs(block.reset(np.random.default_rng(0))).max() <= 0.05
    away = np.abs(block.reset(np.random.default_rng(0), anywhere=0.25)).max(axis=1) > 0.05
    assert away.mean() == pytest.approx(0.25, abs=0.05)
    assert np.abs(block.state[:, 0]).max() <= REACH and np.abs(block.state[:, 2]).max() <= LEAN


def test_success_is_a_pole_that_stands_to_the_end() -> None:
    seen = np.zeros((3, 4, 4))
    seen[1, -1, 2] = 0.3  # fell with the last step
    valid = np.array([[True] * 3, [True] * 3, [True, True, False]])
    assert Cartpole(CartpoleSettings(horizon=3)).success(seen, valid).tolist() == [True, False, False]


def test_carts_are_drawn_from_their_ranges() -> None:
    family = make_family("cartpole", {"length": [0.5, 0.5], "force": [-10.0, 10.0], "horizon": 30}, "x.yaml")
    carts = family.sample(200, np.random.default_rng(0))
    assert family.steps == 30 and carts.shape == (200, len(PARAMETERS))
    assert (carts[:, 0] == 0.5).all() and carts[:, 3].min() < 0 < carts[:, 3].max()
    assert family.interface.discrete and family.interface.actions == 2
    with pytest.raises(ConfigError, match=r"x.yaml: family.settings.cart_mass: got \[0.0, 1.0\]; allowed: .*above 0"):
        make_family("cartpole", {"cart_mass": [0.0, 1.0]}, "x.yaml")
    with pytest.raises(ConfigError, match=r"family.settings.force: got \[3.0, 2.0\]; allowed: .*low <= high$"):
        make_family("cartpole", {"force": [3.0, 2.0]}, "x.yaml")
