"""DQN (Mnih et al. 2015, https://doi.org/10.1038/nature14236): one Q-network for all tasks, from a replay.

Double (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461), dueling (Wang et al. 2016) and with prioritised
replay (Schaul et al. 2016, https://arxiv.org/abs/1511.05952) unless told otherwise. Commands of a continuous action
are cut into levels, each chosen for itself (Tavakoli et al. 2018). Nothing adapts: the fast state is the previous
action. `B` tasks, `N` samples of a task, `D` choices, `L` levels of each, `W` weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from adapt.episodes import Episodes
from adapt.replay import Replay, ReplaySettings, Transitions
from adapt.replayed import Replayed
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.features import Features
from policies.history import later
from policies.q_network import Choices, QNetwork

STEEPEST = 10.0  # norm to which gradients are shortened


@dataclass(frozen=True)
class ExplorationSettings:
    """Share of choices that are drawn evenly, which falls while training goes on."""

    first: float = option(1.0, min=0.0, max=1.0)
    last: float = option(0.05, min=0.0, max=1.0)
    until: float = option(0.5, min=1e-6, max=1.0, help="share of the training that is over when it is at its last")

    def rate(self, trained: float) -> float:
        """When a share `trained` of the training is over."""
        return self.first + (self.last - self.first) * min(1.0, trained / self.until)


@dataclass(frozen=True)
class Prioritised(ReplaySettings):
    """The same with other defaults."""

    capacity: int = option(200_000, min=1, unit="transitions")
    priority: float = option(0.6, min=0.0, max=1.0, help="0: uniform draws; 1: in proportion to errors (their α)")


@dataclass(frozen=True)
class DQNSettings:
    """Network, targets and optimiser."""

    hidden: tuple[int, ...] = option((64, 64), min=1, help="units of the hidden layers")
    bins: int = option(5, min=2, help="levels of each command that is no choice by itself")
    double: bool = option(True, help="the network itself chooses the action whose value the target network tells")
    dueling: bool = option(True, help="value of the state and advantages of actions, in place of values of actions")
    discount: float = option(0.99, min=0.0, max=0.9999, help="a policy step")
    exploration: ExplorationSettings = option(ExplorationSettings)
    replay: Prioritised = option(Prioritised)
    learning_rate: float = option(1e-3, min=0.0)
    annealed: float = option(
        0.25, min=0.0, max=1.0, help="share of a training, its last, in which that rate falls to 0"
    )
    target_rate: float = option(0.01, min=0.0, max=1.0, help="of the way to the network that its target goes each step")
    batch: int = option(128, min=1, unit="transitions")
    updates: int = option(100, min=1, unit="gradient steps", help="after each trial of all lanes")


class DQN(Replayed):
    """Values are in units of a mean reward: rewards count (1 - discount) in them."""

    Settings: type = DQNSettings
    recalls = True  # whether the previous action is in the fast state, and read

    def __init__(self, interface: Interface, settings: DQNSettings) -> None:
        super().__init__()
        self.settings, self.interface = settings, interface
        self.features, self.choices = Features(interface), Choices(interface, settings.bins)
        self.recalled = interface.actions if self.recalls else 0
        reads, choices = self.features.size + self.recalled, self.choices
        self.network = QNetwork(reads, settings.hidden, choices.count, choices.levels, settings.dueling)
        self.shared = nn.Parameter(self.network.initial())  # (W,)
        self.register_buffer("target", self.shared.detach().clone())
        self.register_buffer("exploration", torch.tensor(settings.exploration.first))
        self.register_buffer("limit", torch.tensor(interface.limit, dtype=torch.float32))
        self.register_buffer("kept", torch.zeros(self.recalled, dtype=torch.bool))
        self.target: Tensor
        self.exploration: Tensor
        self.limit: Tensor
        self.replay = Replay(interface, settings.replay, {"previous": self.recalled} if self.recalls else None)

    def make_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.shared], self.settings.learning_rate)

    def values(self, observation: Tensor, previous: Tensor | None, weights: Tensor) -> Tensor:
        """Observation (..., O), previous action (..., A), weights (B or 1, W) → values (..., D, L).

        The leading dimensions are (B, N), or both of them in one.
        """
        features = self.features(observation)
        inputs = features if previous is None else torch.cat([features, previous], dim=-1)
        values = self.network(inputs.reshape(weights.shape[0], -1, inputs.shape[-1]), weights)
        return values.reshape(*inputs.shape[:-1], *values.shape[-2:])

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        action, explored = self.choose(self.values(observation, fast, self.shared[None]), noise)
        return action * self.limit, action, {"action": action, "explored": explored}

    def choose(self, values: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Values (..., D, L), noise (..., A) → action (..., A) in shares of its limit, whether explored (..., D)."""
        level, explored = self.choices.draw(values, noise, self.exploration)
        return self.choices.action(level), explored

    def previous(self, episodes: Episodes) -> Tensor | None:
        """The action before each observation in shares of its limit, (B, K, T+1, A); None where it is not recalled."""
        return later(episodes.asked / self.limit, 1) if self.recalls else None

    def unroll(self, episodes: Episodes, fast: Tensor) -> tuple[Tensor, Tensor]:
        """The actions are the greedy ones, which have no mean."""
        previous = later(episodes.asked / self.limit, 1)
        values = self.values(episodes.observation[:, :, :-1], previous[:, :, :-1], self.shared[None])
        length = episodes.valid[:, -1].sum(-1)[:, None, None].expand(-1, 1, self.recalled)
        last = previous[:, -1].gather(1, length)[:, 0]
        return self.choose(values, torch.zeros_like(episodes.noise))[0], last

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        return self.unroll(episodes, fast)[1]

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        trial = reduce(Episodes.then, [*support, query])
        self.remember(trial)
        self.features.normaliser.update(self.features.expand(trial.observation[:, :, :-1][trial.valid]))
        self.anneal(self.optimiser, self.settings.learning_rate, self.settings.annealed)
        losses, values = zip(*(self.step() for _ in range(self.settings.updates)), strict=True)
        self.exploration.fill_(self.settings.exploration.rate(self.trained))
        mean = {"loss": torch.stack(losses).mean().item(), "value": torch.stack(values).mean().item()}
        return {**mean, "exploration": self.exploration.item(), "replay": float(len(self.replay))}

    def remember(self, trial: Episodes) -> Sequence[int]:
        """Put a trial into the replay, each task under a key of its own; the keys."""
        previous = self.previous(trial)
        return self.store(trial, None if previous is None else {"previous": previous[:, :, :-1]})

    def step(self) -> tuple[Tensor, Tensor]:
        """One gradient step of the shared weights, and its target's after them; loss and mean value."""
        batch = self.replay.sample(self.settings.batch).to(self.limit.device)
        value, error = self.temporal_difference(batch, self.shared[None], self.target[None])
        loss = (batch.weight * huber(error).mean(-1)).mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([self.shared], STEEPEST)
        self.optimiser.step()
        with torch.no_grad():
            self.target.lerp_(self.shared, self.settings.target_rate)
        self.replay.prioritise(batch.number, error.detach().abs().mean(-1))
        return loss.detach(), value.detach().mean()

    def temporal_difference(self, batch: Transitions, weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Value of each choice that was made, and how far it is from its target, (..., D) each.

        Of transitions (..., ·) with weights and target weights (B or 1, W). The target is one for all choices: the mean
        of their best values after the transition (Tavakoli et al. 2018, equation 5).
        """
        action, discount = batch.action / self.limit, self.settings.discount
        chosen = self.choices.level(action)[..., None]
        value = self.values(batch.observation, batch.extra.get("previous"), weights).gather(-1, chosen)[..., 0]
        with torch.no_grad():
            after = batch.next_observation, action if self.recalls else None
            worth = self.values(*after, target)
            guide = self.values(*after, weights) if self.settings.double else worth
            best = worth.gather(-1, guide.argmax(-1, keepdim=True))[..., 0].mean(-1)
            wanted = (1 - discount) * batch.reward + discount * (1 - batch.terminated) * best
        return value, value - wanted[..., None]


def huber(error: Tensor) -> Tensor:
    """Half the square of small errors, and no steeper than 1."""
    return nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")
