"""What one training is: its configuration, and the folder in which everything about it lies.

runs/NAME/config.yaml      resolved configuration
          checkpoint.pt    weights, optimiser, random states: enough to go on exactly
          metrics.jsonl    one line an iteration
          tensorboard/     the same for TensorBoard
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapt.learner import MetaLearner, make_learner
from hardware_io.config import ConfigError, build, dump, merge, option, read_yaml
from hardware_io.spec import RobotSpec
from policies.checkpoint import load_checkpoint
from sim.dynamics import DynamicsRange
from sim.robots import find_robot, load_robot


@dataclass(frozen=True)
class Named:
    """Something from a registry, with its own settings."""

    name: str
    settings: dict[str, Any] = option(dict)


@dataclass(frozen=True)
class TrainConfig:
    """One experiment."""

    robot: str = option(help="a shipped robot or a YAML file")
    task: Named = option(help="one of the robot's tasks; settings override the robot's own")
    learner: Named = option(help="a meta-learner and its settings")
    seed: int = option(0, min=0, help="of weights, robots, starts and noise")
    steps: int = option(4_000_000, min=1, unit="policy steps of all lanes", help="length of training")
    lanes: int = option(128, min=1, help="robots simulated side by side")
    workers: int = option(2, min=1, help="simulation processes; part of what makes a result repeatable")
    rollouts: int = option(2, min=1, help="of one trial, with the dynamics fixed")
    support: int = option(0, min=0, help="of them before `adapt`; 0 where the fast state changes inside the graph")
    anywhere: float = option(0.5, min=0.0, max=1.0, help="share of training rollouts that start anywhere")
    device: str = option("auto", choices=("auto", "cpu", "cuda"), help="auto: CUDA where there is one")
    checkpoint_every: int = option(10, min=1, unit="iterations", help="what a kill can cost")
    evaluate_every: int = option(20, min=0, unit="iterations", help="0: never")

    def __post_init__(self) -> None:
        if self.support >= self.rollouts:
            raise ConfigError("", "support", self.support, f"less than rollouts ({self.rollouts})")


@dataclass(frozen=True)
class Run:
    """A training with its weights."""

    folder: Path
    config: TrainConfig
    spec: RobotSpec
    ranges: DynamicsRange
    learner: MetaLearner
    metrics: dict[str, float]
    iteration: int

    @property
    def task(self) -> dict[str, Any]:
        """Name and settings of the task, as they travel in an exported file."""
        own = self.spec.tasks.get(self.config.task.name, {})
        return {"name": self.config.task.name, **own, **self.config.task.settings}

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the weights."""
        return {
            "config": dump(self.config),
            "seed": self.config.seed,
            "iteration": self.iteration,
            "commit": commit(),
            "metrics": self.metrics,
        }


def read_config(path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """A configuration file with `key.subkey=value` laid on top. Raises ConfigError."""
    data = read_yaml(path)
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError("command line", "--set", override, "KEY=VALUE, for example learner.settings.memory=32")
        value: Any = yaml.safe_load(text)
        for part in reversed(key.split(".")):
            value = {part: value}
        data = merge(data, value)
    return build(TrainConfig, data, str(path))


def new_learner(config: TrainConfig, source: str) -> tuple[RobotSpec, DynamicsRange, MetaLearner]:
    """Robot, ranges and a learner with fresh weights. Raises ConfigError."""
    spec = load_robot(config.robot)
    ranges = DynamicsRange.of(spec)
    return spec, ranges, make_learner(config.learner.name, spec, ranges, source, config.learner.settings)


def load_run(folder: str | Path) -> Run:
    """A training from its folder, with the robot as it was then. Raises ConfigError."""
    folder = Path(folder)
    content = load_checkpoint(folder / "checkpoint.pt")
    config = build(TrainConfig, content["config"], str(folder / "checkpoint.pt"))
    spec = RobotSpec.from_dict(content["spec"], str(find_robot(config.robot)))
    ranges = DynamicsRange.of(spec)
    learner = make_learner(config.learner.name, spec, ranges, str(folder), config.learner.settings)
    learner.load_state_dict(content["learner"])
    return Run(folder, config, spec, ranges, learner.eval(), content["metrics"], content["iteration"])


def read_metrics(folder: str | Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; a line cut by a crash is left out."""
    path, lines = Path(folder) / "metrics.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def commit() -> str:
    """The commit of the code, or `unknown` outside a checkout."""
    root = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
