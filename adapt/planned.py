"""Acts in the training of a model-based learner: by planning with its model, or by its policy where that is to learn.

Its fast state is the learner's, then the plan, so that the next step begins with it, and whether the policy drives.
`B` robots, `F` fast state of the learner, `H` horizon, `A` action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapt.episodes import Episodes
from adapt.planning import PlannerSettings, later, plan

if TYPE_CHECKING:
    from adapt.model_based import ModelBased


class Planned:
    """What `rollout` asks of whatever acts."""

    in_graph = True

    def __init__(self, learner: ModelBased, settings: PlannerSettings, driven: float) -> None:
        """The policy drives a share `driven` of the rollouts, once there is a model."""
        self.learner, self.settings, self.kept = learner, settings, learner.kept
        self.driven = driven if learner.begun else 0.0

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        return self._begin(self.learner.fast0(batch, dynamics))

    def start_rollout(self, fast: Tensor) -> Tensor:
        """The plan ends with a rollout, and who drives the next one is drawn."""
        return self._begin(self.learner.start_rollout(fast[:, : len(self.kept)]))

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        return self._begin(self.learner.adapt(fast[:, : len(self.kept)], episodes))

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Extras: the `action`, what the planner would do (`plan`), and whether the policy drives (`driven`).

        Without a model actions are noise alone.
        """
        learner, settings, (batch, size) = self.learner, self.settings, noise.shape
        own, before, drives = fast.split([len(self.kept), settings.horizon * size, 1], dim=-1)
        context, memory = learner.recall(observation, own)
        actions = before.view(batch, settings.horizon, size)
        if learner.begun:
            actions = plan(learner.model, observation, context, actions, settings)
        else:
            actions = noise[:, None].clamp(-1, 1).expand_as(actions)
        drawn = learner.head.distribution.sample(learner.centre(observation, context), learner.head.spread, noise)
        action = torch.where(drives > 0, drawn.clamp(-1, 1), actions[:, 0])
        after = learner.leave(observation, action, context, memory, own)
        following = torch.cat([after, later(actions).flatten(1), drives], dim=-1)
        return action * learner.limit, following, {"action": action, "plan": actions[:, 0], "driven": drives[:, 0]}

    def _begin(self, own: Tensor) -> Tensor:
        drives = (torch.rand(len(own), 1) < self.driven).to(own)
        return torch.cat(
            [own, own.new_zeros(len(own), self.settings.horizon * len(self.learner.limit)), drives], dim=-1
        )
