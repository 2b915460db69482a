"""Return and success against how often a learner has adapted, on robots (or other tasks) it has never seen.

A learner that adapts inside the graph adapts with each rollout; the others from as many as their training used. All
meet the same robots, starts and noise, inside the training range and outside it. The intervals are bootstrapped over
robots (2.5 to 97.5 %).
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.rollout import begin_trial, progress
from adapt.run_folder import Run, load_run
from adapt.train import one_thread
from hardware_io.config import ConfigError, dump, write_atomically
from sim.family import RobotFamily
from sim.vector_env import VectorEnv

ROLLOUTS = (0, 1, 2, 3, 5)  # adaptations before the rollout that is scored
SEED = 20_000  # far from the seeds of training
RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """One learner on one set of robots: `B` robots, `K` rollouts."""

    returns: NDArray[np.float64]  # (B, K)
    success: NDArray[np.floating] | None  # (B, K) share of rollouts; None where tasks have no such notion


def score(run: Run, envs: VectorEnv, split: str, seed: int = SEED, explore: bool = False) -> Score:
    """A learner on held-out robots of a split, after 0 to `max(ROLLOUTS)` adaptations."""
    config, rounds = run.config, max(ROLLOUTS)
    fast = begin_trial(envs, run.learner, config.copies, np.random.default_rng((seed, 0)), split)
    returns, success = progress(envs, run.learner, fast, rounds, max(config.support, 1), (seed, 1), explore)
    return Score(returns.cpu().numpy().astype(np.float64), None if success is None else success.astype(np.float64))


def interval(values: NDArray[Any], rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean of (B,) values with its bootstrap interval."""
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def gap_closed(
    learner: Score, baseline: Score, oracle: Score, after: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Share of what lies between baseline and oracle that a learner gains after some adaptations, with interval.

    Of the success where tasks have such a notion, of the return elsewhere.
    """
    lows, highs, own = (
        (one.returns if one.success is None else one.success)[:, after] for one in (baseline, oracle, learner)
    )

    def share(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        low, high = lows[rows].mean(-1), highs[rows].mean(-1)
        return np.asarray((own[rows].mean(-1) - low) / np.maximum(high - low, 1e-9))

    robots = len(own)
    resampled = share(rng.integers(0, robots, (RESAMPLES, robots)))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(share(np.arange(robots))), float(low), float(high)


def evaluate(runs: list[Run], robots: int = 256, workers: int = 2, explore: bool = False) -> dict[str, Any]:
    """Scores of several trainings on the same tasks, as plain data (see `table`)."""
    described = [describe(run) for run in runs]
    for run, one in zip(runs, described, strict=True):
        if one != described[0]:
            raise ConfigError(str(run.folder), "robot, task", run.family.name, f"as in {runs[0].folder}")
    names = [run.config.learner.name for run in runs]
    for run in runs:
        if names.count(run.config.learner.name) > 1:
            raise ConfigError(str(run.folder), "learner.name", run.config.learner.name, "each learner once")
    result: dict[str, Any] = {**described[0], "robots": robots, "rollouts": ROLLOUTS, "splits": {}}
    result["rollouts_an_adaptation"] = {run.config.learner.name: run.config.copies * max(run.config.support, 1)
                                        for run in runs}  # fmt: skip
    with one_thread(), ExitStack() as stack:
        lanes = {run.config.copies * robots for run in runs}
        groups = 2 if workers else 1
        envs = {n: stack.enter_context(VectorEnv(runs[0].family, n, workers, groups)) for n in lanes}
        for split in runs[0].family.splits():
            scores = {
                run.config.learner.name: score(run, envs[run.config.copies * robots], split, explore=explore)
                for run in runs
            }
            result["splits"][split] = summarise(scores)
    return result


def describe(run: Run) -> dict[str, Any]:
    """What a training was on, as plain data."""
    if isinstance(run.family, RobotFamily):
        return {"robot": run.family.name, "task": run.task, "spec": run.spec.to_dict()}
    return {"robot": run.family.name, "task": {"name": run.family.name, **dump(run.config.family)}}


def summarise(scores: dict[str, Score]) -> dict[str, Any]:
    """Means and intervals of every learner, and the gap closed where baseline and oracle are there."""
    rng = np.random.default_rng(SEED)
    summary: dict[str, Any] = {"learners": {}, "gap_closed": {}}
    for name, one in scores.items():
        summary["learners"][name] = {"return": [interval(one.returns[:, k], rng) for k in ROLLOUTS]}
        if one.success is not None:
            summary["learners"][name]["success"] = [interval(one.success[:, k], rng) for k in ROLLOUTS]
    if {"domain_randomised", "oracle"} <= set(scores):
        for name in sorted(set(scores) - {"domain_randomised", "oracle"}):
            pair = scores["domain_randomised"], scores["oracle"]
            summary["gap_closed"][name] = [gap_closed(scores[name], *pair, k, rng) for k in ROLLOUTS]
    return summary


def measures(summary: dict[str, Any]) -> list[str]:
    """What was measured of every learner: success, where there is such a notion, and return."""
    return [name for name in ("success", "return") if all(name in one for one in summary["learners"].values())]


def table(result: dict[str, Any]) -> str:
    """The evaluation as Markdown."""
    lines = [f"{result['robot']}, {result['task']['name']}: {result['robots']} robots never seen, mean [95 % interval]"]
    header = "| learner | " + " | ".join(f"after {k}" for k in result["rollouts"]) + " |"
    rule = "|---|" + "---|" * len(result["rollouts"])
    for split, summary in result["splits"].items():
        where = "inside the training range" if split == "train" else "outside the training range"
        for measure in measures(summary):
            factor, unit = (100, " %") if measure == "success" else (1, "")
            lines += ["", f"{measure}{unit}, {where}", "", header, rule]
            for name, values in summary["learners"].items():
                cells = [f"{m * factor:.1f} [{a * factor:.1f}, {b * factor:.1f}]" for m, a, b in values[measure]]
                rollouts = result["rollouts_an_adaptation"][name]
                label = name if rollouts == 1 else f"{name} ({rollouts} rollouts each time)"
                lines.append(f"| {label} | " + " | ".join(cells) + " |")
        for name, shares in summary["gap_closed"].items():
            cells = [f"{m:.0%} [{a:.0%}, {b:.0%}]" for m, a, b in shares]
            lines.append(f"| gap closed by {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Success and return against rollouts, with intervals, as PNG."""
    from matplotlib.figure import Figure

    rows = measures(result["splits"]["train"])
    figure = Figure(figsize=(10, 3.5 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(result["splits"]), sharex=True, sharey="row", squeeze=False)
    for column, (split, summary) in enumerate(result["splits"].items()):
        for row, measure in enumerate(rows):
            axis = axes[row][column]
            for name, values in summary["learners"].items():
                mean, low, high = np.array(values[measure]).T
                (line,) = axis.plot(result["rollouts"], mean, marker="o", label=name)
                axis.fill_between(result["rollouts"], low, high, color=line.get_color(), alpha=0.2)
            axis.set_ylabel(measure if column == 0 else "")
            axis.grid(alpha=0.3)
        axes[0][column].set_title("inside the training range" if split == "train" else "outside it")
        axes[-1][column].set_xlabel("adaptations before")
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
    parser.add_argument("--explore", action="store_true", help="draw actions, as papers on tabular tasks do")
    parser.add_argument("--workers", type=int, default=2, help="simulation processes (default 2; 0: none)")
    parser.add_argument("--out", help="folder for evaluation.json, .md and .png (default: the first run's)")
    options = parser.parse_args(argv)
    result = evaluate([load_run(folder) for folder in options.runs], options.robots, options.workers, options.explore)
    folder = Path(options.out or options.runs[0])
    write_atomically(folder / "evaluation.json", json.dumps(result, indent=1))
    write_atomically(folder / "evaluation.md", table(result) + "\n")
    plot(result, folder / "evaluation.png")
    print(table(result))
    return 0
