"""The page `docs/meta-learners.md` and its plots, from what was measured and a guide written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adapt.evaluate import Score
from benchmarks.compare.robot import Demand
from benchmarks.compare.scores import AFTER, TASKS, Result, curve, headline, of_task
from benchmarks.reproduce.locomotion import BASELINE, ORACLE, gap
from benchmarks.reproduce.result import Estimate, estimate
from benchmarks.reproduce.table import duration, number

GUIDE = Path(__file__).with_name("guide.md")
PANELS = {  # of a plot, each with baseline and oracle
    "memories": (
        "rl2", "ntm", "mann", "meta_networks", "transformer", "linear_transformer", "domain_randomised_memory"
    ),
    "inference, and search in a latent space": ("varibad", "rma", "pearl", "latent_search"),
    "gradient steps": ("maml", "fomaml", "meta_sgd", "anil", "promp", "reptile", "fine_tune", "scratch", "dqn_mapping"),
    "one policy, values, models": ("ppo", "reinforce", "sac", "dqn", "pets", "grbal", "rebal"),
}  # fmt: skip
INTRODUCTION = """# Meta-learners, and which one to pick

`make compare` trains what is missing, measures and writes this page. All learners of a task have the same budget of
environment steps, the same robots in tests, and settings as they come (`benchmarks/reproduce/variants.py`); on the
pendubot all that can stand on a regulator near upright do. Intervals are of 95 %: over trainings where there are
several seeds, over robots where there is one; a share of successes is never taken for surer than the number of robots
allows. *Gap closed* is the share of what lies between one policy for all robots
(`domain_randomised`) and one that is told the truth (`oracle`); it is left out where these two are not told apart.
Tasks are those of the ranges of training. Pendubots and arms act without noise, as a deployed robot does, and
half-cheetahs draw their actions, as in papers."""


def page(results: list[Result], demands: dict[str, Demand], images: Path) -> str:
    """Markdown; plots go to the folder `images`, which lies beside the page."""
    lines = [INTRODUCTION, "", GUIDE.read_text(encoding="utf-8").rstrip()]
    for task in TASKS:
        found = of_task(results, task)
        if found:
            file = images / f"compare-{task.replace(' ', '-')}.png"
            plot(found, file)
            lines += ["", f"## {task}", "", f"![{task}: against adaptations]({images.name}/{file.name})", ""]
            lines += table(found)
    return "\n".join([*lines, "", *on_the_robot(demands)]) + "\n"


def table(found: dict[str, list[Result]]) -> list[str]:
    """One task: learner → its seeds. Where success is what counts, returns stand beside it."""
    of_success = headline(next(iter(found.values()))) == "success"
    columns = [f"{'success %' if of_success else 'return'} after 0", *(f"after {k}" for k in AFTER[1:])]
    columns += [f"return after {AFTER[0]}", f"after {AFTER[-1]}"] if of_success else []
    columns += [f"gap closed after {AFTER[-1]}", "seeds", "steps", "training", "an adaptation"]
    lines = [f"| learner | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name, seeds in found.items():
        cells = [cell(one, of_success) for one in curve(seeds, headline(seeds))]
        returns = curve(seeds, "returns")
        cells += [cell(returns[0], False), cell(returns[-1], False)] if of_success else []
        first, seconds = seeds[0], float(np.mean([one.seconds for one in seeds]))
        rollouts = f"{first.rollouts} rollout" + ("s" if first.rollouts > 1 else "")
        ends = [closed(name, found), str(len(seeds)), f"{first.steps:,}", duration(seconds), rollouts]
        lines.append(f"| {name} | " + " | ".join(cells + ends) + " |")
    return lines


def cell(one: Estimate, share: bool) -> str:
    """A figure with its interval; shares as whole percentages."""
    told = (lambda value: f"{100 * value:.0f}") if share else (lambda value: number(value, one.mean))
    return told(one.mean) + ("" if np.isinf(one.half) else f" ± {told(one.half)}")


def closed(name: str, found: dict[str, list[Result]]) -> str:
    """With its interval over robots; nothing for the two between which it lies, without them, or if they are alike."""
    if name in (BASELINE, ORACLE) or BASELINE not in found or ORACLE not in found:
        return ""
    own, low, high = ([(one.seed, len(one.returns)) for one in found[who]] for who in (name, BASELINE, ORACLE))
    if not own == low == high:
        return ""  # robots would not be the same
    pairs = zip(found[ORACLE], found[BASELINE], strict=True)
    between = estimate([np.subtract(told.returns, plain.returns)[:, -1] for told, plain in pairs])
    if between.mean <= between.half:
        return ""
    return gap(joined(found[name]), joined(found[BASELINE]), joined(found[ORACLE]), len(AFTER) - 1)


def joined(seeds: list[Result]) -> Score:
    """All robots of all seeds."""
    success = [one.success for one in seeds if one.success is not None]
    return Score(np.concatenate([one.returns for one in seeds]), np.concatenate(success) if success else None)


def plot(found: dict[str, list[Result]], file: Path) -> None:
    """Against rollouts lived: a panel for each kind of learners, the baseline and the oracle in all of them."""
    from matplotlib.figure import Figure

    groups = {title: [name for name in names if name in found] for title, names in PANELS.items()}
    groups = {title: names for title, names in groups.items() if names} or {"": []}
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(6.2 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    measure = headline(next(iter(found.values())))
    for axis, (title, group) in zip(axes.flat, groups.items(), strict=False):
        for name in [one for one in (BASELINE, ORACLE) if one in found] + group:
            draw(axis, name, found[name], measure)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("rollouts lived")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))  # beside, where it hides nothing
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    means = np.concatenate([line.get_ydata() for axis in axes.flat for line in axis.lines])
    low, high = (0.0, 1.0) if measure == "success" else (means.min(), means.max())
    margin = 0.1 * (high - low or 1.0)
    axes[0, 0].set_ylim(low - margin, high + margin)  # of all panels; two trainings that differ have endless intervals
    for row in axes:
        row[0].set_ylabel("success" if measure == "success" else "return")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def draw(axis: Any, name: str, seeds: list[Result], measure: str) -> None:
    """A learner's curve with its interval; those to compare with are grey and have none."""
    lived = np.array(AFTER) * seeds[0].rollouts
    mean, half = np.array([(one.mean, one.half if np.isfinite(one.half) else 0.0) for one in curve(seeds, measure)]).T
    grey = {BASELINE: "0.6", ORACLE: "0.2"}.get(name)
    (line,) = axis.plot(lived, mean, marker="o", markersize=3, label=name, color=grey)
    if grey is None:
        low, high = mean - half, mean + half
        if measure == "success":
            low, high = low.clip(0, 1), high.clip(0, 1)
        axis.fill_between(lived, low, high, color=line.get_color(), alpha=0.12)


def on_the_robot(demands: dict[str, Demand]) -> list[str]:
    """What each learner asks of the robot's computer."""
    fastest = min(one.tick for one in demands.values())
    lines = [
        "## On the robot",
        "",
        "Default sizes on the pendubot, batch 1, one thread. A tick is one inference with its checks. Times are those",
        "of one machine; the ratio to the fastest learner says more.",
        "",
        "| learner | tick | ratio | fast state | carried on | graph | adaptation needs |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in sorted(demands.items(), key=lambda item: item[1].tick):
        needs = "torch beside the loop" if one.beside else "the graph only"
        cells = [name, f"{one.tick:.0f} µs", f"{one.tick / fastest:.1f}", f"{one.fast:,}", f"{one.kept:,}"]
        lines.append("| " + " | ".join([*cells, f"{one.file / 1024:.0f} kB", needs]) + " |")
    return lines
