"""What learners train on: a distribution of tasks, robots with hidden dynamics or anything else that can be simulated.

A `Family` is plain data that travels to worker processes, where it makes blocks of tasks that run side by side.
`n` tasks of a block, `T` steps of a rollout, `O` observation, `A` action, `P` hidden parameters of a task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError
from hardware_io.interface import Interface
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.batch_env import BatchEnv
from sim.dynamics import DynamicsRange
from sim.linear import linearise
from sim.tasks import make_task


class TaskError(RuntimeError):
    """A task that cannot be trained on: says which one it is, at which step, and what is wrong."""


class Block(Protocol):
    """`n` tasks side by side in one process, in batched numpy around whatever simulates them."""

    reward: Array  # (n,) of the last step; 0 for a rollout that had ended before it
    terminated: NDArray[np.bool_]  # (n,) whether the rollout has ended, with the last step or before it

    def set_dynamics(self, dynamics: Array) -> None:
        """Begin a trial: tasks with hidden parameters (n, P)."""

    def reset(self, rng: np.random.Generator, anywhere: float = 0.0) -> NDArray[np.float32]:
        """Begin a rollout of every task, returns observations (n, O). `rng` draws all that is random until the next.

        A share `anywhere` of the starts is all over the state space, where the family knows such starts.
        """

    def step(self, command: Array) -> NDArray[np.float32]:
        """One step under commands (n, A); sets `reward` and `terminated`, returns observations (n, O)."""

    def close(self) -> None:
        """Free what it holds. Idempotent."""


class Family(ABC):
    """A distribution of tasks. Instances are picklable and hold no simulator."""

    name: str
    interface: Interface
    steps: int  # T
    knows_regret = False
    convex = False  # whether between any two tasks of training all are tasks of training

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Family:
        """The family with the settings that `source` gives. Raises ConfigError naming the setting."""
        raise ConfigError(source, "family.name", cls.__name__, "a Family with a classmethod of(settings, source)")

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        """Hidden parameters of `n` tasks, (n, P). Raises ConfigError for a split it does not know."""

    def splits(self) -> tuple[str, ...]:
        """What an evaluation tells apart: `train`, and `outside` its range where there is such a thing."""
        try:
            self.sample(1, np.random.default_rng(0), "outside")
        except ConfigError:
            return ("train",)
        return ("train", "outside")

    @abstractmethod
    def block(self, n: int) -> Block:
        """`n` of its tasks in this process, at nominal parameters until `set_dynamics`."""

    def success(self, observation: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """Whether rollouts (..., T+1, O) with steps that count (..., T) succeeded, (...,); None: no such notion."""
        return None

    def regret(self, dynamics: Array, observation: NDArray[Any], asked: NDArray[Any]) -> Array:
        """How much each step of rollouts gives away, expected, against whoever knows the task; where it is known.

        Of tasks (B, P) with observations (B, K, T+1, O) and commands (B, K, T, A), ≥ 0, (B, K, T). Summed over a
        rollout it is, on average over all that is random, what the best policy of the task gets and this one does not.
        """
        raise NotImplementedError(f"the regret of {self.name} is not known")


class RobotFamily(Family):
    """A robot with one of its tasks and its dynamics ranges; with `one_at_a_time` a robot differs in one parameter.

    Only with `linearised` its interface holds a linear model, which takes worlds of its own. Raises ConfigError.
    """

    convex = True

    def __init__(
        self,
        spec: RobotSpec,
        task: str,
        substeps: int | None = None,
        one_at_a_time: bool = False,
        linearised: bool = False,
        **parameters: Any,
    ) -> None:
        self.name, self.spec, self.substeps, self.one_at_a_time = spec.name, spec, substeps, one_at_a_time
        self.task, self.ranges = make_task(task, spec, **parameters), DynamicsRange.of(spec)
        self.steps = self.task.steps
        linear = linearise(spec, self.task.pose) if linearised else None
        self.interface = Interface.of(spec, self.ranges.bounds("train"), self.ranges.nominal, linear)

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> Array:
        values = self.ranges.sample(n, rng, split)
        if not self.one_at_a_time:
            return values
        low, high = self.ranges.bounds("train").T
        beyond = (values < low) | (values > high)  # outside training, what is outside has to stay
        weights = np.array([parameter.weight for parameter in self.ranges.parameters.values()])
        drawn = rng.choice(len(low), size=n, p=weights / weights.sum())
        chosen = np.where(beyond.any(1), beyond.argmax(1), drawn)[:, None]
        one = np.tile(self.ranges.nominal, (n, 1))
        np.put_along_axis(one, chosen, np.take_along_axis(values, chosen, axis=1), axis=1)
        return one

    def block(self, n: int) -> BatchEnv:
        return BatchEnv(self.spec, self.task, n, self.substeps)

    def success(self, observation: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return self.task.success(observation, valid)
