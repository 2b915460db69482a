"""The outer loop: meta-train a learner on randomised robots. Can be interrupted and resumed with the same result.

Every random draw follows from the seed and the iteration, or from the random state in the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import yaml

from adapt.collect import Ahead, Trial, collect
from adapt.curriculum import make_curriculum
from adapt.learner import MetaLearner
from adapt.outer import DivergenceError
from adapt.rollout import begin_trial, progress
from adapt.run_folder import TrainConfig, family_of, load_run, new_learner, read_config, read_metrics
from hardware_io.config import ConfigError, build, dump, write_atomically
from policies.addressing import ExternalMemory
from policies.checkpoint import load_checkpoint, save_checkpoint
from sim.family import RobotFamily
from sim.vector_env import VectorEnv

EVALUATION, EVALUATION_TASKS = 3, 4  # streams of random numbers, beside those of adapt/collect.py
EVALUATION_ROBOTS = 64
CHANGEABLE = {"steps", "checkpoint_every", "evaluate_every", "compiled"}  # when a training is resumed


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
        self.family = family_of(config, source)
        self.learner = new_learner(config, self.family, source)
        self._check_rollouts(source)
        if config.regret and not self.family.knows_regret:
            raise ConfigError(source, "regret", True, f"false: {self.family.name} does not know it")
        tasks = config.lanes // config.copies
        self.curriculum = (
            make_curriculum(config.curriculum, self.family, tasks, source) if self.learner.randomised else None
        )
        self.learner.to(pick_device(config.device))
        if config.compiled:
            self._compile(source)
        self.learner.keep_in(self.folder / "kept")
        self.ahead: Ahead | None = None
        if config.overlap:
            self.ahead = Ahead(new_learner(config, self.family, source).to(self.learner.kept.device))
            self.ahead.actor.load_state_dict(self.learner.state_dict())
        self.metrics: dict[str, float] = {}
        self._interrupted, self._whole = False, True
        if (self.folder / "checkpoint.pt").exists():
            self._resume()
        else:
            if config.begin_with is not None:
                self._take_weights(config.begin_with, source)
            write_atomically(self.folder / "config.yaml", yaml.safe_dump(dump(config), sort_keys=False))

    def _check_rollouts(self, source: str) -> None:
        config, learner = self.config, self.learner
        if config.copies > 1 and (learner.in_graph or learner.searches):
            why = "it learns as it acts" if learner.in_graph else "each rollout is a try of its own"
            raise ConfigError(source, "copies", config.copies, f"1 for {config.learner.name}: {why}")
        if not (config.support or learner.in_graph or learner.searches):
            raise ConfigError(source, "support", config.support, f"at least 1 for {config.learner.name}")
        if config.overlap and not self.learner.overlaps:
            raise ConfigError(
                source, "overlap", True, f"false for {config.learner.name}: it learns from its own weights"
            )

    def _compile(self, source: str) -> None:
        memories = [module for module in self.learner.modules() if isinstance(module, ExternalMemory)]
        if not memories:
            allowed = f"false for {self.config.learner.name}: it has no external memory, whose steps could be compiled"
            raise ConfigError(source, "compiled", True, allowed)
        try:
            torch.compile(torch.neg)(self.learner.kept.float())
        except Exception as error:  # PyTorch has many for what may be missing
            why = str(error).splitlines()[0]
            raise ConfigError(
                source, "compiled", True, f"false where PyTorch cannot compile; it needs a C++ compiler ({why})"
            ) from error
        for memory in memories:
            memory.compile_steps()

    @property
    def steps_per_iteration(self) -> int:
        return self.config.lanes * self.config.rollouts * self.family.steps

    def run(self, report: Any = None) -> bool:
        """Train to the end of the budget; returns whether it got there. Ctrl-C ends after the present iteration."""
        config = self.config
        with ExitStack() as stack:
            stack.enter_context(one_thread())
            if self.ahead is not None:
                stack.enter_context(self.ahead)
            groups = 2 if config.workers else 1
            self.envs = stack.enter_context(VectorEnv(self.family, config.lanes, config.workers, groups))
            held_out: VectorEnv | None = None
            if config.evaluate_every:
                unit = max(config.workers, 1) * groups * config.copies
                lanes = -(-EVALUATION_ROBOTS * config.copies // unit) * unit
                held_out = stack.enter_context(VectorEnv(self.family, lanes, config.workers, groups))
            stack.enter_context(self._catch_interrupt())
            log = stack.enter_context(Log(self.folder))
            saved = True
            while self.progress.steps < config.steps and not self._interrupted:
                begun = time.perf_counter()
                metrics = self._or_save(self._iterate, saved)
                self.progress.iteration += 1
                self.progress.steps += self.steps_per_iteration
                last = self.progress.steps >= config.steps
                if held_out and (last or self.progress.iteration % config.evaluate_every == 0):
                    metrics |= self._or_save(partial(self._evaluate, held_out), False)
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

    def interrupt(self) -> None:
        """End `run` after the present iteration, as Ctrl-C does."""
        self._interrupted = True

    def save(self) -> None:
        """Write the checkpoint: enough to go on exactly."""
        learner = self.learner
        save_checkpoint(
            self.folder / "checkpoint.pt",
            {
                "config": dump(self.config),
                "spec": self.family.spec.to_dict() if isinstance(self.family, RobotFamily) else None,
                "learner": learner.state_dict(),
                "actor": self.ahead.actor.state_dict() if self.ahead else None,
                "optimiser": learner.optimiser_state(),
                "curriculum": self.curriculum.state() if self.curriculum else None,
                "random": torch.get_rng_state(),
                "progress": vars(self.progress),
                "iteration": self.progress.iteration,
                "metrics": self.metrics,
            },
        )

    def _take_weights(self, folder: str, source: str) -> None:
        """Those of a training of the same learner, whose tasks may have been others. Raises ConfigError."""
        other = load_run(folder)
        try:
            self.learner.load_state_dict(other.learner.state_dict())
        except RuntimeError as error:
            allowed = (
                f"a training of {self.config.learner.name} with the same sizes ({str(error).splitlines()[-1].strip()})"
            )
            raise ConfigError(source, "begin_with", folder, allowed) from error
        if self.ahead is not None:
            self.ahead.actor.load_state_dict(self.learner.state_dict())

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        content = load_checkpoint(path)
        before, now = dump(build(TrainConfig, content["config"], str(path))), dump(self.config)
        for key in now:
            if key not in CHANGEABLE and now[key] != before[key]:
                raise ConfigError(
                    str(path), key, now[key], f"{before[key]!r} as in the checkpoint, or another --out folder"
                )
        try:
            self.learner.load_state_dict(content["learner"])
            if self.ahead is not None:
                self.ahead.actor.load_state_dict(content["actor"])
            self.learner.load_optimiser_state(content["optimiser"])
            if self.curriculum is not None:
                self.curriculum.load_state(content["curriculum"])
        except (KeyError, ValueError, RuntimeError) as error:
            was = str(error).splitlines()[0]
            raise ConfigError(
                str(path), "state", was, "a checkpoint of this version; or another --out folder"
            ) from error
        torch.set_rng_state(content["random"])
        self.progress, self.metrics = Progress(**content["progress"]), content["metrics"]
        kept = [line for line in read_metrics(self.folder) if line["iteration"] <= self.progress.iteration]
        write_atomically(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def _or_save(self, part: Callable[[], dict[str, float]], saved: bool) -> dict[str, float]:
        """A part of an iteration; when a task or an adaptation fails in it, what was learned before is on disk."""
        try:
            return part()
        except Exception:
            if self._whole and not saved:
                self.save()
            raise

    def _iterate(self) -> dict[str, float]:
        """One trial of all lanes and one outer step (the loop of the design)."""
        begun, iteration = time.perf_counter(), self.progress.iteration
        self.learner.trained = self.progress.steps / self.config.steps
        trial = self.ahead.trial(self._simulate, iteration) if self.ahead else self._simulate(self.learner, iteration)
        chosen = self.curriculum.observe(trial.query) if self.curriculum else {}
        metrics = {**chosen, **self._update(trial)}
        seconds, query = time.perf_counter() - begun, trial.query
        return {
            **metrics,
            **({"return_unadapted": float(trial.support[0].returns.mean())} if trial.support else {}),
            "return": float(query.returns.mean()),
            "terminated": float(query.terminated.any(-1).float().mean()),
            "steps_per_second": self.steps_per_iteration / seconds,
            "simulation_share": trial.seconds / seconds,
        }

    def _update(self, trial: Trial) -> dict[str, float]:
        """The outer step, while the next trial is simulated if updates and simulation overlap."""
        self._whole = False
        try:
            if self.ahead is None:
                metrics = self.learner.meta_update(trial.support, trial.query)
            else:
                last = self.progress.steps + self.steps_per_iteration >= self.config.steps
                following = None if last else partial(self._simulate, self.ahead.actor, self.progress.iteration + 1)
                metrics = self.ahead.update(self.learner, trial, following)
        except DivergenceError:  # nothing has changed
            self._whole = True
            raise
        self._whole = True
        return metrics

    def _simulate(self, learner: MetaLearner, iteration: int) -> Trial:
        return collect(self.config, self.envs, learner, iteration, self.curriculum)

    def _evaluate(self, envs: VectorEnv) -> dict[str, float]:
        """Return and success before and after adaptation on tasks that training never sees."""
        learner, config = self.learner, self.config
        rng = np.random.default_rng((config.seed, EVALUATION_TASKS))
        fast = begin_trial(envs, learner, config.copies, rng)
        returns, success = progress(envs, learner, fast, 2, max(config.support, 1), (config.seed, EVALUATION))
        metrics = {"return_before": float(returns[:, 0].mean()), "return_after": float(returns[:, -1].mean())}
        if success is not None:
            metrics |= {"success_before": float(success[:, 0].mean()), "success_after": float(success[:, -1].mean())}
        return metrics

    def _catch_interrupt(self) -> ExitStack:
        stack = ExitStack()

        def caught(number: int, frame: FrameType | None) -> None:
            self.interrupt()

        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, caught))
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
        name = f"{trainer.config.learner.name} on {trainer.family.name}"
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
    for name, f in keys_of(TrainConfig):
        default = "required" if f.default is f.default_factory else f"default {f.default}"
        unit = f" [{f.metadata['unit']}]" if "unit" in f.metadata else ""
        lines.append(f"  {name:<24}{default}{unit}  {f.metadata.get('help', '')}")
    return "\n".join(lines)


def keys_of(config: type, before: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Dotted names of the keys of a configuration, with their fields."""
    for f in fields(config):
        if is_dataclass(f.default):
            yield from keys_of(type(f.default), f"{before}{f.name}.")
        else:
            yield before + f.name, f
