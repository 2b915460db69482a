"""What model-based learners share: a model of the dynamics, a planner that acts in training, and a policy that exports.

The planner is slow and runs beside the loop, so what it does is distilled into a policy that is conditioned on a small
context of the model: both are told what the last steps showed of a robot. Training data come from the planner and, in
a share of rollouts, from the policy, where the planner says at every step what it would do (DAgger, Ross et al. 2011,
https://arxiv.org/abs/1011.0686). The fast state is a memory that the context is read from, the last step, and as its
last entry the model's doubt: how far the members of the ensemble are apart about what they foretell, as a share of
what usually changes, averaged over some ten steps. `B` robots, `O` observation, `A` action, `M` memory, `C` context.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from adapt.episodes import Episodes
from adapt.planned import Planned
from adapt.planning import PlannerSettings
from adapt.replay import Replay, ReplaySettings, Transitions
from adapt.replayed import Replayed
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.dynamics_model import DynamicsModel, DynamicsSettings, Step
from policies.networks import ActionHead

DOUBT = 0.1  # share of the present step in the running mean of the doubt


@dataclass(frozen=True)
class ModelBasedSettings:
    """Model, planner, policy, and how they are trained."""

    model: DynamicsSettings = option(DynamicsSettings)
    planner: PlannerSettings = option(PlannerSettings)
    replay: ReplaySettings = option(ReplaySettings)
    hidden: tuple[int, ...] = option((64, 64), min=1, help="units of the policy's hidden layers")
    initial_std: float = option(0.3, min=0.05, max=1.0, help="of the policy's action, whose limits are -1 and 1")
    driven: float = option(0.25, min=0.0, max=1.0, help="share of training rollouts that the policy drives")
    batches: int = option(200, min=1, help="of an update")
    batch: int = option(256, min=1, unit="steps", help="that a batch foretells")
    learning_rate: float = option(1e-3, min=0.0)
    max_gradient: float = option(10.0, min=1e-6, help="norm to which gradients are shortened")


class ModelBased(Replayed):
    """Base of learners that differ in what they remember of a robot, `learn`, and how they read it, `read`."""

    Settings: type = ModelBasedSettings
    discrete = False  # the planner draws sequences from Gaussians
    overlaps = False  # the planner would have to be a copy, too

    def __init__(
        self, interface: Interface, settings: ModelBasedSettings, context: int, memory: int, past: int, future: int
    ) -> None:
        """`past` steps at most tell the context with which `future` ones are foretold in training."""
        super().__init__()
        self.settings, self.past, self.future = settings, past, future
        step = [interface.observation, interface.actions, 1] if memory else [0, 0, 0]
        self.parts = [memory, *step, 1]
        self.register_buffer("kept", torch.arange(sum(self.parts)) < memory)
        self.entries = {"doubt": sum(self.parts) - 1}
        self.register_buffer("limit", torch.tensor(interface.limit, dtype=torch.float32))
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))  # there is a model to plan with
        self.limit: Tensor
        self.begun: Tensor
        self.model = DynamicsModel(interface, settings.model, context)
        sizes = [self.model.features.size + context, *settings.hidden]
        self.head = ActionHead(sizes, interface, settings.initial_std)
        self.replay = Replay(interface, settings.replay, {"plan": interface.actions, "planned": 1})

    def learn(self, before: Tensor, action: Tensor, after: Tensor, memory: Tensor) -> Tensor:
        """The memory (B, M) after a step that led from observations (B, O) by actions (B, A), shares of limits."""
        return memory

    def read(self, memory: Tensor) -> Tensor:
        """The context (B, C) that a memory (B, M) stands for."""
        return memory

    def make_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.settings.learning_rate)

    def collector(self) -> Planned:
        return Planned(self, self.settings.planner, self.settings.driven)

    def recall(self, observation: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Context (B, C) and memory (B, M) with what the last step led to."""
        memory, before, action, lived, _ = fast.split(self.parts, dim=-1)
        if self.parts[0]:
            memory = memory + lived * (self.learn(before, action, observation, memory) - memory)
        return self.read(memory), memory

    def centre(self, observation: Tensor, context: Tensor) -> Tensor:
        """Of the policy's actions, (..., A)."""
        return self.head(torch.cat([self.model.features(observation), context], dim=-1))

    def leave(self, observation: Tensor, action: Tensor, context: Tensor, memory: Tensor, fast: Tensor) -> Tensor:
        """The fast state (B, F) after an action (B, A), share of its limit."""
        spread = self.model(observation, action, context).spread[:, :-1].mean(-1, keepdim=True)
        doubt = torch.lerp(fast[:, -1:], torch.sqrt(spread), DOUBT)
        step = [observation, action, torch.ones_like(doubt)] if self.parts[0] else []
        return torch.cat([memory, *step, doubt], dim=-1)

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        context, memory = self.recall(observation, fast)
        choice = self.head.distribution
        action = choice.sample(self.centre(observation, context), self.head.spread, noise)
        bounded = choice.bounded(action)
        return bounded * self.limit, self.leave(observation, bounded, context, memory, fast), {"action": action}

    def unroll(self, episodes: Episodes, fast: Tensor) -> tuple[Tensor, Tensor]:
        centres = []
        for k in range(episodes.rollouts):
            fast = self.start_rollout(fast) if k else fast
            columns = episodes.observation[:, k, :-1], episodes.asked[:, k] / self.limit, episodes.valid[:, k]
            for observation, action, valid in zip(*(column.unbind(1) for column in columns), strict=True):
                context, memory = self.recall(observation, fast)
                centres.append(self.centre(observation, context))
                after = self.leave(observation, action, context, memory, fast)
                fast = torch.where(valid[:, None], after, fast)
        return torch.stack(centres, dim=1).view_as(episodes.asked), fast

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        """The fast state after living through the episodes again."""
        return self.unroll(episodes, fast)[1]

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        """Model and policy from all that the collector has recorded so far."""
        episodes = reduce(Episodes.then, [*support, query])
        self._remember(episodes)
        parameters = list(self.parameters())
        total = dict.fromkeys(("model_loss", "policy_loss"), 0.0)
        for parts in self._batches():
            loss = torch.stack(parts).sum()
            self.optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, self.settings.max_gradient)
            self.optimiser.step()
            for name, part in zip(total, parts, strict=True):
                total[name] += part.item() / self.settings.batches
        self.begun.fill_(True)
        driven = episodes.extra["driven"][:, :, 0] > 0
        ways = {"return_planned": episodes.returns[~driven], "return_driven": episodes.returns[driven]}
        return total | {name: values.mean().item() for name, values in ways.items() if len(values)}

    def _remember(self, episodes: Episodes) -> None:
        """Into the replay, each robot's trial for itself, and into the scales."""
        planned = self.begun.expand_as(episodes.valid)[..., None].float()
        self.store(episodes, {"plan": episodes.extra["plan"], "planned": planned})
        valid, (before, after) = episodes.valid, (episodes.observation[:, :, :-1], episodes.observation[:, :, 1:])
        self.model.learn_scales(before[valid], after[valid], episodes.gained[valid])

    def _batches(self) -> Iterator[list[Tensor]]:
        """Losses of model and policy."""
        count = max(1, self.settings.batch // self.future)
        for _ in range(self.settings.batches):
            window, valid = self.replay.sample_windows(count, self.past + self.future)
            window, valid = window.to(self.limit.device), valid.to(self.limit.device)
            seen = torch.randint(self.past + 1, (count, 1)).to(valid.device)
            context = self._contexts(window, valid * (torch.arange(valid.shape[1], device=valid.device) < seen))
            index = seen + torch.arange(self.future, device=seen.device)
            yield self._losses(window, valid, index, context)

    def _contexts(self, window: Transitions, seen: Tensor) -> Tensor:
        """Contexts (N, C) after the first steps of windows, those where `seen` (N, L) is 1."""
        memory = self.limit.new_zeros(len(seen), self.parts[0])
        for t in range(self.past):
            step = window.observation[:, t], window.action[:, t] / self.limit, window.next_observation[:, t]
            memory = memory + seen[:, t, None] * (self.learn(*step, memory) - memory)
        return self.read(memory)

    def _losses(self, window: Transitions, valid: Tensor, index: Tensor, context: Tensor) -> list[Tensor]:
        """Of the steps with places `index` (N, K) in windows, told the contexts (N, C) before them."""

        def taken(values: Tensor) -> Tensor:
            flat = values.flatten(2)
            return flat.gather(1, index[..., None].expand(-1, -1, flat.shape[2])).flatten(0, 1)

        columns = window.observation, window.action / self.limit, window.next_observation
        observation, action, after = (taken(column) for column in columns)
        scalars = window.reward, window.terminated, valid.float(), window.extra["planned"].squeeze(-1)
        reward, ended, weight, planned = (taken(column[..., None]).squeeze(-1) for column in scalars)
        context = context.repeat_interleave(self.future, dim=0)
        resampled = weight * bootstrap(window.number.gather(1, index).flatten(), self.settings.model.members)
        model_loss = self.model.loss(Step(observation, action, after, reward, ended, resampled), context)
        centre = self.centre(observation, context.detach())  # the context is the model's: the policy only reads it
        gain = self.head.distribution.log_prob(taken(window.extra["plan"]), centre, self.head.spread)
        told = weight * planned
        return [model_loss, -(gain * told).sum() / told.sum().clamp(min=1)]


def bootstrap(number: Tensor, members: int) -> Tensor:
    """How often each member has transitions (N,) in its own resample of the replay, (E, N): Poisson(1), by hashing.

    So a transition counts for a member always or never the same (online bagging, Oza and Russell 2001).
    """
    mixed = (
        number * 0x9E3779B97F4A7C1 + torch.arange(1, members + 1, device=number.device)[:, None] * 0x5851F42D4C957F2D
    )
    mixed = (mixed ^ (mixed >> 32)) * 0x2545F4914F6CDD1D
    share = ((mixed >> 33) & 0x3FFFFFFF).double() / 2**30
    edges = torch.tensor([0.3679, 0.7358, 0.9197, 0.9810], dtype=torch.float64, device=number.device)
    return torch.bucketize(share, edges).float()
