"""The outer loop: meta-train a learner on randomised robots. Can be interrupted and resumed with the same result.

Every random draw follows from the seed and the iteration, or from the random state in the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import yaml

from adapt.episodes import Episodes
from adapt.learner import MetaLearner
from adapt.rollout import rollout
from adapt.run_folder import TrainConfig, new_learner, read_config, read_metrics
from hardware_io.config import ConfigError, dump, write_atomically
from hardware_io.spec import RobotSpec
from policies.checkpoint import load_checkpoint, save_checkpoint
from sim.vector_env import VectorEnv

DYNAMICS, TRAINING, EVALUATION = 1, 2, 3  # streams of random numbers
EVALUATION_LANES = 64
CHANGEABLE = {"steps", "checkpoint_every", "evaluate_every"}  # when a training is resumed


@dataclass
class Progress:
    """What changes while training goes on."""

    iteration: int = 0
    steps: int = 0
    seconds: float = 0.0


class Trainer:
    """One training in one folder. Raises ConfigError when the folder holds another configuration."""

    def __init__(self, config: TrainConfig, folder: str | Path, source: str = "config") -> None:
        self.config, self.folder, self.progress = config, Path(folder), Progress()
        torch.manual_seed(config.seed)
        self.spec: RobotSpec
        self.spec, self.ranges, self.learner = new_learner(config, source)
        self.learner.to(pick_device(config.device))
        self.metrics: dict[str, float] = {}
        self._interrupted = False
        if (self.folder / "checkpoint.pt").exists():
            self._resume()
        else:
            write_atomically(self.folder / "config.yaml", yaml.safe_dump(dump(config), sort_keys=False))

    @property
    def steps_per_iteration(self) -> int:
        task_steps: int = self.envs.task.steps
        return self.config.lanes * self.config.rollouts * task_steps

    def run(self, report: Any = None) -> bool:
        """Train to the end of the budget; returns whether it got there. Ctrl-C ends after the present iteration."""
        config = self.config
        with ExitStack() as stack:
            stack.enter_context(one_thread())
            arguments = (self.spec, config.task.name)
            self.envs = stack.enter_context(VectorEnv(*arguments, config.lanes, config.workers, **config.task.settings))
            held_out = stack.enter_context(
                VectorEnv(*arguments, EVALUATION_LANES, config.workers, **config.task.settings)
            )
            stack.enter_context(self._catch_interrupt())
            log = stack.enter_context(Log(self.folder))
            saved = True
            while self.progress.steps < config.steps and not self._interrupted:
                begun = time.perf_counter()
                metrics = self._iterate()
                self.progress.iteration += 1
                self.progress.steps += self.steps_per_iteration
                last = self.progress.steps >= config.steps
                if config.evaluate_every and (last or self.progress.iteration % config.evaluate_every == 0):
                    metrics |= self._evaluate(held_out)
                self.progress.seconds += time.perf_counter() - begun
                self.metrics |= metrics
                log.write(self.progress, metrics)
                saved = last or self.progress.iteration % config.checkpoint_every == 0
                if saved:
                    self.save()
                if report is not None:
                    report(self.progress, self.metrics)
            if not saved:  # interrupted
                self.save()
        return self.progress.steps >= config.steps

    def save(self) -> None:
        """Write the checkpoint: enough to go on exactly."""
        learner = self.learner
        save_checkpoint(
            self.folder / "checkpoint.pt",
            {
                "config": dump(self.config),
                "spec": self.spec.to_dict(),
                "learner": learner.state_dict(),
                "optimiser": learner.optimiser_state(),
                "random": torch.get_rng_state(),
                "progress": vars(self.progress),
                "iteration": self.progress.iteration,
                "metrics": self.metrics,
            },
        )

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        content = load_checkpoint(path)
        before, now = content["config"], dump(self.config)
        for key in now:
            if key not in CHANGEABLE and now[key] != before[key]:
                raise ConfigError(
                    str(path), key, now[key], f"{before[key]!r} as in the checkpoint, or another --out folder"
                )
        try:
            self.learner.load_state_dict(content["learner"])
            self.learner.load_optimiser_state(content["optimiser"])
        except (KeyError, ValueError, RuntimeError) as error:
            was = str(error).splitlines()[0]
            raise ConfigError(
                str(path), "state", was, "a checkpoint of this version; or another --out folder"
            ) from error
        torch.set_rng_state(content["random"])
        self.progress, self.metrics = Progress(**content["progress"]), content["metrics"]
        kept = [line for line in read_metrics(self.folder) if line["iteration"] <= self.progress.iteration]
        write_atomically(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def _iterate(self) -> dict[str, float]:
        """One trial of all lanes and one outer step (the loop of the design)."""
        config, learner, iteration = self.config, self.learner, self.progress.iteration
        rng = np.random.default_rng((config.seed, DYNAMICS, iteration))
        begun = time.perf_counter()
        self.envs.begin_trial(self.ranges.sample(config.lanes, rng))
        fast = learner.fast0(config.lanes, true_dynamics(self.envs, learner))
        support: Episodes | None = None
        seed = (config.seed, TRAINING, iteration)
        if config.support:
            support = rollout(self.envs, learner, fast, config.support, (*seed, 0), anywhere=config.anywhere)
            fast = learner.adapt(fast, support)
        count = config.rollouts - config.support
        query = rollout(self.envs, learner, fast, count, (*seed, 1), anywhere=config.anywhere)
        simulated = time.perf_counter()
        metrics = learner.meta_update(support, query)
        return {
            **metrics,
            "return": float(query.returns.mean()),
            "terminated": float(query.terminated.any(-1).float().mean()),
            "steps_per_second": self.steps_per_iteration / (time.perf_counter() - begun),
            "simulation_share": (simulated - begun) / (time.perf_counter() - begun),
        }

    def _evaluate(self, envs: VectorEnv) -> dict[str, float]:
        """Return and success of the first and the third rollout on robots that training never sees."""
        learner = self.learner
        rng = np.random.default_rng((self.config.seed, EVALUATION))
        envs.begin_trial(self.ranges.sample(envs.lanes, rng))
        fast = learner.fast0(envs.lanes, true_dynamics(envs, learner))
        episodes = rollout(envs, learner, fast, 3, (self.config.seed, EVALUATION), explore=False)
        success = envs.task.success(episodes.observation.cpu().numpy(), episodes.valid.cpu().numpy())
        return {
            "return_before": float(episodes.returns[:, 0].mean()),
            "return_after": float(episodes.returns[:, -1].mean()),
            "success_before": float(success[:, 0].mean()),
            "success_after": float(success[:, -1].mean()),
        }

    def _catch_interrupt(self) -> ExitStack:
        stack = ExitStack()

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupted = True

        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, interrupt))
        return stack


class Log:
    """metrics.jsonl and TensorBoard."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # slow to import, and only training needs it

        self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, progress: Progress, metrics: dict[str, float]) -> None:
        line = {"iteration": progress.iteration, "steps": progress.steps, "seconds": progress.seconds, **metrics}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, progress.steps)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()


def true_dynamics(envs: VectorEnv, learner: MetaLearner) -> torch.Tensor:
    """What only a privileged learner reads, (B, P)."""
    return torch.tensor(envs.dynamics, dtype=torch.float32, device=learner.kept.device)


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises ConfigError when CUDA is asked for and missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("config", "device", name, "cpu or auto: this PyTorch sees no CUDA device")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def one_thread() -> ExitStack:
    """One torch thread while simulation workers use the cores; more make both slower."""
    stack = ExitStack()
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(1)
    return stack


def main(argv: list[str]) -> int:
    """`acclimate train CONFIG`."""
    parser = argparse.ArgumentParser(prog="acclimate train", description="Meta-train a policy on randomised robots.")
    parser.add_argument("config", help="YAML file, or the folder of a training to resume")
    parser.add_argument("--out", help="folder of the run (default: runs/ and the name of the configuration)")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="override a key, e.g. steps=1000000")
    parser.epilog = describe_config()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    options = parser.parse_args(argv)
    path = Path(options.config)
    if path.is_dir():
        options.out, path = str(path), path / "config.yaml"
    config = read_config(path, options.set)
    folder = Path(options.out or Path("runs") / path.stem)
    trainer = Trainer(config, folder, str(path))
    finished = train_with_bar(trainer)
    if not finished:
        print(f"interrupted after {trainer.progress.steps:,} steps; go on with: acclimate train {folder}")
        return 130
    after = trainer.metrics.get("success_after")
    print(f"{folder}: return {trainer.metrics.get('return', float('nan')):.1f}"
          + ("" if after is None else f", success {trainer.metrics['success_before']:.0%} → {after:.0%}"))  # fmt: skip
    return 0


def train_with_bar(trainer: Trainer) -> bool:
    """Train under a progress bar with throughput and time left; returns whether it finished."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[speed]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        TextColumn("{task.fields[score]}"),
    )  # fmt: skip
    with Progress(*columns, refresh_per_second=2) as bar:
        name = f"{trainer.config.learner.name} on {trainer.config.robot}"
        item = bar.add_task(name, total=trainer.config.steps, speed="", score="", completed=trainer.progress.steps)

        def report(progress: Any, metrics: dict[str, float]) -> None:
            score = f"return {metrics['return']:.1f}"
            if "success_after" in metrics:
                score += f", success {metrics['success_before']:.0%} → {metrics['success_after']:.0%}"
            speed = f"{metrics['steps_per_second']:,.0f} steps/s"
            bar.update(item, completed=min(progress.steps, trainer.config.steps), speed=speed, score=score)

        return trainer.run(report)


def describe_config() -> str:
    """The keys of a configuration with unit, default and meaning."""
    lines = ["keys of the configuration:"]
    for f in fields(TrainConfig):
        default = "required" if f.default is f.default_factory else f"default {f.default}"
        unit = f" [{f.metadata['unit']}]" if "unit" in f.metadata else ""
        lines.append(f"  {f.name:<18}{default}{unit}  {f.metadata.get('help', '')}")
    return "\n".join(lines)
