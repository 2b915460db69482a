"""What gradient-based meta-learners share: an inner step of policy gradient, and an outer step through it.

A policy adapts to a robot by gradient steps on the robot's own rollouts; meta-training looks for parameters from which
such steps lead far (Finn et al. 2017, https://arxiv.org/abs/1703.03400). The fast state is the offset of the adapted
parameters from the shared ones, followed by the number of steps taken. `adapt` is the inner loop, here and on a robot.
`B` tasks, `N` samples of a task, `D` features, `A` action, `W` adapted parameters, `F` = W + 1 fast state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapt.episodes import Episodes
from adapt.learner import MetaLearner
from adapt.linear_baseline import discounted, fit_values
from adapt.outer import DivergenceError, Outer, OuterSettings, total
from adapt.ppo import advantages
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.distributions import distribution_of
from policies.features import Features
from policies.regulator import Regulator, RegulatorSettings
from policies.task_perceptron import TaskPerceptron

LOWEST, HIGHEST = math.log(0.02), math.log(2.0)  # bounds of the log standard deviation; ±1 is the limit of an action
CHUNK = 3000  # samples whose work fits a core's cache; fewer cost more around the products than in them


@dataclass(frozen=True)
class GradientBasedSettings:
    """Policy, inner step and outer step."""

    hidden: tuple[int, ...] = option((64, 64), min=1, help="units of the policy's hidden layers")
    activation: str = option("tanh", choices=("tanh", "relu"))
    initial_std: float = option(0.6, min=0.05, max=2.0, help="of the action, whose limits are -1 and 1")
    normalise: bool = option(True, help="shift and scale features by running statistics")
    regulator: RegulatorSettings | None = option(None, help="a linear one around the goal, to which actions are added")
    inner_rate: float = option(0.1, min=0.0, help="of a robot's first gradient step")
    later_rate: float | None = option(None, min=0.0, help="of its later ones (default: the same)")
    proximity: float = option(0.0, min=0.0, help="pull of a robot's parameters towards the shared ones (iMAML's λ)")
    discount: float = option(0.99, min=0.0, max=1.0, help="a policy step")
    gae: float = option(1.0, min=0.0, max=1.0)
    chunk: int = option(0, min=0, unit="samples", help="worked on at once; 0: what fits a cache")
    outer: OuterSettings = option(OuterSettings)


@dataclass(frozen=True)
class Samples:
    """The steps that count of `B` tasks' rollouts, filled up to the longest; and the policy that made them."""

    features: Tensor  # (B, N, D)
    action: Tensor  # (B, N, A) as drawn, before it was bounded
    advantage: Tensor  # (B, N) of mean 0 and deviation 1 in each task, times weight
    weight: Tensor  # (B, N) of sum 1 in each task, 0 where filled up
    centre: Tensor  # (B, N, A) of the distribution that the action was drawn from
    spread: Tensor  # (B, 1, A)
    log_prob: Tensor  # (B, N)

    def of(self, tasks: slice) -> Samples:
        return Samples(*(getattr(self, f.name)[tasks] for f in fields(self)))


class GradientBased(MetaLearner):
    """Base of learners that adapt by gradient steps; as it stands it is MAML."""

    Settings: type = GradientBasedSettings
    in_graph = False
    overlaps = False  # an inner step is worked out again from the present weights, which have to be those that acted
    second_order = True  # whether the outer gradient goes through the inner one
    likelihood_ratio = False  # whether the inner step allows for parameters that are not those that sampled

    def __init__(self, interface: Interface, settings: GradientBasedSettings) -> None:
        super().__init__()
        self.settings, self.interface = settings, interface
        self.distribution = distribution_of(interface)
        self.features = Features(interface)
        chosen = settings.regulator
        self.regulator = None if chosen is None else Regulator(interface, chosen, measured=True)
        self.network = self.make_network([self.features.size, *settings.hidden, interface.actions])
        spread = 0 if interface.discrete else interface.actions
        self.shared = nn.Parameter(
            torch.cat([self.network.initial(), torch.full((spread,), math.log(settings.initial_std))])
        )
        self.register_buffer("kept", torch.ones(len(self.shared) + 1, dtype=torch.bool))
        self.register_buffer("limit", torch.tensor(interface.limit, dtype=torch.float32))
        self.limit: Tensor

    def make_network(self, sizes: list[int]) -> TaskPerceptron:
        """The part of the policy that adapts; `represent` is what comes before it."""
        return TaskPerceptron(sizes, self.settings.activation)

    def represent(self, features: Tensor) -> Tensor:
        """What the network reads, (B, N, ·), of features (B, N, D)."""
        return features

    @property
    def outer(self) -> Outer:
        """Made when it is first needed, once a subclass has all its parameters."""
        if not hasattr(self, "_outer"):
            self._outer = Outer(list(self.parameters()), self.settings.outer)
        return self._outer

    def optimiser_state(self) -> dict[str, Any]:
        return self.outer.state_dict()

    def load_optimiser_state(self, state: dict[str, Any]) -> None:
        self.outer.load_state_dict(state)

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        return torch.zeros(batch, len(self.kept), device=self.shared.device, dtype=self.shared.dtype)

    def policy(self, features: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, D), fast (B, F) → centre (B, N, A) and spread (B, 1, A) of the distribution of actions."""
        weights, spread = self.parts(self.weights(fast))
        network = self.network.train_on if torch.is_grad_enabled() else self.network
        return network(self.represent(features), weights), spread[:, None].clamp(LOWEST, HIGHEST)

    def weights(self, fast: Tensor) -> Tensor:
        """Adapted parameters (B, W) of fast states (B, F)."""
        return self.shared + fast[:, :-1]

    def parts(self, weights: Tensor) -> list[Tensor]:
        """Adapted parameters (B, W) as those of the network and the log standard deviation (B, A)."""
        return list(weights.split([self.network.size, len(self.shared) - self.network.size], dim=1))

    def read(self, observation: Tensor) -> Tensor:
        """Observation (..., O) → features (..., D)."""
        return self.features(observation) if self.settings.normalise else self.features.expand(observation)

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """With more lanes than fast states, neighbouring lanes are copies of one robot."""
        features, batch = self.read(observation), fast.shape[0]  # len() would bake it into an exported graph
        centre, spread = self.policy(features.view(batch, -1, features.shape[-1]), fast)
        action = self.distribution.sample(centre, spread, noise.view(batch, -1, noise.shape[-1]))
        action = action.view(noise.shape)
        bounded = self.distribution.bounded(action)
        if self.regulator is not None:  # to the learner what becomes of an action is part of the robot
            bounded = self.regulator.blend(*self.regulator.observe(observation), bounded)
        return bounded * self.limit, fast, {"action": action}

    def unroll(self, episodes: Episodes, fast: Tensor) -> tuple[Tensor, Tensor]:
        features = self.read(episodes.observation[:, :, :-1])
        return self.policy(features.flatten(1, 2), fast)[0].view_as(episodes.noise), fast

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        """One gradient step on the rollouts that were recorded with `fast`. Raises DivergenceError."""
        adapted = self.inner_step(fast, self.samples(episodes, fast))
        _check(adapted, lambda task: f"step {int(fast[task, -1]) + 1} of its adaptation left no finite parameters")
        return adapted

    @torch.no_grad()
    def samples(self, episodes: Episodes, fast: Tensor) -> Samples:
        """Rollouts of the policy `fast` (B, F), ready to learn from. Raises DivergenceError."""
        _check(episodes.reward, lambda task: "its rewards are not finite")
        settings, valid = self.settings, episodes.valid
        observation = episodes.observation[:, :, :-1]
        returns = discounted(episodes.reward, valid, settings.discount)
        value = torch.nn.functional.pad(fit_values(observation, returns, valid), (0, 1))
        gain = advantages(episodes.reward, value, valid, episodes.terminated, settings.discount, settings.gae)
        # Steps that count come first and the rest is cut: filling up costs as much as samples do.
        valid = valid.flatten(1)
        order = valid.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : valid.sum(1).max()]

        def gathered(values: Tensor) -> Tensor:
            flat = values.flatten(1, 2).flatten(2)
            return flat.gather(1, order[..., None].expand(-1, -1, flat.shape[2]))

        gain, noise = gathered(gain[..., None])[..., 0], gathered(episodes.noise)
        weight = valid.gather(1, order).to(gain.dtype)
        weight /= weight.sum(1, keepdim=True).clamp(min=1)
        mean = (weight * gain).sum(1, keepdim=True)
        deviation = (weight * (gain - mean) ** 2).sum(1, keepdim=True).sqrt()
        features = self.read(gathered(observation))
        centre, spread = self.policy(features, fast)
        # A robot's recorder keeps the noise, from which the action follows.
        action = episodes.extra.get("action")
        action = self.distribution.sample(centre, spread, noise) if action is None else gathered(action)
        log_prob = self.distribution.log_prob(action, centre, spread)
        spread = spread.expand(len(fast), -1, -1)
        advantage = weight * (gain - mean) / (deviation + 1e-8)
        return Samples(features, action, advantage, weight, centre, spread, log_prob)

    def inner_step(self, fast: Tensor, samples: Samples) -> Tensor:
        """Fast state (B or 1, F) → (B, F) after one gradient step on the samples."""
        weights, spread = self.parts(self.weights(fast))
        loss = partial(self.inner_loss, samples)
        gradient = self.network.gradient(self.represent(samples.features), weights, spread, loss)
        if not self.second_order:
            gradient = gradient.detach()
        offset, count = fast[:, :-1], fast[:, -1:]
        if self.settings.proximity:
            gradient = gradient + self.settings.proximity * offset
        return torch.cat([offset - self.rates(count) * gradient, (count + 1).expand(len(gradient), 1)], dim=1)

    def rates(self, count: Tensor) -> Tensor | float:
        """Length of the step, (B, 1 or W) or one for all, that follows `count` (B, 1) others."""
        first, later = self.settings.inner_rate, self.settings.later_rate
        return first if later is None else torch.where(count == 0, first, later)

    def inner_loss(self, samples: Samples, centre: Tensor, spread: Tensor) -> Tensor:
        """Minus the policy gradient's objective, summed over tasks; `spread` is not yet bounded."""
        gain = self.distribution.log_prob(samples.action, centre, spread.clamp(LOWEST, HIGHEST))
        if self.likelihood_ratio:
            gain = torch.exp(gain - samples.log_prob)
        return -(samples.advantage * gain).sum()

    def adapted(self, support: list[Samples]) -> Tensor:
        """Fast state after one inner step on each stage: (B, F), and (1, F) without any."""
        fast = self.fast0(1)
        for samples in support:
            fast = self.inner_step(fast, samples)
        return fast

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        """Raises DivergenceError, and then nothing has changed."""
        episodes = [*support, query]
        metrics = self.outer_step([self.samples(each, each.fast[:, 0]) for each in episodes])
        with torch.no_grad():  # beyond its bounds a deviation would have no gradient to come back by
            self.shared[self.network.size :].clamp_(LOWEST, HIGHEST)
        for each in episodes:
            self.features.normaliser.update(self.features.expand(each.observation[:, :, :-1][each.valid]))
        shift = query.fast[:, 0, :-1].norm(dim=1).mean().item()
        spread = self.shared.detach()[self.network.size :].clamp(LOWEST, HIGHEST)
        return {**metrics, "inner_shift": shift, **({"std": spread.exp().mean().item()} if len(spread) else {})}

    def outer_step(self, stages: list[Samples]) -> dict[str, float]:
        """Move the shared parameters, from what was sampled before each inner step and after the last."""
        tasks = len(stages[0].weight)
        some = slice(0, math.ceil(self.settings.outer.divergence_share * tasks))
        fewer = [samples.of(some) for samples in stages]
        return self.outer.step(lambda: self.mean(self.objective, stages), lambda: self.mean(self.divergence, fewer))

    def mean(self, function: Callable[[list[Samples]], Tensor], stages: list[Samples]) -> Tensor:
        """Over tasks, of a `function` that sums over them; gathered from chunks."""
        chunks, tasks = self.chunks(stages), len(stages[0].weight)
        return total(lambda part: function([s.of(part) for s in stages]) / tasks, chunks, list(self.parameters()))

    def chunks(self, stages: list[Samples]) -> list[slice]:
        """Tasks that are worked on together."""
        tasks, longest = len(stages[0].weight), max(samples.weight.shape[1] for samples in stages)
        size = max(1, (self.settings.chunk or CHUNK) // longest)
        return [slice(start, start + size) for start in range(0, tasks, size)]

    def objective(self, stages: list[Samples]) -> Tensor:
        """What the outer step raises: the surrogate of adapted policies on what they sampled, summed over tasks."""
        query = stages[-1]
        centre, spread = self.policy(query.features, self.adapted(stages[:-1]))
        ratio = torch.exp(self.distribution.log_prob(query.action, centre, spread) - query.log_prob)
        gain = ratio * query.advantage
        if self.settings.outer.method == "ppo":
            clip = self.settings.outer.ppo.clip
            gain = torch.minimum(gain, ratio.clamp(1 - clip, 1 + clip) * query.advantage)
        return gain.sum()

    def divergence(self, stages: list[Samples]) -> Tensor:
        """KL divergence of adapted policies from those that sampled, summed over tasks."""
        query = stages[-1]
        new = self.policy(query.features, self.adapted(stages[:-1]))
        return (query.weight * self.distribution.divergence((query.centre, query.spread), new)).sum()


def _check(values: Tensor, what: Any) -> None:
    """Raises DivergenceError that names the first task (first dimension) whose values are not finite."""
    finite = values.detach().isfinite().flatten(1).all(1)
    if not finite.all():
        task = int(finite.logical_not().nonzero()[0])
        raise DivergenceError(f"task {task}: {what(task)}")
