"""What learners share that learn from a replay: trials under keys of their own, one optimiser, both in checkpoints.

`B` robots, `K` rollouts, `T` steps, `F` fast state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.episodes import Episodes
from adapt.learner import MetaLearner
from adapt.replay import Replay


class Replayed(MetaLearner):
    """Base of learners that make their `replay`; nothing is in the fast state as a trial begins."""

    replay: Replay
    trials = 0  # of single robots, so far: keys of the replay

    @abstractmethod
    def make_optimiser(self) -> torch.optim.Optimizer:
        """Asked once, when it is first needed: a subclass has all its parameters by then."""

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Of all that is learned from the replay."""
        if not hasattr(self, "_optimiser"):
            self._optimiser = self.make_optimiser()
        return self._optimiser

    def optimiser_state(self) -> dict[str, Any]:
        return {"adam": self.optimiser.state_dict(), "replay": self.replay.state_dict(), "trials": self.trials}

    def load_optimiser_state(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state["adam"])
        self.replay.load_state_dict(state["replay"])
        self.trials = state["trials"]

    def anneal(self, optimiser: torch.optim.Optimizer, rate: float, share: float) -> None:
        """Set its learning rate for now: `rate`, which falls to 0 in the last part of a training, a `share` of it.

        Weights that went on moving would end anywhere.
        """
        left = 1 - self.trained
        optimiser.param_groups[0]["lr"] = rate if left >= share else rate * left / share

    def keep_in(self, folder: Path) -> None:
        self.replay.keep_in(folder)

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        return torch.zeros(batch, len(self.kept), device=self.kept.device)

    def store(self, episodes: Episodes, extra: dict[str, Tensor] | None = None) -> Sequence[int]:
        """Put episodes into the replay, each robot's under a key of its own; the keys. `extra` is (B, K, T, ·) each."""
        keys = range(self.trials, self.trials + episodes.robots)
        self.trials += episodes.robots
        self.replay.append(episodes, keys, extra)
        return keys
