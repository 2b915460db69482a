"""One robot as a plain Gymnasium environment, for libraries that know nothing of trials or fast states.

Importing this module registers `acclimate/SimplePendulumSwingUp-v0`, `acclimate/AcrobotSwingUp-v0` and
`acclimate/PendubotSwingUp-v0`; `gymnasium.make("sim.gym_env:acclimate/AcrobotSwingUp-v0")` does both.
`O` observation, `A` action, `P` hidden parameters.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.batch_env import BatchEnv
from sim.dynamics import SPLITS
from sim.robots import load_robot
from sim.tasks import make_task

Observation = NDArray[np.float32]
Action = NDArray[np.float32]

REGISTERED = {  # id → robot
    "acclimate/SimplePendulumSwingUp-v0": "simple_pendulum",
    "acclimate/AcrobotSwingUp-v0": "double_pendulum/acrobot",
    "acclimate/PendubotSwingUp-v0": "double_pendulum/pendubot",
}


class RobotEnv(gymnasium.Env[Observation, Action]):
    """The engine of the vector environment with one lane.

    The observation (O,) holds the robot's channels in SI units. The action (A,) is in [-1, 1] and means a share of
    each joint's command limit, because common learners start from a normal distribution of about that width.
    Every reset draws new hidden parameters from `split`; they come back in `info["dynamics"]`, (P,). Running out of
    time is truncation, leaving the joint limits is termination. `anywhere` is the share of resets all over the state
    space, `substeps` the Bullet steps a policy period (None: the robot's own); other keywords go to the task.
    Raises ConfigError.
    """

    def __init__(
        self,
        robot: str = "simple_pendulum",
        task: str = "swing_up",
        split: str = "train",
        substeps: int | None = None,
        anywhere: float = 0.0,
        **parameters: Any,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError("gym_env", "split", split, f"one of {', '.join(SPLITS)}")
        self.robot = load_robot(robot)
        self.task = make_task(task, self.robot, **parameters)
        self.engine = BatchEnv(self.robot, self.task, 1, substeps)
        self.split, self.anywhere = split, anywhere
        low, high = observation_bounds(self.robot)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.robot.action_size,), np.float32)
        self._scale = self.robot.action_limit
        self._history = np.zeros((self.task.steps + 1, self.robot.observation_size), np.float32)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a rollout of a new robot, or with `options={"dynamics": …}` of that one.

        `dynamics` is (P,), or a mapping of parameters by name, the others nominal; each in its own unit. Raises
        ConfigError for an unknown name or value.
        """
        super().reset(seed=seed)
        dynamics = self._dynamics(options or {})
        self.engine.set_dynamics(dynamics[None])
        observation = self.engine.reset(self.np_random, self.anywhere)[0].copy()
        self._steps, self._history[0] = 0, observation
        return observation, {"dynamics": dynamics}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One policy period; at the end of a rollout `info["success"]` says whether it succeeded."""
        command = np.clip(np.asarray(action, np.float64), -1, 1) * self._scale
        observation = self.engine.step(command[None])[0].copy()
        self._steps += 1
        self._history[min(self._steps, self.task.steps)] = observation
        terminated, truncated = bool(self.engine.terminated[0]), self._steps >= self.task.steps
        info = {"success": self._success(terminated)} if terminated or truncated else {}
        return observation, float(self.engine.reward[0]), terminated, truncated and not terminated, info

    def close(self) -> None:
        """Free the Bullet world. Idempotent."""
        self.engine.close()

    def _success(self, terminated: bool) -> bool:
        valid = np.full(self.task.steps, not terminated)
        return bool(self.task.success(self._history, valid))

    def _dynamics(self, options: dict[str, Any]) -> Array:
        ranges = self.engine.ranges
        unknown = set(options) - {"dynamics"}
        if unknown:
            raise ConfigError("reset", f"options.{min(unknown)}", options[min(unknown)], "the key dynamics")
        if "dynamics" not in options:
            return ranges.sample(1, self.np_random, self.split)[0]
        given = options["dynamics"]
        values = ranges.nominal
        if isinstance(given, dict):
            for name, value in given.items():
                if name not in ranges.names:
                    raise ConfigError("reset", f"options.dynamics.{name}", value, f"one of {', '.join(ranges.names)}")
                values[ranges.names.index(name)] = value
        elif np.shape(given) == values.shape:
            values = np.array(given, np.float64)
        else:
            raise ConfigError("reset", "options.dynamics", given, f"{len(values)} values or a mapping by name")
        if not np.isfinite(values).all():
            raise ConfigError("reset", "options.dynamics", given, "finite numbers")
        return values


def observation_bounds(spec: RobotSpec) -> tuple[Observation, Observation]:
    """The least and greatest values of each channel, (O,) each: a motor reports nothing beyond its ranges."""
    low, high = np.zeros(spec.observation_size), np.ones(spec.observation_size)
    slices = spec.channel_slices()
    for channel in spec.channels:
        motors = [spec.joints[name].motor for name in channel.joints or spec.joints]
        where = slices[channel.name]
        if channel.source == "previous_reward":
            low[where], high[where] = -np.inf, np.inf
        elif channel.source != "rollout_start":
            kind = channel.source.removeprefix("joint_")
            reach = np.array([getattr(motor, f"{kind}_range") for motor in motors])
            middle = np.array([motor.offset if kind == "position" else 0.0 for motor in motors])
            low[where], high[where] = middle - reach, middle + reach
    return low.astype(np.float32), high.astype(np.float32)


def register() -> None:
    """Make the environments known to Gymnasium. Idempotent."""
    for name, robot in REGISTERED.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point="sim.gym_env:RobotEnv", kwargs={"robot": robot})


register()
