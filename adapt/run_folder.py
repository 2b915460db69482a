"""What one training is: its configuration, and the folder in which everything about it lies.

runs/NAME/config.yaml      resolved configuration
          checkpoint.pt    weights, optimiser, random states: enough to go on exactly
          metrics.jsonl    one line an iteration
          tensorboard/     the same for TensorBoard
          kept/            what a learner keeps there, such as a replay
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapt.calibration import calibrated
from adapt.curriculum import CurriculumSettings
from adapt.learner import MetaLearner, make_learner
from hardware_io.config import ConfigError, build, dump, merge, option, read_yaml
from hardware_io.spec import RobotSpec
from policies.checkpoint import load_checkpoint
from sim.families import make_family
from sim.family import Family, RobotFamily
from sim.robots import find_robot, load_robot


@dataclass(frozen=True)
class Named:
    """Something from a registry, with its own settings."""

    name: str
    settings: dict[str, Any] = option(dict)


@dataclass(frozen=True)
class FamilyChoice(Named):
    """A distribution of tasks that is no robot: a shipped one, or `module:function` of anybody's environments."""

    tasks: dict[str, Any] | None = option(None, help="of a factory: ranges of the task's parameters by name")


@dataclass(frozen=True)
class TrainConfig:
    """One experiment: on a robot with one of its tasks, or on a family."""

    learner: Named = option(help="a meta-learner and its settings")
    robot: str | None = option(None, help="a shipped robot or a YAML file")
    task: Named | None = option(None, help="one of the robot's tasks; settings override the robot's own")
    calibration: str | None = option(None, help="of `acclimate identify`: its ranges in place of the robot's own")
    family: FamilyChoice | None = option(None, help="instead of robot and task: a shipped one or module:function")
    one_at_a_time: bool = option(False, help="robots differ from the nominal one in one hidden parameter each, not all")
    begin_with: str | None = option(None, help="folder of another training whose weights this one begins with")
    seed: int = option(0, min=0, help="of weights, robots, starts and noise")
    steps: int = option(4_000_000, min=1, unit="policy steps of all lanes", help="length of training")
    lanes: int = option(128, min=1, help="robots simulated side by side")
    workers: int = option(2, min=0, help="simulation processes; 0: in the learner's own (repeats only at the same)")
    copies: int = option(1, min=1, help="lanes that are copies of one robot, for learners that adapt between rollouts")
    rollouts: int = option(2, min=1, help="of one trial, with the dynamics fixed")
    support: int = option(0, min=0, help="of them before `adapt`; 0 where the fast state changes inside the graph")
    adaptations: int = option(1, min=1, help="how often support rollouts and `adapt` come before the query rollouts")
    anywhere: float = option(0.5, min=0.0, max=1.0, help="share of training rollouts that start anywhere")
    regret: bool = option(False, help="learn from expected regret in place of reward, where a family knows it")
    curriculum: CurriculumSettings = option(CurriculumSettings(), help="which tasks are practised when")
    overlap: bool = option(False, help="simulate the next trial during an update, with the weights from before it")
    compiled: bool = option(False, help="external memories learn in machine code, which first takes minutes to compile")
    device: str = option("auto", choices=("auto", "cpu", "cuda"), help="auto: CUDA where there is one")
    checkpoint_every: int = option(10, min=1, unit="iterations", help="what a kill can cost")
    evaluate_every: int = option(20, min=0, unit="iterations", help="0: never")

    def __post_init__(self) -> None:
        if (self.robot is None) == (self.family is None):
            raise ConfigError("", "robot", self.robot, "a robot with its task, or a family in place of both")
        if (self.robot is None) != (self.task is None):
            raise ConfigError("", "task", self.task, "one of the robot's tasks, and none for a family")
        if self.support * self.adaptations >= self.rollouts:
            allowed = f"less than rollouts ({self.rollouts}) in all adaptations ({self.adaptations})"
            raise ConfigError("", "support", self.support, allowed)
        if self.lanes % self.copies:
            raise ConfigError("", "copies", self.copies, f"a divisor of lanes ({self.lanes})")


@dataclass(frozen=True)
class Run:
    """A training with its weights."""

    folder: Path
    config: TrainConfig
    family: Family
    learner: MetaLearner
    metrics: dict[str, float]
    iteration: int

    @property
    def spec(self) -> RobotSpec:
        """The robot. Raises ConfigError for a training on a family that is none."""
        if not isinstance(self.family, RobotFamily):
            raise ConfigError(str(self.folder), "family", self.family.name, "a robot: only robots are exported and run")
        return self.family.spec

    @property
    def task(self) -> dict[str, Any]:
        """Name and settings of the robot's task, as they travel in an exported file. Raises ConfigError."""
        spec, chosen = self.spec, self.config.task
        assert chosen is not None  # a robot has a task
        return {"name": chosen.name, **spec.tasks.get(chosen.name, {}), **chosen.settings}

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


def family_of(config: TrainConfig, source: str, spec: RobotSpec | None = None) -> Family:
    """What a configuration trains on; `spec` is the robot as it was when a checkpoint was made. Raises ConfigError."""
    if config.robot is not None and config.task is not None:
        spec = spec or _robot_of(config.robot, config)
        regulated = config.learner.settings.get("regulator") is not None
        settings = config.task.settings
        return RobotFamily(spec, config.task.name, one_at_a_time=config.one_at_a_time, linearised=regulated, **settings)
    assert config.family is not None
    return make_family(config.family.name, config.family.settings, source, config.family.tasks)


def _robot_of(name: str, config: TrainConfig) -> RobotSpec:
    spec = load_robot(name)
    return calibrated(spec, config.calibration) if config.calibration else spec


def new_learner(config: TrainConfig, family: Family, source: str) -> MetaLearner:
    """A learner with fresh weights. Raises ConfigError."""
    return make_learner(config.learner.name, family.interface, source, config.learner.settings)


def load_run(folder: str | Path) -> Run:
    """A training from its folder, with the robot as it was then. Raises ConfigError."""
    folder = Path(folder)
    content = load_checkpoint(folder / "checkpoint.pt")
    config = build(TrainConfig, content["config"], str(folder / "checkpoint.pt"))
    spec = RobotSpec.from_dict(content["spec"], str(find_robot(config.robot))) if config.robot else None
    family = family_of(config, str(folder), spec)
    learner = new_learner(config, family, str(folder))
    learner.load_state_dict(content["learner"])
    return Run(folder, config, family, learner.eval(), content["metrics"], content["iteration"])


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
