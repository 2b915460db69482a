"""Players of random MDPs that know how MDPs work, to measure learners against. `n` processes, `S` states, `A` actions.

Duan et al. 2016 (https://arxiv.org/abs/1611.02779, table 2) compare with them. Each takes the hidden parameters
(n, P), a generator and the settings, and gives what each process paid over all episodes, (n,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware_io.state import Array
from sim.families.tabular import TabularBlock, TabularSettings, action_values, unpack

# Of the mean rewards. From 0, PSRL has the paper's returns (138 for 10 episodes, 408 for 25). From 1, what they really
# are on average, untried actions attract more and it gets less (134 and 404).
PRIOR_MEAN = 0.0


class Counts:
    """What was seen of `n` processes, and the posterior from it: Dirichlet transitions, normal rewards of deviation 1.

    The prior: flat transitions, mean rewards normal around `PRIOR_MEAN` with deviation 1.
    """

    def __init__(self, n: int, settings: TabularSettings) -> None:
        s, a = settings.states, settings.actions
        self.went = np.zeros((n, s, a, s))  # transitions; the last step of an episode shows none
        self.taken, self.paid = np.zeros((n, s, a)), np.zeros((n, s, a))

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """One process of each posterior: transition probabilities (n, S, A, S) and mean rewards (n, S, A)."""
        weights = rng.standard_gamma(1 + self.went)
        rewards = rng.normal((PRIOR_MEAN + self.paid) / (1 + self.taken), 1 / np.sqrt(1 + self.taken))
        return weights / weights.sum(axis=-1, keepdims=True), rewards


def random(parameters: Array, rng: np.random.Generator, settings: TabularSettings) -> Array:
    """Every action with the same chance at every step."""
    block, total = _begin(parameters, rng, settings), np.zeros(len(parameters))
    for _ in range(settings.episodes * settings.steps):
        block.step(rng.uniform(size=(len(parameters), settings.actions)))
        total += block.reward
    return total


def psrl(parameters: Array, rng: np.random.Generator, settings: TabularSettings) -> Array:
    """In each episode, the best policy of a process drawn from the posterior (Strens 2000, Osband et al. 2013)."""
    block = _begin(parameters, rng, settings)
    counts, total = Counts(len(parameters), settings), np.zeros(len(parameters))
    for _ in range(settings.episodes):
        total += _episode(block, best_policy(*counts.draw(rng), settings.steps), counts)
    return total


def optimal(parameters: Array, rng: np.random.Generator, settings: TabularSettings) -> Array:
    """The best policy of the process itself, which no learner can know: the most that could be had."""
    block = _begin(parameters, rng, settings)
    policy = best_policy(*unpack(parameters, settings), settings.steps)
    counts, total = Counts(len(parameters), settings), np.zeros(len(parameters))
    for _ in range(settings.episodes):
        total += _episode(block, policy, counts)
    return total


def best_policy(transitions: Array, rewards: Array, steps: int) -> NDArray[np.intp]:
    """Best action at each step and state (n, steps, S) of processes (n, S, A, S) and (n, S, A), by value iteration."""
    return action_values(transitions, rewards, steps).argmax(axis=-1)


def _begin(parameters: Array, rng: np.random.Generator, settings: TabularSettings) -> TabularBlock:
    block = TabularBlock(settings, len(parameters))
    block.set_dynamics(parameters)
    block.reset(rng)
    return block


def _episode(block: TabularBlock, policy: NDArray[np.intp], counts: Counts) -> Array:
    """What an episode under a policy (n, steps, S) pays, (n,); adds what it showed to `counts`."""
    lanes, total = np.arange(len(policy)), np.zeros(len(policy))
    for step in range(policy.shape[1]):
        state = block.state.copy()
        action = policy[lanes, step, state]
        block.step(np.eye(counts.taken.shape[-1])[action])
        total += block.reward
        counts.taken[lanes, state, action] += 1
        counts.paid[lanes, state, action] += block.reward
        if step < policy.shape[1] - 1:
            counts.went[lanes, state, action, block.state] += 1
    return total


PLAYERS = {"random": random, "psrl": psrl, "optimal": optimal}
