"""Return and success against the number of rollouts that a learner has had, on robots it has never seen.

All learners meet the same robots, starts and noise, inside the training range and outside it. The intervals are
bootstrapped over robots (2.5 to 97.5 %).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.rollout import rollout
from adapt.run_folder import Run, load_run
from adapt.train import one_thread, true_dynamics
from hardware_io.config import ConfigError, write_atomically
from sim.vector_env import VectorEnv

ROLLOUTS = (0, 1, 2, 3, 5)  # seen before the one that is scored
SEED = 20_000  # far from the seeds of training
RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """One learner on one set of robots: `B` robots, `K` rollouts."""

    returns: NDArray[np.float64]  # (B, K)
    success: NDArray[np.bool_]  # (B, K)


def score(run: Run, envs: VectorEnv, split: str, seed: int = SEED) -> Score:
    """Rollouts of a learner without exploration on held-out robots of a split."""
    envs.begin_trial(run.ranges.sample(envs.lanes, np.random.default_rng((seed, 0)), split))
    fast = run.learner.fast0(envs.lanes, true_dynamics(envs, run.learner))
    episodes = rollout(envs, run.learner, fast, max(ROLLOUTS) + 1, (seed, 1), explore=False)
    success = envs.task.success(episodes.observation.cpu().numpy(), episodes.valid.cpu().numpy())
    return Score(episodes.returns.cpu().numpy().astype(np.float64), success)


def interval(values: NDArray[Any], rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean of (B,) values with its bootstrap interval."""
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def gap_closed(
    learner: Score, baseline: Score, oracle: Score, after: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Share of the success between baseline and oracle that a learner gains after some rollouts, with interval."""

    def share(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        low, high = baseline.success[rows, after].mean(-1), oracle.success[rows, after].mean(-1)
        return (learner.success[rows, after].mean(-1) - low) / np.maximum(high - low, 1e-9)

    robots = len(learner.success)
    resampled = share(rng.integers(0, robots, (RESAMPLES, robots)))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(share(np.arange(robots))), float(low), float(high)


def evaluate(runs: list[Run], robots: int = 256, workers: int = 2) -> dict[str, Any]:
    """Scores of several trainings on the same robot and task, as plain data (see `table`)."""
    first = runs[0]
    for run in runs[1:]:
        if run.spec != first.spec or run.task != first.task:
            raise ConfigError(str(run.folder), "robot, task", run.config.robot, f"as in {first.folder}")
    result: dict[str, Any] = {"robot": first.spec.name, "task": first.task, "robots": robots, "rollouts": ROLLOUTS}
    result["splits"] = {}
    with (
        one_thread(),
        VectorEnv(first.spec, first.config.task.name, robots, workers, **first.config.task.settings) as envs,
    ):
        for split in ("train", "outside"):
            scores = {run.config.learner.name: score(run, envs, split) for run in runs}
            result["splits"][split] = summarise(scores)
    return result


def summarise(scores: dict[str, Score]) -> dict[str, Any]:
    """Means and intervals of every learner, and the gap closed where baseline and oracle are there."""
    rng = np.random.default_rng(SEED)
    summary: dict[str, Any] = {"learners": {}, "gap_closed": {}}
    for name, one in scores.items():
        summary["learners"][name] = {
            "return": [interval(one.returns[:, k], rng) for k in ROLLOUTS],
            "success": [interval(one.success[:, k], rng) for k in ROLLOUTS],
        }
    if {"domain_randomised", "oracle"} <= set(scores):
        for name in set(scores) - {"domain_randomised", "oracle"}:
            pair = scores["domain_randomised"], scores["oracle"]
            summary["gap_closed"][name] = [gap_closed(scores[name], *pair, k, rng) for k in ROLLOUTS]
    return summary


def table(result: dict[str, Any]) -> str:
    """The evaluation as Markdown."""
    lines = [f"{result['robot']}, {result['task']['name']}: {result['robots']} robots never seen, mean [95 % interval]"]
    header = "| learner | " + " | ".join(f"after {k}" for k in result["rollouts"]) + " |"
    rule = "|---|" + "---|" * len(result["rollouts"])
    for split, summary in result["splits"].items():
        where = "inside the training range" if split == "train" else "outside the training range"
        for measure, factor, unit in (("success", 100, " %"), ("return", 1, "")):
            lines += ["", f"{measure}{unit}, {where}", "", header, rule]
            for name, values in summary["learners"].items():
                cells = [f"{m * factor:.1f} [{a * factor:.1f}, {b * factor:.1f}]" for m, a, b in values[measure]]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
        for name, shares in summary["gap_closed"].items():
            cells = [f"{m:.0%} [{a:.0%}, {b:.0%}]" for m, a, b in shares]
            lines.append(f"| gap closed by {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Success and return against rollouts, with intervals, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, (split, summary) in enumerate(result["splits"].items()):
        for row, measure in enumerate(("success", "return")):
            axis = axes[row][column]
            for name, values in summary["learners"].items():
                mean, low, high = np.array(values[measure]).T
                (line,) = axis.plot(result["rollouts"], mean, marker="o", label=name)
                axis.fill_between(result["rollouts"], low, high, color=line.get_color(), alpha=0.2)
            axis.set_ylabel(measure if column == 0 else "")
            axis.grid(alpha=0.3)
        axes[0][column].set_title("inside the training range" if split == "train" else "outside it")
        axes[1][column].set_xlabel("rollouts seen before")
    axes[0][0].legend()
    figure.savefig(path, dpi=120)


def main(argv: list[str]) -> int:
    """`acclimate evaluate RUN...`, or `acclimate evaluate FILE.onnx` on twins."""
    if any(argument.endswith(".onnx") for argument in argv):
        from adapt.twins import main as on_twins

        return on_twins(argv)
    parser = argparse.ArgumentParser(prog="acclimate evaluate", description=(__doc__ or "").split("\n")[0])
    parser.epilog = "With FILE.onnx in place of RUN it is run on twins: acclimate evaluate FILE.onnx --help"
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of trainings on the same robot and task")
    parser.add_argument("--robots", type=int, default=256, help="held-out robots of each split (default 256)")
    parser.add_argument("--workers", type=int, default=2, help="simulation processes (default 2)")
    parser.add_argument("--out", help="folder for evaluation.json, .md and .png (default: the first run's)")
    options = parser.parse_args(argv)
    result = evaluate([load_run(folder) for folder in options.runs], options.robots, options.workers)
    folder = Path(options.out or options.runs[0])
    write_atomically(folder / "evaluation.json", json.dumps(result, indent=1))
    write_atomically(folder / "evaluation.md", table(result) + "\n")
    plot(result, folder / "evaluation.png")
    print(table(result))
    return 0
