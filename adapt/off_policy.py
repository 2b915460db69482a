"""What learners share that learn from a replay by soft actor-critic: what they see, two critics, an update.

The policy maximises return and entropy together (Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905); what an
entropy is worth, the temperature, follows from how much of it is wanted. Policy and critics are moved at once, from
what both were before the step; their gradients are written out. The fast state is `memory` (what a learner keeps of
the robot) followed by a short history, as of the learners that PPO trains.
`B` robots, `N` samples, `I` inputs, `A` action, `F` weights of a critic.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adapt.episodes import Episodes
from adapt.replay import Replay, ReplaySettings, Transitions
from adapt.replayed import Replayed
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.features import Features, Normaliser
from policies.history import History
from policies.regulator import Regulator
from policies.task_perceptron import Layer, TaskPerceptron, product


@dataclass(frozen=True)
class OffPolicySettings:
    """Networks, targets and optimiser."""

    hidden: tuple[int, ...] = option((64, 64), min=1, help="units of the policy's hidden layers")
    critic_hidden: tuple[int, ...] = option((128, 128), min=1, help="of each of the two critics")
    activation: str = option("relu", choices=("relu", "tanh"))
    frames: int = option(0, min=0, help="steps whose changes of position and actions the policy is shown")
    discount: float = option(0.99, min=0.0, max=0.9999, help="a policy step")
    reward_scale: float = option(1.0, min=1e-6, help="that rewards are multiplied by")
    entropy: float | None = option(None, unit="nats", help="that is wanted (default: of the learner)")
    temperature: float = option(0.1, min=1e-6, help="worth of a nat to begin with")
    learning_rate: float = option(1e-3, min=0.0)
    annealed: float = option(
        0.25, min=0.0, max=1.0, help="share of a training, its last, in which that rate falls to 0"
    )
    target_rate: float = option(0.01, min=0.0, max=1.0, help="of the way to the critics that targets go each step")
    batch: int = option(256, min=1, unit="transitions", help="of one gradient step")
    updates: int = option(100, min=1, unit="gradient steps", help="after each trial of all lanes")
    warm_up: int = option(1000, min=1, unit="transitions", help="that are there before the first step")
    replay: ReplaySettings = option(ReplaySettings)


class Batch(NamedTuple):
    """`N` samples."""

    inputs: Tensor  # (N, I) what the policy read
    action: Tensor  # (N, A) that was carried out, in units of the limit
    reward: Tensor  # (N,) scaled
    going_on: Tensor  # (N,) the discount, or 0 where nothing follows
    highest: Tensor  # (N,) that a value can be
    next_inputs: Tensor  # (N, I)
    weight: Tensor  # (N,)
    advice: Tensor  # (N, A+1) what the regulator said; (N, 0) without one
    next_advice: Tensor  # (N, A+1)


class OffPolicy(Replayed):
    """Base of soft actor-critics. Two critics are one batched product, and their weights one vector each."""

    Settings: type = OffPolicySettings
    distribution: Any  # of actions: `sample` and `bounded`
    NAMES: tuple[str, ...] = ("critic_loss", "value", "temperature", "entropy")  # of metrics

    def __init__(
        self,
        interface: Interface,
        settings: OffPolicySettings,
        outputs: int,
        judged: int,
        judgements: int,
        memory: int = 0,
        latent: int = 0,
        regulator: Regulator | None = None,
    ) -> None:
        """Policies give `outputs`, critics read `judged` numbers of an action and give `judgements`.

        Both read `latent` numbers beside the inputs. A `regulator` makes of an action what is carried out.
        """
        super().__init__()
        self.regulator = regulator
        self.settings, self.memory_size, self.action_size = settings, memory, interface.actions
        self.features = Features(interface)
        self.history = History(len(interface.positions), interface.actions, settings.frames)
        self.moves = Normaliser(len(interface.positions)) if settings.frames else None
        self.register_buffer("positions", torch.tensor(interface.positions, dtype=torch.long), persistent=False)
        self.register_buffer("limit", torch.tensor(interface.limit, dtype=torch.float32))
        self.register_buffer("kept", torch.zeros(memory + self.history.size, dtype=torch.bool))
        self.positions: Tensor
        self.limit: Tensor
        self.input_size = self.features.size + self.history.reads  # I
        reads = self.input_size + latent
        self.network = TaskPerceptron([reads, *settings.hidden, outputs], settings.activation)
        sizes = [reads + judged, *settings.critic_hidden, judgements]
        self.critic = TaskPerceptron(sizes, settings.activation, output_gain=0.1)
        self.actor = nn.Parameter(self.network.initial()[None])  # (1, ·)
        self.critics = nn.Parameter(torch.stack([self.critic.initial() for _ in range(2)]))  # (2, F)
        self.register_buffer("targets", self.critics.detach().clone())
        self.targets: Tensor
        self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature)))
        self.replay = Replay(interface, settings.replay, {"state": self.history.size})

    @abstractmethod
    def policy(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The network's outputs (N, ·) → centre and spread (N, ·) of the distribution of actions."""

    @abstractmethod
    def set_gradients(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Those of actor, critics and temperature; errors (N,) of the first critic, and metrics (·,) after NAMES.

        `noise` (2 N, A) is standard normal.
        """

    @property
    def wanted(self) -> float:
        """Entropy, nats."""
        return self.default_entropy() if self.settings.entropy is None else self.settings.entropy

    @abstractmethod
    def default_entropy(self) -> float:
        """Nats."""

    def make_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.settings.learning_rate, fused=True)

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        memory, state = fast.split([self.memory_size, self.history.size], dim=-1)
        position = observation.index_select(-1, self.positions)
        recent = self.history.read(position, state)
        inputs = self.perceive(observation, recent)
        latent, memory = self.recall(observation, state[:, : self.action_size], noise, memory)
        centre, spread = self.policy(self.decide(torch.cat([inputs, latent], dim=-1)))
        action = self.distribution.sample(centre, spread, noise)
        bounded = self.carried_out(self.distribution.bounded(action), self.advice(position, recent))
        after = torch.cat([memory, self.history.advance(position, bounded, state)], dim=-1)
        return bounded * self.limit, after, {"action": action, **self.extras(action, centre, spread)}

    def advice(self, position: Tensor, recent: Tensor) -> Tensor:
        """What the regulator says at positions (..., S) after what was read of the history: command and cost-to-go."""
        if self.regulator is None:
            return position[..., :0]
        return torch.cat(self.regulator(position, recent[..., : len(self.positions)]), dim=-1)

    def carried_out(self, action: Tensor, advice: Tensor) -> Tensor:
        """What is done, (..., A), of an action (..., A) of ±1 beside what the regulator says."""
        if self.regulator is None:
            return action
        return self.regulator.blend(advice[..., :-1], advice[..., -1:], action)

    def recall(self, observation: Tensor, action: Tensor, noise: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of the robot, (B, latent), and the next memory; `action` (B, A) is the previous one."""
        return memory, memory

    def extras(self, action: Tensor, centre: Tensor, spread: Tensor) -> dict[str, Tensor]:
        """What is recorded of each step beside the action."""
        return {"std": torch.exp(spread)}

    def perceive(self, observation: Tensor, recent: Tensor) -> Tensor:
        """Observations (..., O), what was read of the history → what the policy reads, (..., I)."""
        if self.moves is None:
            return torch.cat([self.features(observation), recent], dim=-1)
        frames = self.settings.frames
        moved, actions = recent.tensor_split([frames * len(self.positions)], dim=-1)
        moved = self.moves(moved.unflatten(-1, (frames, -1))).flatten(-2)
        return torch.cat([self.features(observation), moved, actions], dim=-1)

    def states(self, episodes: Episodes) -> Tensor:
        """What is kept of the steps before each observation, (B, K, T+1, ·)."""
        position = episodes.observation.index_select(-1, self.positions)
        return self.history.trace(position, episodes.asked / self.limit)

    def unroll(self, episodes: Episodes, fast: Tensor) -> tuple[Tensor, Tensor]:
        states = self.states(episodes)
        position = episodes.observation.index_select(-1, self.positions)
        inputs = self.perceive(episodes.observation, self.history.read(position, states))[:, :, :-1]
        latent, memory = self.recall_through(episodes, fast[:, : self.memory_size])
        centre, _ = self.policy(self.decide(torch.cat([inputs, latent], dim=-1).flatten(0, 2)))
        length = episodes.valid[:, -1].sum(-1)[:, None, None].expand(-1, 1, self.history.size)
        state = states[:, -1].gather(1, length)[:, 0]  # after the last step of the last rollout
        return centre.view_as(episodes.noise), torch.cat([memory, state], dim=-1)

    def recall_through(self, episodes: Episodes, memory: Tensor) -> tuple[Tensor, Tensor]:
        """`recall` over whole episodes: (B, K, T, latent), and the memory (B, ·) after them."""
        return episodes.noise[..., :0], memory

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        """The fast state after living through the episodes again."""
        return self.unroll(episodes, fast)[1]

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        episodes = reduce(Episodes.then, [*support, query])
        self.store(episodes, {"state": self.states(episodes)[:, :, :-1]})
        self._learn_scales(episodes)
        totals = torch.zeros(len(self.NAMES), device=self.limit.device)
        if len(self.replay) >= self.settings.warm_up:
            self.anneal(self.optimiser, self.settings.learning_rate, self.settings.annealed)
            for metrics in self.learn():
                totals += metrics
        return dict(zip(self.NAMES, (totals / self.settings.updates).tolist(), strict=True))

    @torch.no_grad()
    def learn(self) -> list[Tensor]:
        """All gradient steps from what is in the replay; metrics of each."""
        updates, size = self.settings.updates, self.settings.batch
        drawn = self.replay.sample(updates * size).to(self.limit.device)
        whole = self.batch(drawn)
        noise = torch.randn(updates, 2 * size, self.action_size).to(self.limit.device)
        errors, metrics = [], []
        for *parts, now in zip(*(values.split(size) for values in whole), noise, strict=True):
            error, report = self.set_gradients(Batch(*parts), now)
            self.optimiser.step()
            self.targets.lerp_(self.critics, self.settings.target_rate)
            errors.append(error)
            metrics.append(report)
        self.replay.prioritise(drawn.number, torch.cat(errors))
        return metrics

    def batch(self, drawn: Transitions) -> Batch:
        """What was drawn from the replay (N,), as the networks read it."""
        state, action = drawn.extra["state"], drawn.action / self.limit
        positions = [seen.index_select(-1, self.positions) for seen in (drawn.observation, drawn.next_observation)]
        states = state, self.history.advance(positions[0], action, state)
        recent = [self.history.read(*seen) for seen in zip(positions, states, strict=True)]
        reward = drawn.reward * self.settings.reward_scale
        return Batch(
            inputs=self.perceive(drawn.observation, recent[0]),
            action=action,
            reward=reward,
            going_on=self.settings.discount * (1 - drawn.terminated),
            highest=self.highest_of(reward),
            next_inputs=self.perceive(drawn.next_observation, recent[1]),
            weight=drawn.weight,
            advice=self.advice(positions[0], recent[0]),
            next_advice=self.advice(positions[1], recent[1]),
        )

    def highest_of(self, reward: Tensor) -> Tensor:
        """What no value can be above, as (N,): the best of rewards (N,), and what is wanted of entropy, for ever.

        Critics that learn from each other's mistakes would else rise without end.
        """
        wanted = self.log_temperature.detach().exp() * max(self.wanted, 0.0)
        return ((reward.amax().clamp(min=0.0) + wanted) / (1 - self.settings.discount)).expand_as(reward)

    def decide(self, reads: Tensor) -> Tensor:
        """The policy network's outputs (N, outputs) for what it reads (N, ·)."""
        return self.network(reads[None], self.actor)[0]

    def _learn_scales(self, episodes: Episodes) -> None:
        """Of what was observed, and of how positions changed."""
        valid = episodes.valid
        self.features.normaliser.update(self.features.expand(episodes.observation[:, :, :-1][valid]))
        if self.moves is not None:
            self.moves.update(episodes.observation.index_select(-1, self.positions).diff(dim=2)[valid])


def backward(
    network: TaskPerceptron, pull: Tensor, values: list[Tensor], layers: list[Layer], learned: slice
) -> tuple[Tensor, Tensor]:
    """From the gradient `pull` (B, N, O) by outputs: that by weights, (B, F), and that by sums of the first layer.

    Only the samples `learned` count for the first; `values` are what the layers read.
    """
    parts = list[Tensor]()  # last layer first
    for index in reversed(range(len(layers))):
        learns = pull[:, learned]
        parts += [learns.sum(1), torch.bmm(learns.mT, values[index][:, learned]).flatten(1)]
        if index:
            pull = network.through_(product(pull, layers[index][0]), values[index])
    return torch.cat(parts[::-1], dim=1), pull
