"""Random Markov decision processes as RL² poses them (Duan et al. 2016, https://arxiv.org/abs/1611.02779, section 3.2).

A rollout is several short episodes in one of them, so that what is learned in one episode is used in the next.
`n` processes, `S` states, `A` actions.
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
from sim.families.ranges import check_split
from sim.family import Block, Family


@dataclass(frozen=True)
class TabularSettings:
    """The paper has n = 10, 25, 50, 75, 100 episodes of 10 steps, 10 states and 5 actions."""

    states: int = option(10, min=2, help="S; every episode starts in state 0")
    actions: int = option(5, min=2, help="A")
    steps: int = option(10, min=1, help="of one episode")
    episodes: int = option(10, min=1, help="n, of one rollout")
    feedback: bool = option(True, help="show previous reward and the start of each episode")


class Tabular(Family):
    """Observation: state, one-hot (S,). Action: discrete, one of A. A rollout has `episodes` · `steps` steps.

    The hidden parameters are transition probabilities (S, A, S), flat Dirichlet, followed by mean rewards (S, A),
    normal with mean 1 and deviation 1, all in one row; a reward is normal around its mean with deviation 1.
    """

    name = "tabular"
    knows_regret = True

    def __init__(self, settings: TabularSettings) -> None:
        self.settings, self.steps = settings, settings.episodes * settings.steps
        s, a = settings.states, settings.actions
        # What learners scale them by, not limits: 96 % of the probabilities for S = 10, 95 % of the rewards.
        bounds = ((0.0, 3.0 / s),) * (s * a * s) + ((-1.0, 3.0),) * (s * a)
        nominal = (1.0 / s,) * (s * a * s) + (1.0,) * (s * a)
        plain = Interface(observation=s, limit=(1.0,) * a, discrete=True, bounds=bounds, nominal=nominal)
        self.interface = feedback_interface(plain) if settings.feedback else plain

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Tabular:
        """Raises ConfigError naming the setting."""
        return cls(build(TabularSettings, settings, source, "family.settings"))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Processes (n, S·A·S + S·A); those of training and tests have the same distribution."""
        check_split(split, self.name, outside=False)
        s, a = self.settings.states, self.settings.actions
        transitions = rng.dirichlet(np.ones(s), (n, s * a)).reshape(n, -1)
        return np.concatenate([transitions, rng.normal(1.0, 1.0, (n, s * a))], axis=1)

    def regret(self, dynamics: Array, observation: NDArray[Any], asked: NDArray[Any]) -> Array:
        """What the best action at the state and step of an episode is worth, less what the action that was taken is."""
        shape = asked.shape[:-1]
        worth = action_values(*unpack(dynamics, self.settings), self.settings.steps)
        robot, step = np.arange(len(dynamics))[:, None, None], np.arange(shape[-1]) % self.settings.steps
        state = observation[:, :, :-1, : self.settings.states].argmax(axis=-1)
        here = worth[robot, step, state]  # (B, K, T, A)
        taken = np.take_along_axis(here, asked.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        return here.max(axis=-1) - taken

    def block(self, n: int) -> Block:
        block = TabularBlock(self.settings, n)
        return feedback_block(block, self.settings.steps) if self.settings.feedback else block


def unpack(parameters: Array, settings: TabularSettings) -> tuple[Array, Array]:
    """Transition probabilities (n, S, A, S) and mean rewards (n, S, A) of hidden parameters (n, P)."""
    n, s, a = len(parameters), settings.states, settings.actions
    transitions, rewards = np.split(parameters, [s * a * s], axis=1)
    return transitions.reshape(n, s, a, s), rewards.reshape(n, s, a)


def action_values(transitions: Array, rewards: Array, steps: int) -> Array:
    """What each action at each step of an episode is worth to the best policy, (n, steps, S, A), by value iteration.

    Of processes with transition probabilities (n, S, A, S) and mean rewards (n, S, A).
    """
    n, s, a = rewards.shape
    worth, value = np.zeros((n, steps, s, a)), np.zeros((n, s))
    for step in reversed(range(steps)):
        worth[:, step] = rewards + (transitions @ value[:, None, :, None])[..., 0]
        value = worth[:, step].max(axis=-1)
    return worth


class TabularBlock:
    """`n` processes side by side."""

    def __init__(self, settings: TabularSettings, n: int) -> None:
        self.settings = settings
        s, a = settings.states, settings.actions
        self.reach, self.mean = np.zeros((n, s, a, s)), np.ones((n, s, a))  # chance of a next state up to each; reward
        self.reach[...] = np.arange(1, s + 1) / s
        self.state = np.zeros(n, np.intp)
        self.reward, self.terminated = np.zeros(n), np.zeros(n, bool)
        self.rng = np.random.default_rng(0)
        self._lanes, self._one_hot, self._steps = np.arange(n), np.eye(s, dtype=np.float32), 0

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: processes (n, S·A·S + S·A)."""
        transitions, self.mean = unpack(dynamics, self.settings)
        self.reach = transitions.cumsum(axis=-1)

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout in state 0; every episode of a process starts there."""
        self.rng, self._steps = rng, 0
        self.state[...] = 0
        self.reward[...] = 0
        self.terminated[...] = False
        return self._one_hot[self.state]

    def step(self, command: Array) -> NDArray[np.float32]:
        """Take the action where each command (n, A) is greatest; after the last step of an episode, state 0."""
        now = (self._lanes, self.state, np.argmax(command, axis=1))
        self.reward[...] = self.mean[now] + self.rng.standard_normal(len(self.state))
        self._steps += 1
        self.terminated[...] = self._steps >= self.settings.steps * self.settings.episodes  # there is nothing after it
        if self._steps % self.settings.steps == 0:
            self.state[...] = 0
        else:
            drawn = self.rng.uniform(size=(len(self.state), 1))
            passed = (self.reach[now] < drawn).sum(axis=1)
            self.state[...] = np.minimum(passed, self.settings.states - 1)  # the last sum may round to less than 1
        return self._one_hot[self.state]

    def close(self) -> None:
        """It holds nothing that needs to be freed."""
