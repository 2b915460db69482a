"""Regression of sinusoids from few points with MAML and Reptile: error after gradient steps on those points.

Finn et al. 2017, section 5.1 (https://arxiv.org/abs/1703.03400), and Nichol et al. 2018, section 5
(https://arxiv.org/abs/1803.02999). Both papers show curves and no figures, so what is to be reproduced are their
statements: a network trained for one step goes on improving after it, and a network pre-trained on all sinusoids at
once, whose best guess is their mean, does not get there. The inner loop is that of `adapt/gradient_based.py`, on a
squared error. `B` tasks, `N` points, `F` weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.reproduce.result import LOWER, Aim, Estimate, Row, estimate
from benchmarks.reproduce.session import Session, made_once
from benchmarks.reproduce.variants import SINUSOID, SINUSOID_QUICK
from hardware_io.state import Array
from policies.task_perceptron import TaskPerceptron

NETWORK = TaskPerceptron([1, 40, 40, 1], "relu", output_gain=1.0)
AMPLITUDE, PHASE, INPUT = (0.1, 5.0), (0.0, np.pi), (-5.0, 5.0)
TASKS = 25  # of one outer step
STEPS = (0, 1, 5, 10, 32)  # of a test; 32 as in the paper on Reptile
TEST_TASKS, TEST_POINTS = 600, 100
INNER_RATE = {"MAML": 0.01, "Reptile": 0.02, "pre-trained": 0.01}  # of the papers
SEED = 32_000


@dataclass(frozen=True)
class SinusoidSettings:
    """Training of one network."""

    method: str
    shots: int  # K, points that a task is learned from
    iterations: int
    inner_rate: float
    outer_rate: float = 1e-3  # of Adam; Reptile moves by a share of its own
    reptile_share: float = 1.0  # towards the adapted weights, falling to 0; the paper's 0.1 is for a single task
    reptile_steps: int = 5  # each on other points


class Sinusoids:
    """`tasks` sinusoids, drawn anew for each object."""

    def __init__(self, tasks: int, generator: torch.Generator) -> None:
        self.generator = generator
        self.amplitude, self.phase = (self._uniform(*bounds, tasks, 1, 1) for bounds in (AMPLITUDE, PHASE))

    def points(self, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, N, 1) of new points."""
        inputs = self._uniform(*INPUT, len(self.amplitude), count, 1)
        return inputs, self.amplitude * torch.sin(inputs - self.phase)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)


def inner_step(weights: Tensor, points: tuple[Tensor, Tensor], rate: float) -> Tensor:
    """Weights (B or 1, F) → (B, F) after a gradient step on each task's points, differentiable."""
    inputs, targets = points

    def loss(outputs: Tensor, spread: Tensor) -> Tensor:
        return squared_error(outputs, targets).sum()

    return weights - rate * NETWORK.gradient(inputs, weights, weights.new_zeros(len(weights), 0), loss)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the points of each task, (B,)."""
    return (outputs - targets).square().mean((1, 2))


def train_network(settings: SinusoidSettings, seed: int) -> dict[str, Tensor]:
    """Meta-trained `weights` (F,)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    weights = NETWORK.initial().requires_grad_()
    adam = torch.optim.Adam([weights], settings.outer_rate)
    for iteration in range(settings.iterations):
        tasks = Sinusoids(TASKS, generator)
        if settings.method == "Reptile":
            reptile_step(weights, tasks, settings, settings.reptile_share * (1 - iteration / settings.iterations))
            continue
        adapted = weights[None]
        if settings.method == "MAML":
            adapted = inner_step(adapted, tasks.points(settings.shots), settings.inner_rate)
        inputs, targets = tasks.points(settings.shots)
        error = squared_error(NETWORK(inputs, adapted), targets).mean()
        adam.zero_grad()
        error.backward()
        adam.step()
    return {"weights": weights.detach()}


@torch.no_grad()
def reptile_step(weights: Tensor, tasks: Sinusoids, settings: SinusoidSettings, share: float) -> None:
    """Move the weights (F,) towards the mean of the adapted ones; nothing is differentiated twice."""
    adapted = weights[None]
    for _ in range(settings.reptile_steps):
        adapted = inner_step(adapted, tasks.points(settings.shots), settings.inner_rate)
    weights += share * (adapted.mean(0) - weights)


@torch.no_grad()
def errors(weights: Tensor, settings: SinusoidSettings, tasks: int) -> Array:
    """Squared error of new tasks after 0 to `STEPS[-1]` steps on `shots` points each, (tasks, steps + 1)."""
    sinusoids = Sinusoids(tasks, torch.Generator().manual_seed(SEED))
    support, (inputs, targets) = sinusoids.points(settings.shots), sinusoids.points(TEST_POINTS)
    adapted, found = weights[None], []
    for step in range(STEPS[-1] + 1):
        adapted = inner_step(adapted, support, settings.inner_rate) if step else adapted
        found.append(squared_error(NETWORK(inputs, adapted), targets))
    return torch.stack(found, dim=1).double().numpy()


def rows(session: Session) -> Iterator[Row]:
    """Every method for each number of points, after each number of steps."""
    for shots, iterations in (SINUSOID_QUICK if session.quick else SINUSOID).items():
        scores, spent = dict[str, list[Array]](), dict[str, float]()
        for method, rate in INNER_RATE.items():
            settings = SinusoidSettings(method, shots, session.steps or iterations, rate)
            name = f"sinusoid-k{shots}-{method.lower()}"
            trained = [
                made_once(session.folder / f"{name}-s{seed}", settings, partial(train_network, settings, seed))
                for seed in range(session.seeds)
            ]
            scores[method] = [errors(made["weights"], settings, session.robots or TEST_TASKS) for made, _ in trained]
            spent[method] = sum(seconds for _, seconds in trained) / len(trained)
        rival = estimate([values[:, STEPS[-1]] for values in scores["pre-trained"]])
        for method, found in scores.items():
            known = {step: estimate([values[:, step] for values in found]) for step in STEPS}
            for step in STEPS:
                aim, source = _aim(method, step, known, rival)
                label = f"K={shots}: {method}, after {step} step" + "s" * (step != 1)
                yield Row(label, known[step], aim, source, session.steps or iterations, spent[method])


def _aim(method: str, step: int, known: dict[int, Estimate], rival: Estimate) -> tuple[Aim | None, str]:
    """What the papers say of an error: where it lies beside others that were measured here."""
    if (method, step) in (("MAML", 1), ("Reptile", 32)):
        return Aim(rival.mean, 0.0, LOWER), f"pre-trained after {STEPS[-1]} steps"
    if method != "pre-trained" and step == 10:
        return Aim(known[1].mean, 0.0, LOWER), "itself after 1 step"
    return None, ""
