"""What the PPO-trained learners share: features, a policy, a critic that knows more than the policy.

The fast state is `memory` (what the learner keeps of the robot) followed by a short history, the previous action at
least, which every learner sees and which starts at zero in each rollout. The critic is given the true hidden parameters
(an asymmetric critic, Pinto et al. 2018) and the time that is left; it is not exported. `D` features, `M` memory.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from adapt.episodes import Episodes
from adapt.learner import MetaLearner
from adapt.ppo import PPO, Batch, PPOSettings, advantages
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.features import Features, Normaliser
from policies.history import History
from policies.networks import ActionHead
from policies.perceptron import Perceptron
from policies.regulator import Regulator, RegulatorSettings, check_history


@dataclass(frozen=True)
class ActorCriticSettings:
    """Sizes of the networks, and the optimiser."""

    hidden: tuple[int, ...] = option((64, 64), min=1, help="units of the policy's hidden layers")
    critic_hidden: tuple[int, ...] = option((128, 128), min=1)
    critic_reads_dynamics: bool = option(True, help="the hidden parameters; false where they are hundreds")
    frames: int = option(0, min=0, help="steps whose changes of position and actions the policy is shown")
    regulator: RegulatorSettings | None = option(None, help="a linear one around the goal, to which actions are added")
    initial_std: float = option(0.6, min=0.05, max=1.0, help="of the action, whose limits are -1 and 1")
    ppo: PPOSettings = option(PPOSettings)

    def __post_init__(self) -> None:
        check_history(self.regulator, self.frames)


def input_size(interface: Interface, settings: ActorCriticSettings) -> int:
    """Width of what every policy reads: features, history, what the regulator says."""
    regulator = 0 if settings.regulator is None else interface.actions + 1
    return interface.observation + 2 * len(interface.angles) + history_of(interface, settings).reads + regulator


def history_of(interface: Interface, settings: ActorCriticSettings) -> History:
    """What is kept of the last steps."""
    return History(len(interface.positions), interface.actions, settings.frames)


class ActorCritic(MetaLearner):
    """Base of learners whose fast state changes inside the graph."""

    Settings: type = ActorCriticSettings

    def __init__(self, interface: Interface, settings: ActorCriticSettings, memory: int) -> None:
        super().__init__()
        self.settings, self.memory_size, self.action_size = settings, memory, interface.actions
        self.history = history_of(interface, settings)
        self.regulator = None if settings.regulator is None else Regulator(interface, settings.regulator)
        self.moves = Normaliser(len(interface.positions)) if settings.frames else None
        self.register_buffer("positions", torch.tensor(interface.positions, dtype=torch.long), persistent=False)
        self.positions: Tensor
        self.features = Features(interface)
        self.return_scale = Normaliser(1)
        bounds = torch.tensor(interface.bounds, dtype=torch.float32).reshape(-1, 2)
        half = (bounds[:, 1] - bounds[:, 0]) / 2
        self.register_buffer("middle", bounds.mean(1))
        self.register_buffer("spread", torch.where(half > 0, half, torch.ones_like(half)))
        self.register_buffer("limit", torch.tensor(interface.limit, dtype=torch.float32))
        self.register_buffer("kept", torch.arange(memory + self.history.size) < memory)
        self.middle: Tensor
        self.spread: Tensor
        self.limit: Tensor
        self.input_size = input_size(interface, settings)
        self.head = ActionHead([self.policy_input_size(), *settings.hidden], interface, settings.initial_std)
        self.critic = Perceptron([self.critic_input_size(), *settings.critic_hidden, 1], output_gain=0.1)

    @abstractmethod
    def policy_input_size(self) -> int:
        """Width of what the head reads."""

    def critic_input_size(self) -> int:
        """Width of what the critic reads: the policy's inputs, the hidden parameters, the time."""
        return self.input_size + len(self.middle) * self.settings.critic_reads_dynamics + 1

    @abstractmethod
    def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, I) and memory (B, M) → centre of the action (B, A) and next memory (B, M)."""

    @abstractmethod
    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What the head reads in whole rollouts, (B, K, T, ·), and the memory (B, M) after them.

        Inputs are (B, K, T, I), the memory before them (B, M), and `valid` (B, K, T) says which steps were lived.
        """

    def finish_setup(self) -> None:
        """Make the optimiser, once a subclass has all its parameters."""
        critic = {id(parameter) for parameter in self.critic.parameters()}
        actor = [parameter for parameter in self.parameters() if id(parameter) not in critic]
        self.optimiser = PPO(actor, self.head, self.critic, self.settings.ppo)

    def optimiser_state(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def load_optimiser_state(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state)

    def normalise(self, dynamics: Tensor) -> Tensor:
        """Hidden parameters (..., P) on a scale where the training range is [-1, 1]."""
        return (dynamics - self.middle) / self.spread

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        return torch.zeros(batch, self.memory_size + self.history.size, device=self.limit.device)

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        memory, state = fast.split([self.memory_size, self.history.size], dim=-1)
        position = observation.index_select(-1, self.positions)
        recent = self.history.read(position, state)
        advice = self.advice(position, recent)
        centre, memory = self.think(self.perceive(observation, recent, advice), memory)
        choice, spread = self.head.distribution, self.head.spread
        action = choice.sample(centre, spread, noise)
        bounded = choice.bounded(action)
        if self.regulator is not None and advice is not None:  # what is carried out is not what was chosen alone
            bounded = self.regulator.blend(*advice, bounded)
        extra = {"action": action, "log_prob": choice.log_prob(action, centre, spread)}
        return bounded * self.limit, torch.cat([memory, self.history.advance(position, bounded, state)], dim=-1), extra

    def advice(self, position: Tensor, recent: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the regulator says at positions (..., S) after what was read of the history (..., ·); None without."""
        return None if self.regulator is None else self.regulator(position, recent[..., : len(self.positions)])

    def perceive(self, observation: Tensor, recent: Tensor, advice: tuple[Tensor, Tensor] | None) -> Tensor:
        """Observations (..., O), what was read of the history, advice → what the policy reads, (..., I)."""
        frames = self.settings.frames
        moved, actions = recent.tensor_split([frames * len(self.positions)], dim=-1)
        read = [self.features(observation)]
        if self.regulator is not None and advice is not None:
            read.append(self.regulator.read(*advice))
        if self.moves is not None:
            read.append(self.moves(moved.unflatten(-1, (frames, -1))).flatten(-2))
        return torch.cat([*read, actions], dim=-1)

    def states(self, episodes: Episodes) -> Tensor:
        """What is kept of the steps before each observation, (B, K, T+1, ·)."""
        position = episodes.observation.index_select(-1, self.positions)
        return self.history.trace(position, episodes.asked / self.limit)

    def inputs(self, episodes: Episodes) -> Tensor:
        """What the policy reads at every observation, (B, K, T+1, I)."""
        position = episodes.observation.index_select(-1, self.positions)
        recent = self.history.read(position, self.states(episodes))
        return self.perceive(episodes.observation, recent, self.advice(position, recent))

    def unroll(self, episodes: Episodes, fast: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.inputs(episodes)
        read, memory = self.read_through(inputs[:, :, :-1], fast[:, : self.memory_size], episodes.valid)
        length = episodes.valid[:, -1].sum(-1)[:, None, None].expand(-1, 1, self.history.size)
        state = self.states(episodes)[:, -1].gather(1, length)[:, 0]  # after the last step of the last rollout
        return self.head(read), torch.cat([memory, state], dim=-1)

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        """The memory after living through the episodes again."""
        return self.unroll(episodes, fast)[1]

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        episodes = reduce(Episodes.then, [*support, query])
        ppo = self.settings.ppo
        with torch.no_grad():
            inputs = self.inputs(episodes)
            critic_inputs = self.critic_inputs(inputs, episodes)
            parts = critic_inputs.flatten(0, 2).split(4096)  # fresh memory costs more than arithmetic
            value = self.return_scale.inverse(torch.cat([self.critic.train_on(part) for part in parts]))
            value = value.view(critic_inputs.shape[:-1])
            gain = advantages(episodes.gained, value, episodes.valid, episodes.terminated, ppo.discount, ppo.gae)
            returns = gain + value[..., :-1]
            self.return_scale.update(returns[episodes.valid][:, None])
            chosen = gain[episodes.valid]
            gain = (gain - chosen.mean()) / (chosen.std() + 1e-6)
            target = self.return_scale(returns[..., None]).squeeze(-1)
            scalars = torch.stack([episodes.extra["log_prob"], gain, target, episodes.valid])
            table = torch.cat([critic_inputs[:, :, :-1], episodes.extra["action"]], dim=-1)
        memory = episodes.fast[:, 0, : self.memory_size]
        metrics = self.optimiser.update(lambda: self._batches(table, scalars, memory), self.trained)
        self._learn_scales(episodes)
        return metrics

    def _learn_scales(self, episodes: Episodes) -> None:
        """Of what was observed, and of how positions changed."""
        valid = episodes.valid
        self.features.normaliser.update(self.features.expand(episodes.observation[:, :, :-1][valid]))
        if self.moves is not None:
            self.moves.update(episodes.observation.index_select(-1, self.positions).diff(dim=2)[valid])

    def critic_inputs(self, inputs: Tensor, episodes: Episodes) -> Tensor:
        """What the critic reads at every observation, (B, K, T+1, ·): the policy's inputs come first."""
        if episodes.dynamics is None:
            raise ValueError("episodes without dynamics cannot train the critic; real rollouts only adapt")
        time = torch.linspace(0, 1, inputs.shape[2], device=inputs.device)[:, None].expand(*inputs.shape[:3], 1)
        known = [inputs, time]
        if self.settings.critic_reads_dynamics:
            known.append(self.normalise(episodes.dynamics)[:, None, None].expand(*inputs.shape[:3], -1))
        return torch.cat(known, dim=-1)

    def _batches(self, table: Tensor, scalars: Tensor, memory: Tensor) -> Iterator[Batch]:
        """Whole trials of some of the robots, so that memory is trained through time.

        `table` (B, K, T, ·) holds the critic's inputs, which begin with the policy's, then action; `scalars`
        (4, B, K, T) log-probability, advantage, target and whether the step counts.
        """
        order = torch.randperm(len(table)).to(table.device)
        table, memory = table.index_select(0, order), memory.index_select(0, order)
        scalars = scalars.index_select(1, order)
        robots = math.ceil(len(table) / self.settings.ppo.minibatches)  # a minibatch
        trials = table[..., : self.input_size].split(robots), memory.split(robots), scalars[3].split(robots)
        known, action = table.flatten(0, 2).tensor_split([-self.action_size], dim=-1)
        samples = robots * scalars[0, 0].numel()
        columns = (column.split(samples) for column in (known, action, *scalars.flatten(1)))
        for inputs, start, valid, *rest in zip(*trials, *columns, strict=True):
            read, _ = self.read_through(inputs, start, valid)
            yield Batch(read.flatten(0, 2), *rest)
