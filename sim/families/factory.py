"""Anybody's Gymnasium environments as a family: a function makes one from a vector of hidden parameters.

def make(task, *, wind=0.0):  # task: (P,) float64, in the order of the file; other keywords are settings
    return MyEnv(mass=task[0], length=task[1], wind=wind)

family:
  name: my_package.envs:make
  settings: {horizon: 200, feedback: true, wind: 1.5}  # the first two are the family's own
  tasks: {mass: [0.5, 2.0], length: {train: [0.3, 0.7], test: [0.2, 0.9]}}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hardware_io.config import ConfigError, build, option
from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.families import find
from sim.families.feedback import feedback_block, feedback_interface
from sim.families.ranges import TaskRanges, uniform
from sim.family import Block, Family, TaskError

Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True)
class FactorySettings:
    """The family's own settings; all others go to the factory."""

    horizon: int | None = option(None, min=1, help="steps of a rollout; the environment's time limit if it has one")
    feedback: bool = option(False, help="show previous reward and rollout start")


class FactoryFamily(Family):
    """Environments of a factory `module:function`, imported again in every process. Raises ConfigError.

    One environment is made at once, from the middle of all ranges: its spaces are those that every task must have.
    Actions are a `Box` of one dimension with finite bounds (commands in its units, clipped to it) or `Discrete`
    (commands one-hot); observations are any space that Gymnasium can flatten.
    """

    convex = True

    def __init__(self, path: str, settings: dict[str, Any], source: str, tasks: dict[str, Any] | None) -> None:
        own = {field.name for field in fields(FactorySettings)}
        self.name, self.source = path, source
        self.ranges = TaskRanges.of(tasks, source, "family.tasks")
        self.arguments = {key: value for key, value in settings.items() if key not in own}
        mine = {key: value for key, value in settings.items() if key in own}
        self.settings = build(FactorySettings, mine, source, "family.settings")
        self._check_arguments(find(path, source))
        self.nominal = self.ranges.train.mean(axis=1)  # (P,)
        env = self.make(self.nominal)
        try:
            self.observation_space, self.action_space = env.observation_space, env.action_space
            self.steps = self._horizon(env)
            plain = Interface(
                observation=self._observation_size(),
                limit=self._limit(),
                discrete=isinstance(self.action_space, spaces.Discrete),
                bounds=tuple((float(low), float(high)) for low, high in self.ranges.train),
                nominal=tuple(map(float, self.nominal)),
            )
        finally:
            env.close()
        self.interface = feedback_interface(plain) if self.settings.feedback else plain

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        return uniform(self.ranges.train, self.ranges.test, n, rng, split, self.source)

    def block(self, n: int) -> Block:
        block = FactoryBlock(self, n)
        return feedback_block(block) if self.settings.feedback else block

    def make(self, task: Array, which: str = "the middle of all ranges") -> Env:
        """A new environment of a task (P,). Raises TaskError naming `which` when the factory does not make one."""
        try:
            env = find(self.name, self.source)(task.copy(), **self.arguments)
        except Exception as error:  # anybody's code may fail in any way
            raise self.error(task, which, f"{self.name} raised {type(error).__name__}: {error}") from error
        if not isinstance(env, gymnasium.Env):
            raise self.error(task, which, f"{self.name} returned {type(env).__name__}; allowed: a gymnasium.Env")
        return env

    def error(self, task: Array, which: str, what: str) -> TaskError:
        """`what` went wrong with a task (P,)."""
        return TaskError(f"{self.source}: {which} ({self.ranges.describe(task)}): {what}")

    def _check_arguments(self, factory: Callable[..., Any]) -> None:
        try:
            signature = inspect.signature(factory)
        except ValueError:  # written in C: it has to check for itself
            return
        parameters = list(signature.parameters.values())
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            known = [p.name for p in parameters[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            for key, value in self.arguments.items():
                if key not in known:
                    allowed = ", ".join([*(field.name for field in fields(FactorySettings)), *known])
                    raise ConfigError(self.source, f"family.settings.{key}", value, f"one of the keys {allowed}")
        try:
            signature.bind(self.ranges.train.mean(axis=1), **self.arguments)
        except TypeError as error:
            allowed = f"what {self.name}{signature} takes after the task: {error}"
            raise ConfigError(self.source, "family.settings", self.arguments, allowed) from error

    def _horizon(self, env: Env) -> int:
        limit = env.spec.max_episode_steps if env.spec is not None else None
        if limit is None and env.has_wrapper_attr("_max_episode_steps"):  # TimeLimit around what is not registered
            limit = env.get_wrapper_attr("_max_episode_steps")
        horizon = self.settings.horizon or limit
        if horizon is None:
            allowed = "a number of steps: the environment has no time limit of its own"
        elif limit is not None and horizon > limit:
            allowed = f"at most {limit}, the time limit of the environment"
        else:
            return int(horizon)
        raise ConfigError(self.source, "family.settings.horizon", horizon, allowed)

    def _observation_size(self) -> int:
        space = self.observation_space
        if not space.is_np_flattenable:
            raise ConfigError(self.source, "family.name", self.name, f"observations of a fixed size, not {space}")
        return spaces.flatdim(space)

    def _limit(self) -> tuple[float, ...]:
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return (1.0,) * int(space.n)
        if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
            limit = np.maximum(np.abs(space.low), np.abs(space.high))
            if np.isfinite(limit).all() and (limit > 0).all():
                return tuple(map(float, limit))
        allowed = f"actions in Discrete, or in a float Box of one dimension with finite bounds around 0, not {space}"
        raise ConfigError(self.source, "family.name", self.name, allowed)


class FactoryBlock:
    """`n` environments side by side, made at the first reset of a trial. One that has terminated waits for a reset.

    A rollout is `family.steps` long or ends by termination. An environment that truncates it earlier is an error:
    taken for termination, it would teach that nothing was to be gained beyond.
    """

    def __init__(self, family: FactoryFamily, n: int) -> None:
        self.family = family
        self.tasks = np.tile(family.nominal, (n, 1))  # (n, P)
        self.reward, self.terminated = np.zeros(n), np.zeros(n, bool)
        self._envs: list[Env] = []
        self._observation = np.zeros((n, spaces.flatdim(family.observation_space)), np.float32)
        self._steps = 0  # since the rollout began

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: tasks (n, P). The environments of the last one are closed."""
        self.close()
        self.tasks[...] = dynamics

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout, each environment with a seed from `rng`; Gymnasium knows no other starts than its own.

        Raises TaskError.
        """
        self.reward[...], self.terminated[...], self._steps = 0, False, 0
        for lane, seed in enumerate(rng.integers(2**31, size=len(self.tasks)).tolist()):
            if lane == len(self._envs):
                self._envs.append(self._make(lane))
            try:
                observation, _ = self._envs[lane].reset(seed=seed)
                self._show(lane, observation)
            except Exception as error:
                raise self._error(lane, error) from error
        return self._finite()

    def step(self, command: Array) -> NDArray[np.float32]:
        """One step under commands (n, A). Raises TaskError."""
        actions = self._actions(command)
        self.reward[...] = 0
        self._steps += 1
        for lane in np.flatnonzero(~self.terminated).tolist():
            try:
                observation, reward, terminated, truncated, _ = self._envs[lane].step(actions[lane])
                self.reward[lane], self.terminated[lane] = reward, terminated
                self._show(lane, observation)
                if truncated and not terminated and self._steps < self.family.steps:
                    raise ValueError(f"it truncates its rollout here; set horizon to {self._steps} or less")
            except Exception as error:
                raise self._error(lane, error) from error
        return self._finite()

    def close(self) -> None:
        """Close the environments. Idempotent."""
        while self._envs:
            self._envs.pop().close()

    def _make(self, lane: int) -> Env:
        family = self.family
        env = family.make(self.tasks[lane], f"task {lane}")
        pairs = (
            ("observations", env.observation_space, family.observation_space),
            ("actions", env.action_space, family.action_space),
        )
        for kind, space, first in pairs:
            if space != first:
                env.close()
                what = f"its {kind} are {space}; allowed: {first}, as in the middle of all ranges"
                raise family.error(self.tasks[lane], f"task {lane}", what)
        return env

    def _actions(self, command: Array) -> list[Any]:
        """What each environment understands, from commands (n, A)."""
        space = self.family.action_space
        if isinstance(space, spaces.Discrete):
            return (np.argmax(command, axis=1) + space.start).tolist()
        assert isinstance(space, spaces.Box)
        return list(np.clip(command, space.low, space.high).astype(space.dtype))

    def _show(self, lane: int, observation: Any) -> None:
        flat = np.asarray(spaces.flatten(self.family.observation_space, observation))
        if flat.shape != self._observation[lane].shape:
            raise ValueError(f"its observation has {flat.size} entries; allowed: {self._observation.shape[1]}")
        self._observation[lane] = flat

    def _finite(self) -> NDArray[np.float32]:
        """A copy of the observations, when they and the rewards are finite numbers."""
        for name, values in (("observation", self._observation), ("reward", self.reward[:, None])):
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                lane = int(np.argmin(finite))
                raise self._error(lane, ValueError(f"its {name} is {values[lane].tolist()}; allowed: finite float32"))
        return self._observation.copy()

    def _error(self, lane: int, error: Exception) -> TaskError:
        when = f"step {self._steps}" if self._steps else "reset"
        return self.family.error(self.tasks[lane], f"task {lane}", f"{when}: {type(error).__name__}: {error}")
