"""Samples a second of one PPO update: ours, Stable-Baselines3's and sb3-contrib's, on rollouts of equal size.

Equal are: hidden layers of actor and critic, samples, samples a minibatch, epochs, threads, observation width (theirs
is given our features). Ours does more: it computes features, advantages of both rollouts, normalises returns, gives
the critic the hidden parameters and the recurrent policy its present input beside the memory. A turn is one update;
theirs begins with the advantages as well. Filling the buffers is not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch

from adapt.actor_critic import ActorCritic
from adapt.episodes import Episodes
from adapt.learner import make_learner
from benchmarks.measure import Figure, compare, rate, summary, take_turns, torch_threads
from hardware_io.spec import RobotSpec
from sim.dynamics import DynamicsRange
from sim.family import RobotFamily
from sim.robots import load_robot

OURS, SB3 = "PPO update", "SB3 PPO.train"
OURS_RECURRENT, CONTRIB, FUSED = "RL² update (GRU)", "RecurrentPPO.train (LSTM)", "RecurrentPPO, no starts"
AIM, AIM_RECURRENT = 3.0, 5.0
UNIT = "samples/s"
HIDDEN, MEMORY = 64, 64  # units


@dataclass(frozen=True)
class Size:
    """Samples of one update: `robots` x `rollouts` x `steps`. The defaults are those of our configurations."""

    robots: int = 128
    rollouts: int = 2
    steps: int = 100
    minibatches: int = 8
    epochs: int = 4

    @property
    def samples(self) -> int:
        return self.robots * self.rollouts * self.steps

    def __str__(self) -> str:
        batch = self.samples // self.minibatches
        return f"{self.samples} samples, {batch} a minibatch, {self.epochs} epochs"


DEFAULT_PERCEPTRON = Size(64, 1, 32, 32, 10)  # samples, minibatch and epochs of Stable-Baselines3's PPO
DEFAULT_RECURRENT = Size(8, 1, 128, 8, 10)  # of sb3-contrib's RecurrentPPO, with 8 robots


def learner_of(name: str, size: Size, settings: dict[str, Any]) -> ActorCritic:
    """One of our learners for the pendulum."""
    spec = load_robot("simple_pendulum")
    ppo = {"minibatches": size.minibatches, "epochs": size.epochs}
    learner = make_learner(name, RobotFamily(spec, "swing_up").interface, "benchmarks", {**settings, "ppo": ppo})
    if not isinstance(learner, ActorCritic):
        raise TypeError(f"{name} is not trained with PPO")
    return learner


def episodes_of(learner: ActorCritic, spec: RobotSpec, size: Size) -> Episodes:
    """Rollouts as exploration leaves them: every tensor full, none ended early."""
    shape, device = (size.robots, size.rollouts, size.steps), learner.limit.device
    ranges, rng = DynamicsRange.of(spec), np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)

    def normal(*extra: int) -> torch.Tensor:
        return torch.randn(*shape, *extra, generator=generator)

    action = 0.6 * normal(spec.action_size)
    asked = action.clamp(-1, 1) * learner.limit.cpu()
    observation = torch.randn(*shape[:2], size.steps + 1, spec.observation_size, generator=generator)
    never = torch.zeros(shape, dtype=torch.bool)
    fast = learner.fast0(size.robots).cpu()
    episodes = Episodes(
        observation, asked, asked, normal(spec.action_size), normal(), ~never, never,
        fast[:, None].expand(-1, size.rollouts, -1).contiguous(), fast,
        torch.tensor(ranges.sample(size.robots, rng), dtype=torch.float32),
        {"action": action, "log_prob": -1 + 0.1 * normal()},
    )  # fmt: skip
    return episodes.to(device)


class Ours:
    """Our update; calling it is one turn."""

    def __init__(self, name: str, size: Size, settings: dict[str, Any], device: str = "cpu") -> None:
        self.learner = learner_of(name, size, settings)
        self.learner.to(torch.device(device))
        self._episodes = episodes_of(self.learner, load_robot("simple_pendulum"), size)
        self._size, self._cuda = size, device == "cuda"

    def __call__(self) -> float:
        return rate(self._update, self._size.samples)

    def _update(self) -> None:
        self.learner.meta_update([], self._episodes)
        if self._cuda:
            torch.cuda.synchronize()


class Blank(gymnasium.Env[np.ndarray, np.ndarray]):
    """Spaces of a given width, for libraries that want an environment before they make a policy."""

    def __init__(self, observation: int, action: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observation,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (action,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        return np.zeros(self.observation_space.shape or (), np.float32), {}


class Theirs:
    """The update of a model of Stable-Baselines3 or sb3-contrib on a full buffer; calling it is one turn.

    `starts` flags the first step of every trial, as collecting rollouts does.
    """

    def __init__(
        self, make: Callable[..., Any], policy: str, size: Size, like: ActorCritic, arguments: dict[str, Any],
        starts: bool = True,
    ) -> None:  # fmt: skip
        from stable_baselines3.common.logger import configure
        from stable_baselines3.common.vec_env import DummyVecEnv

        env = DummyVecEnv([partial(Blank, like.input_size, like.action_size)] * size.robots)
        self._model = make(
            policy, env, n_steps=size.rollouts * size.steps, batch_size=size.samples // size.minibatches,
            n_epochs=size.epochs, policy_kwargs=arguments, device=like.limit.device.type,
        )  # fmt: skip
        self._model.set_logger(configure(None, []))
        self._size, self._like, self._starts = size, like, starts
        self._rng = np.random.default_rng(0)

    def __call__(self) -> float:
        self._fill()
        return rate(self._update, self._size.samples)

    def _fill(self) -> None:
        """A buffer is read once, so each update needs a new one."""
        size, rng, model = self._size, self._rng, self._model
        model.rollout_buffer.reset()
        memory = {}
        if hasattr(model, "_last_lstm_states"):
            memory = {"lstm_states": model._last_lstm_states}
        log_prob = torch.full((size.robots,), -1.0)
        for step in range(size.rollouts * size.steps):
            model.rollout_buffer.add(
                rng.standard_normal((size.robots, self._like.input_size)).astype(np.float32),
                0.6 * rng.standard_normal((size.robots, self._like.action_size)).astype(np.float32),
                rng.standard_normal(size.robots),
                np.full(size.robots, self._starts and step == 0),
                torch.zeros(size.robots, 1),
                log_prob,
                **memory,
            )

    def _update(self) -> None:
        ended = np.zeros(self._size.robots)
        self._model.rollout_buffer.compute_returns_and_advantage(torch.zeros(self._size.robots, 1), ended)
        self._model.train()
        if self._like.limit.is_cuda:
            torch.cuda.synchronize()


def perceptrons(size: Size, turns: int, device: str, threads: int) -> list[Figure]:
    """Domain-randomised PPO and Stable-Baselines3's PPO."""
    from stable_baselines3 import PPO

    ours = Ours("domain_randomised", size, {"hidden": [HIDDEN, HIDDEN], "critic_hidden": [HIDDEN, HIDDEN]}, device)
    network = {"net_arch": {"pi": [HIDDEN, HIDDEN], "vf": [HIDDEN, HIDDEN]}}
    theirs = Theirs(PPO, "MlpPolicy", size, ours.learner, network)
    values = take_turns({OURS: ours, SB3: theirs}, turns)
    return compare(section("perceptron 2x64", size, device, threads), values, UNIT, OURS, {SB3: AIM})


def recurrent(size: Size, turns: int, device: str, threads: int) -> list[Figure]:
    """RL² and sb3-contrib's RecurrentPPO, which has an LSTM and steps it in Python where episodes start.

    Its critic reads Linear(64) and two layers of 64, ours three layers of 64. `no starts` hides from it where
    episodes start, so that it takes its fused path: faster than it can be in use.
    """
    from sb3_contrib import RecurrentPPO

    settings = {"hidden": [HIDDEN, HIDDEN], "critic_hidden": [HIDDEN, HIDDEN, HIDDEN], "memory": MEMORY}
    ours = Ours("rl2", size, settings, device)
    network = {
        "net_arch": {"pi": [HIDDEN, HIDDEN], "vf": [HIDDEN, HIDDEN]},
        "lstm_hidden_size": MEMORY,
        "enable_critic_lstm": False,
    }
    theirs = {
        name: Theirs(RecurrentPPO, "MlpLstmPolicy", size, ours.learner, network, starts)
        for name, starts in ((CONTRIB, True), (FUSED, False))
    }
    values = take_turns({OURS_RECURRENT: ours, **theirs}, turns)
    aims = {CONTRIB: AIM_RECURRENT, FUSED: None}
    return compare(section("recurrent 64", size, device, threads), values, UNIT, OURS_RECURRENT, aims)


def section(network: str, size: Size, device: str, threads: int) -> str:
    where = "CUDA" if device == "cuda" else f"{threads} torch thread{'s' if threads > 1 else ''}"
    return f"PPO update: {network}, {size}, {where}"


def measure(quick: bool, threads: int) -> list[Figure]:
    """Everything about updates, on the CPU and, where there is one, on a CUDA device."""
    tiny, turns = Size(4, 2, 5, 2, 1), 2 if quick else 5
    figures = []
    with torch_threads(threads):
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            for size in (tiny,) if quick else (Size(), DEFAULT_PERCEPTRON):
                figures += perceptrons(size, turns, device, threads)
            for size in (tiny,) if quick else (Size(), DEFAULT_RECURRENT):
                figures += recurrent(size, turns, device, threads)
    if not torch.cuda.is_available():
        figures.append(summary("PPO update: CUDA", "skipped: no CUDA device", [0.0], ""))
    return figures
