"""Which tasks a trial is about: all of them alike, a range that widens, or those that teach something at present.

A curriculum chooses the tasks of a trial once it has seen the trial before it, and never during an update, so that it
is the same whether or not updates and simulation overlap. Evaluations and learners that know the nominal task alone
have nothing to do with it. `B` tasks of a trial, `P` hidden parameters, `L` lived tasks, `N` transitions of each,
`X` numbers of a transition, `Z` representation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from adapt.dqn_mapping import Lived
from adapt.episodes import Episodes
from adapt.similarity import nearest
from hardware_io.config import ConfigError, option
from hardware_io.state import Array
from policies.features import Normaliser
from policies.task_model import TaskModel
from sim.family import Family

NONE, WIDEN, SIMILAR = KINDS = ("none", "widen", "similar")
LATENT, HIDDEN, RATE = 8, 32, 3e-3  # of the model that tells how similar tasks are
CANDIDATES = 4  # for every task that is chosen
MEMORY = 0.1  # weight of the newest trial in running means
RIDGE = 1e-2  # a task's worth of evidence that parameters do not matter


@dataclass(frozen=True)
class CurriculumSettings:
    """How tasks are drawn in training; evaluations draw them all alike."""

    kind: str = option(NONE, choices=KINDS, help="what tasks of training are drawn by: none, widen or similar")
    least: float = option(0.2, min=0.01, max=1.0, help="widen: share of the range, about the nominal task, to begin at")
    step: float = option(0.02, min=0.0, max=1.0, help="widen: change of this share after a trial")
    inside: float = option(0.25, min=0.01, max=0.99, help="widen: share of tasks nearer the nominal one, to compare")
    enough: float = option(0.8, min=0.0, max=1.0, help="widen: part of what is gained inside that widens the range")
    uniform: float = option(0.25, min=0.01, max=1.0, help="similar: share of tasks drawn as without a curriculum")
    library: int = option(1024, min=1, unit="tasks", help="similar: that progress is told from, the newest")
    transitions: int = option(32, min=1, help="similar: that represent a task")
    neighbours: int = option(8, min=1, unit="tasks", help="similar: whose progress is that of a new task")
    updates: int = option(10, min=0, unit="gradient steps", help="similar: of what tells similarity, after a trial")


class Curriculum(ABC):
    """`draw` tasks, `observe` what became of them; `state` is all that it needs to go on exactly."""

    def __init__(self, settings: CurriculumSettings, family: Family) -> None:
        self.settings, self.family = settings, family
        self.nominal = np.array(family.interface.nominal)
        low, high = np.array(family.interface.bounds).reshape(-1, 2).T
        self.reach = np.where(high > low, (high - low) / 2, 1.0)

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Hidden parameters (B, P) of so many tasks."""

    @abstractmethod
    def observe(self, episodes: Episodes) -> dict[str, float]:
        """Take in how the tasks that were drawn last went; returns metrics."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Tensors and plain data."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take it back."""

    def distance(self, tasks: Array) -> float:
        """Of tasks (B, P) from the nominal one, mean over both, in halves of the ranges of training."""
        return float((np.abs(tasks - self.nominal) / self.reach).mean())


class Widen(Curriculum):
    """A share of the range about the nominal task, which follows how well its tasks are done.

    As automatic domain randomisation (OpenAI 2019, https://arxiv.org/abs/1910.07113), with one share for all parameters
    and no return that has to be named: the share grows when tasks of the whole of it get `enough` of what training has
    gained on those further inside, and shrinks when they do not.
    """

    def __init__(self, settings: CurriculumSettings, family: Family) -> None:
        super().__init__(settings, family)
        self.share = settings.least
        self.means: list[float] = []  # return before training; running means of that inside and of that of the whole

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        tasks, depth = self.family.sample(count, rng), np.full((count, 1), self.share)
        depth[: self._inside(count)] *= rng.uniform(size=(self._inside(count), 1))
        return self.nominal + depth * (tasks - self.nominal)

    def _inside(self, count: int) -> int:
        """How many of the first tasks lie further inside."""
        return min(max(round(count * self.settings.inside), 1), count - 1)

    def observe(self, episodes: Episodes) -> dict[str, float]:
        returns = episodes.returns.mean(1)
        count, share = self._inside(len(returns)), self.share
        inside, whole = float(returns[:count].mean()), float(returns[count:].mean())
        if not self.means:
            self.means = [float(returns.mean()), inside, whole]
        untrained, *before = self.means
        inside, whole = (old + MEMORY * (new - old) for old, new in zip(before, (inside, whole), strict=True))
        self.means = [untrained, inside, whole]
        wider = whole - untrained >= self.settings.enough * (inside - untrained)
        step = self.settings.step if wider else -self.settings.step
        self.share = float(np.clip(share + step, self.settings.least, 1.0))
        return {
            "curriculum_share": share,
            "curriculum_distance": self.distance(known(episodes)),
            "curriculum_inside": inside,
            "curriculum_whole": whole,
        }

    def state(self) -> dict[str, Any]:
        return {"share": self.share, "means": self.means}

    def load_state(self, state: dict[str, Any]) -> None:
        self.share, self.means = state["share"], state["means"]


class Similar(Curriculum):
    """Tasks from which progress is expected, because similar ones made some (cf. Portelas et al. 2019).

    https://arxiv.org/abs/1910.07224. There tasks are neighbours by their parameters, here by what happens in them: a
    model learns from the rollouts at hand to represent a task. A lived task's progress is how much its return differs
    from that of the most similar ones that were lived before. A candidate's representation is foretold from its
    parameters, by a linear map that is fitted to the lived tasks; its expected progress is what its nearest neighbours
    made together, better or worse. Of the candidates the most promising are chosen.
    """

    def __init__(self, settings: CurriculumSettings, family: Family) -> None:
        super().__init__(settings, family)
        interface = family.interface
        size = 2 * interface.observation + interface.actions + 1
        self.model, self.scale = TaskModel(interface.observation, interface.actions, LATENT, HIDDEN), Normaliser(size)
        self.optimiser = torch.optim.Adam(self.model.parameters(), RATE)
        self.generator = torch.Generator().manual_seed(0)
        self.lived = {  # parameters, transitions, return and progress of the newest tasks, the oldest first
            "task": torch.zeros(0, len(self.nominal)),
            "rows": torch.zeros(0, settings.transitions, size),
            "returns": torch.zeros(0),
            "progress": torch.zeros(0),
        }
        self.promised: list[float] = []  # progress expected of tasks that were chosen last, and of all candidates

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        free = count - max(round(count * self.settings.uniform), 1)
        tasks, candidates = self.family.sample(count - free, rng), self.family.sample(CANDIDATES * free, rng)
        expected = self.expected(torch.from_numpy(candidates).float())
        best = expected.argsort(descending=True, stable=True)[:free]
        self.promised = [float(expected[best].mean()), float(expected.mean())] if free else []
        return np.concatenate([tasks, candidates[best.numpy()]])

    @torch.no_grad()
    def expected(self, tasks: Tensor) -> Tensor:
        """Progress expected of tasks (B, P), (B,); of all the same as long as none was lived."""
        lived, progress = self.lived["task"], self.lived["progress"]
        if not len(lived):
            return torch.zeros(len(tasks))
        latent = self.model.encode(self.scale(self.lived["rows"]))
        mean, spread = lived.mean(0), lived.std(0, correction=0).clamp(min=1e-6)
        given, asked = (pad((x - mean) / spread, (0, 1), value=1.0).double() for x in (lived, tasks))
        fit = torch.linalg.solve(given.T @ given + RIDGE * torch.eye(given.shape[1]), given.T @ latent.double())
        chosen, share = nearest(torch.cdist(asked @ fit, given @ fit), self.settings.neighbours)
        return (share.float() * progress[chosen]).sum(1).abs()

    def observe(self, episodes: Episodes) -> dict[str, float]:
        returns, rows = episodes.returns.mean(1).cpu(), self.rows(episodes)
        self.scale.update(rows.flatten(0, 1))
        error = self.learn(self.scale(rows))
        with torch.no_grad():
            progress = torch.zeros(len(returns))
            if len(self.lived["task"]):
                latent, before = (self.model.encode(self.scale(x)) for x in (rows, self.lived["rows"]))
                chosen, share = nearest(torch.cdist(latent, before), self.settings.neighbours)
                progress = returns - (share * self.lived["returns"][chosen]).sum(1)
        task = torch.from_numpy(known(episodes)).float()
        new = {"task": task, "rows": rows, "returns": returns, "progress": progress}
        self.lived = {k: torch.cat([v, new[k]])[-self.settings.library :] for k, v in self.lived.items()}
        metrics = {
            "curriculum_distance": self.distance(known(episodes)),
            "curriculum_progress": progress.abs().mean().item(),
            "curriculum_foretelling": error,
        }
        return metrics | dict(zip(("curriculum_expected", "curriculum_candidates"), self.promised, strict=False))

    def rows(self, episodes: Episodes) -> Tensor:
        """Transitions spread evenly over each task's episodes, (B, N, X), each number in its own unit."""
        count = self.settings.transitions
        batch = Lived(episodes).at((torch.arange(count, device=episodes.reward.device) + 0.5) / count)
        change = batch.next_observation - batch.observation
        return torch.cat([batch.observation, batch.action, batch.reward[..., None], change], dim=-1).cpu()

    def learn(self, rows: Tensor) -> float:
        """Gradient steps on scaled transitions (B, N, X): one half represents a task, the other is foretold."""
        error = torch.zeros(())
        for _ in range(self.settings.updates):
            order = torch.randperm(rows.shape[1], generator=self.generator)
            seen, held_out = rows[:, order[::2]], rows[:, order[1::2]]
            error = self.model.error(self.model.encode(seen), held_out).mean()
            self.optimiser.zero_grad()
            error.backward()
            self.optimiser.step()
        return error.item()

    def state(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("model", "scale", "optimiser")}
        return {**parts, "generator": self.generator.get_state(), "lived": self.lived, "promised": self.promised}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in ("model", "scale", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.lived, self.promised = state["lived"], state["promised"]


def known(episodes: Episodes) -> Array:
    """Hidden parameters of simulated tasks, (B, P)."""
    assert episodes.dynamics is not None  # in simulation they are known
    return episodes.dynamics.double().cpu().numpy()


def make_curriculum(settings: CurriculumSettings, family: Family, tasks: int, source: str) -> Curriculum | None:
    """That of trials of so many tasks; None: all tasks are drawn alike. Raises ConfigError."""
    if settings.kind == NONE:
        return None
    if tasks < 2:
        raise ConfigError(source, "curriculum.kind", settings.kind, f"{NONE} where a trial has {tasks} task")
    if settings.kind == WIDEN and not family.convex:
        allowed = f"{NONE} or {SIMILAR}: between tasks of {family.name} there need be none"
        raise ConfigError(source, "curriculum.kind", WIDEN, allowed)
    return (Widen if settings.kind == WIDEN else Similar)(settings, family)
