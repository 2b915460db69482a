"""Small Gymnasium environments made from task vectors, good ones and ones that a family must refuse."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TimeLimit

CLOSED: list[float] = []  # gains of the environments that were closed


class Cart(gymnasium.Env):
    """A position that moves by gain times action; the reward is minus its distance from 1, beyond 2 is the end."""

    def __init__(self, gain: float, low: float = -0.5, high: float = 0.25, wind: float = 0.0) -> None:
        self.gain, self.wind, self.x = gain, wind, 0.0
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = spaces.Box(low, high, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return np.array([self.x]), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.x += self.gain * float(action[0]) + self.wind
        return np.array([self.x]), -abs(self.x - 1), abs(self.x) > 2, False, {}

    def close(self) -> None:
        CLOSED.append(self.gain)


class Rooms(gymnasium.Env):
    """Five rooms in a row; action 3 goes left, 4 stays, 5 goes right; the task says in which room a step pays 1."""

    observation_space, action_space = spaces.Discrete(5), spaces.Discrete(3, start=3)

    def __init__(self, task: np.ndarray) -> None:
        self.paying, self.room = round(float(task[0])), 2

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict]:
        self.room = 2
        return self.room, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict]:
        self.room = int(np.clip(self.room + action - 4, 0, 4))
        return self.room, float(self.room == self.paying), False, False, {}


class Broken(Cart):
    """Does something wrong at its second step, in tasks with a gain above 1."""

    def __init__(self, gain: float, fault: str) -> None:
        super().__init__(gain)
        self.fault, self.steps = fault if gain > 1 else "", 0

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        if self.steps < 2:
            return observation, reward, terminated, truncated, info
        if self.fault == "reward":
            reward = float("nan")
        elif self.fault == "observation":
            observation = np.array([1e300])  # infinite as float32
        elif self.fault == "shape":
            observation = np.zeros(2)
        elif self.fault == "truncates":
            truncated = True
        elif self.fault == "raises":
            raise RuntimeError("the door is stuck")
        elif self.fault == "old":
            return observation, reward, terminated, info
        return observation, reward, terminated, truncated, info


def cart(task: np.ndarray, *, wind: float = 0.0) -> gymnasium.Env:
    return Cart(task[0], wind=wind)


def limited_cart(task: np.ndarray) -> gymnasium.Env:
    return TimeLimit(Cart(task[0]), 7)


def boundless(task: np.ndarray) -> gymnasium.Env:
    return Cart(task[0], high=np.inf)


def growing(task: np.ndarray) -> gymnasium.Env:
    return Cart(task[0], high=max(1.0, task[0]))


def broken(task: np.ndarray, *, fault: str) -> gymnasium.Env:
    return Broken(task[0], fault)


def fussy(task: np.ndarray) -> Any:
    if task[0] > 1:
        raise ArithmeticError("no such gain")
    return Cart(task[0]) if task[0] > 0 else "a cart"


def cart_pole(task: np.ndarray) -> gymnasium.Env:
    """Half length of the pole, m, and its mass, kg."""
    env = CartPoleEnv()
    env.length, env.masspole = task
    env.polemass_length, env.total_mass = env.masspole * env.length, env.masspole + env.masscart
    return TimeLimit(env, 500)


NOT_A_FUNCTION = 3
