"""Second-order MAML meta-gradients a second: ours, and a loop over tasks as learn2learn does it.

Both differentiate the same numbers: rollouts that are already samples (features, actions, advantages), a policy
gradient's inner step or several, and the surrogate of the adapted policies on further samples, a mean over tasks. The
loop clones parameters, takes `torch.autograd.grad(create_graph=True)` of each task's loss, runs the adapted policy
with `functional_call` and goes back once. A turn is one meta-gradient; both must agree before any turn counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt.gradient_based import GradientBased, Samples
from adapt.learner import make_learner
from benchmarks.measure import Figure, compare, rate, summary, take_turns, torch_threads
from hardware_io.interface import Interface

OURS, LOOP = "MAML meta-gradient", "a loop over tasks"
OBSERVATION, ACTION = 20, 4
AGREEMENT = 1e-6  # relative, in float64


@dataclass(frozen=True)
class Size:
    """Tasks, samples of each before every inner step and after the last, and inner steps; two hidden layers."""

    tasks: int
    samples: int
    steps: int
    hidden: int = 64
    aim: float | None = None

    def __str__(self) -> str:
        plural = "s" if self.steps > 1 else ""
        return f"{self.tasks} tasks x {self.samples} samples, {self.steps} inner step{plural}, 2x{self.hidden}"


SIZES = (Size(20, 10, 1, aim=5.0), Size(40, 200, 1, aim=3.0), Size(20, 400, 3, aim=2.0), Size(40, 4000, 1, 100, 1.0))


class Ours:
    """The meta-gradient of our learner; calling it is one turn."""

    def __init__(self, size: Size, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        interface = Interface(observation=OBSERVATION, limit=(1.0,) * ACTION)
        settings = {"hidden": [size.hidden, size.hidden], "normalise": False}
        learner = make_learner("maml", interface, "benchmarks", settings)
        assert isinstance(learner, GradientBased)
        self.learner = learner.to(dtype)
        self.stages = [samples_of(size, dtype) for _ in range(size.steps + 1)]

    def __call__(self) -> float:
        return rate(self._turn, 1)

    def _turn(self) -> None:
        self.gradient()

    def gradient(self) -> Tensor:
        """(P,)"""
        value = self.learner.mean(self.learner.objective, self.stages)
        return torch.autograd.grad(value, [self.learner.shared])[0]


def samples_of(size: Size, dtype: torch.dtype) -> Samples:
    """Samples of a standard normal policy, with advantages as if they had been normalised."""
    shape = (size.tasks, size.samples)

    def normal(*extra: int) -> Tensor:
        return torch.randn(*shape, *extra).to(dtype)

    action, spread = normal(ACTION), torch.zeros(size.tasks, 1, ACTION, dtype=dtype)
    log_prob = torch.distributions.Normal(0, 1).log_prob(action).sum(-1)
    weight = torch.full(shape, 1 / size.samples, dtype=dtype)
    return Samples(normal(OBSERVATION), action, normal() * weight, weight, torch.zeros_like(action), spread, log_prob)


class Policy(nn.Module):
    """The same policy as others write it."""

    def __init__(self, like: GradientBased) -> None:
        super().__init__()
        layers = like.network.layers(like.shared.detach()[None, : like.network.size])
        modules: list[nn.Module] = []
        for weight, bias in layers:
            linear = nn.Linear(weight.shape[2], weight.shape[1])
            linear.weight = nn.Parameter(weight[0].clone())
            linear.bias = nn.Parameter(bias[0, 0].clone())
            modules += [linear, nn.Tanh()]
        self.mean = nn.Sequential(*modules[:-1])
        self.log_std = nn.Parameter(like.shared.detach()[like.network.size :].clone())

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """Log-density of actions (N, A), (N,)."""
        normal = torch.distributions.Normal(self.mean(features), self.log_std.exp(), validate_args=False)
        return normal.log_prob(action).sum(-1)


class Loop:
    """The meta-gradient of the same, task after task; calling it is one turn."""

    def __init__(self, like: Ours) -> None:
        self.policy, self.stages = Policy(like.learner), like.stages
        self.inner_rate = like.learner.settings.inner_rate

    def __call__(self) -> float:
        return rate(self._turn, 1)

    def _turn(self) -> None:
        self.gradient()

    def gradient(self) -> Tensor:
        """(P,) in our order."""
        (tasks, size), loss = self.stages[0].weight.shape, torch.zeros(())
        for task in range(tasks):
            *support, query = [(s.features[task], s.action[task], s.advantage[task] * size, s.log_prob[task])
                               for s in self.stages]  # fmt: skip
            own = {name: parameter.clone() for name, parameter in self.policy.named_parameters()}
            for features, action, advantage, _ in support:
                inner = -(functional_call(self.policy, own, (features, action)) * advantage).mean()
                gradients = torch.autograd.grad(inner, list(own.values()), create_graph=True)
                own = {name: value - self.inner_rate * gradient
                       for (name, value), gradient in zip(own.items(), gradients, strict=True)}  # fmt: skip
            features, action, advantage, before = query
            ratio = torch.exp(functional_call(self.policy, own, (features, action)) - before)
            loss = loss + (ratio * advantage).mean() / tasks
        named = dict(zip((name for name, _ in self.policy.named_parameters()),
                         torch.autograd.grad(loss, list(self.policy.parameters())), strict=True))  # fmt: skip
        spread = named.pop("log_std")
        return torch.cat([*(gradient.reshape(-1) for gradient in named.values()), spread])


def disagreement(size: Size) -> float:
    """Relative difference between both gradients in float64."""
    ours = Ours(size, torch.float64)
    one, other = ours.gradient(), Loop(ours).gradient()
    return float((one - other).norm() / other.norm())


def measure(quick: bool, threads: int) -> list[Figure]:
    """All sizes. Raises RuntimeError when the gradients differ."""
    figures = []
    for size in (Size(2, 5, 2, 8),) if quick else SIZES:
        difference = disagreement(size)
        if not difference < AGREEMENT:
            raise RuntimeError(f"meta-gradients of {size} differ by {difference:.1e}; allowed: {AGREEMENT:g}")
        section = f"Meta-gradient: {size}, {threads} torch thread{'s' if threads > 1 else ''}"
        with torch_threads(threads):
            ours = Ours(size)
            values = take_turns({OURS: ours, LOOP: Loop(ours)}, 2 if quick else turns(size))
        figures += compare(section, values, "gradients/s", OURS, {LOOP: size.aim})
        figures.append(summary(section, "relative difference in float64", [difference], "", note=f"{difference:.1e}"))
    return figures


def turns(size: Size) -> int:
    """More of those that take little."""
    return 5 if size.samples > 1000 else 20
