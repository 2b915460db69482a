"""DQN with a mapping network: a new task's Q-network begins as what networks of alike tasks are mapped to.

The fast state is the offset of a task's weights from the shared ones, and how often it has adapted. The first
adaptation takes the nearest tasks of a library, maps their weights by W_ij, which both tasks' representations make, and
goes on with gradient steps of temporal differences on the rollouts; the later ones only go on. The mapping is trained
on L + β Σ_j |W_ij θ_j − θ_i'|², where L are the temporal differences of what is mapped, θ_j the weights of a source and
θ_i' those that the task came to (means over weights). Representations are trained for themselves.
`B` tasks, `C` sources, `N` transitions, `W` weights, `F` = W + 1 fast state, `O` observation, `A` action.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from adapt.dqn import DQN, STEEPEST, DQNSettings, huber
from adapt.episodes import Episodes
from adapt.outer import DivergenceError
from adapt.replay import Transitions
from adapt.similarity import KINDS, LATENT, Tasks, distances, nearest, report
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.features import Normaliser
from policies.mapping import MappingNetwork
from policies.task_model import TaskModel

MODELLED = 16  # tasks of the replay, from which the model learns in one step


@dataclass(frozen=True)
class InnerSettings:
    """Gradient steps of temporal differences (Adam) on a task's own rollouts."""

    steps: int = option(40, min=1, help="of one adaptation")
    later_steps: int = option(100, min=1, help="of a finished trial, before its task enters the library")
    forgotten: float = option(0.1, min=0.0, max=1.0, help="share of the way back to the shared weights, after those")
    batch: int = option(64, min=1, unit="transitions")
    rate: float = option(1e-3, min=0.0)
    target_rate: float = option(0.05, min=0.0, max=1.0)


@dataclass(frozen=True)
class MappingSettings:
    """Library, representation of tasks, and the mapping."""

    sources: int = option(3, min=0, help="tasks that are mapped; 0: none, every task begins with the shared weights")
    similarity: str = option(LATENT, choices=KINDS, help="by what sources are chosen")
    library: int = option(16, min=1, help="tasks; a new one takes the place of the oldest")
    transitions: int = option(64, min=1, help="that represent a task")
    latent: int = option(8, min=1, help="numbers in a representation")
    rank: int = option(4, min=1, help="of each layer's map, beside the identity")
    hidden: int = option(64, min=1, help="units of the hidden layers of encoder, model and mapping")
    nearness: float = option(1.0, min=0.0, help="weight of |W_ij θ_j − θ_i'|² (β)")
    learning_rate: float = option(1e-3, min=0.0)
    updates: int = option(20, min=1, unit="gradient steps", help="of model and mapping after each trial")


@dataclass(frozen=True)
class DQNMappingSettings(DQNSettings):
    inner: InnerSettings = option(InnerSettings)
    mapping: MappingSettings = option(MappingSettings)


class DQNMapping(DQN):
    settings: DQNMappingSettings
    Settings: type = DQNMappingSettings
    in_graph = False
    overlaps = False  # an offset belongs to the shared weights that acted
    recalls = False

    def __init__(self, interface: Interface, settings: DQNMappingSettings) -> None:
        super().__init__(interface, settings)
        chosen, features = settings.mapping, self.features.size
        self.kept = torch.ones(self.network.size + 1, dtype=torch.bool)
        self.model = TaskModel(features, interface.actions, chosen.latent, chosen.hidden)
        sizes = self.network.perceptron.sizes
        self.mapping = MappingNetwork(sizes, chosen.latent, chosen.rank, chosen.hidden)
        self.rewards, self.changes = Normaliser(1), Normaliser(features)
        columns = 2 * interface.observation + interface.actions + 1
        self.register_buffer("library", torch.zeros(chosen.library, self.network.size))
        self.register_buffer("experience", torch.zeros(chosen.library, chosen.transitions, columns))
        self.register_buffer("entered", torch.zeros((), dtype=torch.long))  # tasks so far
        self.library: Tensor
        self.experience: Tensor
        self.entered: Tensor
        self.learned = [*self.model.parameters(), *self.mapping.parameters()]
        self.outer = torch.optim.Adam(self.learned, chosen.learning_rate)

    def optimiser_state(self) -> dict[str, Any]:
        return {**super().optimiser_state(), "outer": self.outer.state_dict()}

    def load_optimiser_state(self, state: dict[str, Any]) -> None:
        super().load_optimiser_state(state)
        self.outer.load_state_dict(state["outer"])

    def weights(self, fast: Tensor) -> Tensor:
        """Adapted weights (B, W) of fast states (B, F)."""
        return self.shared + fast[:, :-1]

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """With more lanes than fast states, neighbouring lanes are copies of one robot."""
        action, explored = self.choose(self.values(observation, None, self.weights(fast)), noise)
        return action * self.limit, fast, {"action": action, "explored": explored}

    def unroll(self, episodes: Episodes, fast: Tensor) -> tuple[Tensor, Tensor]:
        values = self.values(episodes.observation[:, :, :-1], None, self.weights(fast))
        return self.choose(values, torch.zeros_like(episodes.noise))[0], fast

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        """Raises DivergenceError."""
        weights, count = self.weights(fast).detach(), fast[:, -1:]
        if self.settings.mapping.sources and len(self.sources):
            with torch.no_grad():
                mapped = self.mapped(self.described(self.sample_of(episodes)))[0]
            weights = torch.where(count == 0, mapped, weights)
        weights = self.descend(weights, episodes, self.settings.inner.steps)
        finite = weights.isfinite().all(1)
        if not finite.all():
            task = int(finite.logical_not().nonzero()[0])
            raise DivergenceError(f"task {task}: adaptation {int(count[task]) + 1} left no finite weights")
        return torch.cat([weights - self.shared.detach(), count + 1], dim=1)

    @property
    def sources(self) -> Tensor:
        """Weights of the tasks in the library, (S, W)."""
        return self.library[: int(self.entered)]

    def descend(self, weights: Tensor, episodes: Episodes, steps: int) -> Tensor:
        """Weights (B, W) after gradient steps on the episodes, each task for itself; which of them follows from B not.

        What is drawn is the same in every call, so that a robot learns again what it learned.
        """
        settings = self.settings.inner
        drawn = torch.rand(steps, settings.batch, generator=torch.Generator().manual_seed(1)).to(weights)
        lived = Lived(episodes)
        weights, target = weights.clone().requires_grad_(), weights.clone()
        adam = torch.optim.Adam([weights], settings.rate, eps=1e-6)  # a greater one would feel how sums are rounded
        with torch.enable_grad():
            for shares in drawn:
                batch = lived.at(shares)
                error = self.temporal_difference(batch, weights, target)[1]
                (weights.grad,) = torch.autograd.grad(huber(error).mean((1, 2)).sum(), [weights])
                adam.step()
                target.lerp_(weights.detach(), settings.target_rate)
        return weights.detach()

    def sample_of(self, episodes: Episodes) -> Tensor:
        """Transitions that represent each task, spread evenly over its episodes, (B, N, 2 O + A + 1)."""
        count = self.settings.mapping.transitions
        return self.rows(Lived(episodes).at((torch.arange(count, device=self.limit.device) + 0.5) / count))

    def rows(self, batch: Transitions) -> Tensor:
        """Transitions in their own units, but for actions in shares of their limit, (..., 2 O + A + 1)."""
        parts = batch.observation, batch.action / self.limit, batch.reward[..., None], batch.next_observation
        return torch.cat(parts, dim=-1)

    def described(self, rows: Tensor) -> Tensor:
        """Transitions (..., 2 O + A + 1) as the task model reads them, (..., X)."""
        size = self.interface.observation
        observation, action, reward, after = rows.split([size, self.interface.actions, 1, size], dim=-1)
        change = self.features.expand(after) - self.features.expand(observation)
        return torch.cat([self.features(observation), action, self.rewards(reward), self.changes(change)], dim=-1)

    def mapped(self, transitions: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
        """What tasks with transitions (B, N, X) begin with, (B, W); what their sources become, (B, C, W); a report."""
        settings = self.settings.mapping
        with torch.no_grad():
            own = Tasks.of(self.model, transitions)
            others = Tasks.of(self.model, self.described(self.experience[: int(self.entered)]))
            distance = distances(settings.similarity, self.model, own, others)
            chosen, share = nearest(distance, settings.sources)
        each = self.mapping(self.sources[chosen], others.latent[chosen], own.latent)
        return (share[..., None] * each).sum(1), each, report(distance, chosen)

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        trial = reduce(Episodes.then, [*support, query])
        acted = self.weights(query.fast[:, 0]).detach()  # before the shared weights move
        metrics = super().meta_update(support, query)
        self.changes.update(self.features.expand(trial.observation).diff(dim=2)[trial.valid])
        self.rewards.update(trial.gained[trial.valid][:, None])
        # Without the way back, what is mapped from what was mapped before would run away with every trial.
        reached = self.descend(acted, trial, self.settings.inner.later_steps)
        reached = reached.lerp(self.shared.detach(), self.settings.inner.forgotten)
        described = self.described(self.sample_of(trial))
        self.anneal(self.outer, self.settings.mapping.learning_rate, self.settings.annealed)
        for _ in range(self.settings.mapping.updates):
            learned = self.learn(described, query, reached)
        self.enter(trial, reached)
        return {**metrics, **learned, "inner_shift": query.fast[:, 0, :-1].norm(dim=1).mean().item()}

    def learn(self, transitions: Tensor, query: Episodes, reached: Tensor) -> dict[str, float]:
        """One gradient step of model and mapping for tasks of transitions (B, N, X) that reached weights (B, W)."""
        settings = self.settings.mapping
        keys = self.replay.partitions
        drawn = torch.randint(len(keys), (MODELLED,)).tolist()
        batch = self.replay.sample_of([keys[i] for i in drawn], 2 * settings.transitions).to(self.limit.device)
        seen, held_out = self.described(self.rows(batch)).chunk(2, dim=1)
        loss = foretelling = self.model.error(self.model.encode(seen), held_out).mean()
        metrics = {"foretelling": foretelling.item()}
        if settings.sources and len(self.sources):
            first, each, found = self.mapped(transitions)
            shares = torch.rand(self.settings.inner.batch, device=self.limit.device)
            error = self.temporal_difference(Lived(query).at(shares), first, reached)[1]
            difference, apart = huber(error).mean(), (each - reached[:, None]).square().mean()
            loss = loss + difference + settings.nearness * apart
            metrics |= {**found, "mapped_loss": difference.item(), "mapped_apart": apart.item()}
        self.outer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.learned, STEEPEST)
        self.outer.step()
        return metrics

    def enter(self, trial: Episodes, weights: Tensor) -> None:
        """Put the tasks of a trial into the library, with the weights (B, W) that they reached; at most all places."""
        count = min(trial.robots, len(self.library))
        places = (self.entered + torch.arange(count, device=weights.device)) % len(self.library)
        self.library[places], self.experience[places] = weights[:count], self.sample_of(trial)[:count]
        self.entered += count


class Lived:
    """Steps that count of each task's rollouts, to draw from."""

    def __init__(self, episodes: Episodes) -> None:
        self._episodes, valid = episodes, episodes.valid.flatten(1)
        self._count = valid.sum(1, keepdim=True)
        self._order = valid.to(torch.uint8).argsort(dim=1, descending=True, stable=True)

    def at(self, shares: Tensor) -> Transitions:
        """Those that come after `shares` (N,) in [0, 1) of each task's steps, (B, N, ·)."""
        index = self._order.gather(1, (shares * self._count).long())
        tasks = torch.arange(len(index), device=index.device)[:, None]
        episodes = self._episodes

        def taken(values: Tensor) -> Tensor:
            return values.flatten(1, 2)[tasks, index]

        return Transitions(
            taken(episodes.observation[:, :, :-1]),
            taken(episodes.asked),
            taken(episodes.gained),
            taken(episodes.observation[:, :, 1:]),
            taken(episodes.terminated).to(episodes.reward.dtype),
            tasks.expand_as(index),
            index,
            torch.ones_like(index, dtype=episodes.reward.dtype),
            {},
        )
