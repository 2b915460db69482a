"""The one interface of all meta-learners, and the table of them.

A learner is frozen slow weights plus a *fast state*, a flat float32 vector a robot; adaptation only ever changes it.
`B` robots, `O` observation, `A` action, `F` fast state, `P` hidden parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from adapt.episodes import Episodes
from hardware_io.config import ConfigError, build
from hardware_io.interface import Interface

META_LEARNERS = {  # name → (module, class)
    "rl2": ("adapt.rl2", "RL2"),
    "ntm": ("adapt.ntm", "NTM"),
    "mann": ("adapt.mann", "MANN"),
    "meta_networks": ("adapt.meta_networks", "MetaNetworks"),
    "varibad": ("adapt.varibad", "VariBAD"),
    "rma": ("adapt.rma", "RMA"),
    "transformer": ("adapt.transformer", "TransformerPolicy"),
    "linear_transformer": ("adapt.linear_transformer", "LinearTransformerPolicy"),
    "ppo": ("adapt.nominal", "Nominal"),
    "domain_randomised": ("adapt.domain_randomised", "DomainRandomised"),
    "domain_randomised_memory": ("adapt.recurrent", "Recurrent"),
    "oracle": ("adapt.oracle", "Oracle"),
    "latent_search": ("adapt.latent_search", "LatentSearch"),
    "maml": ("adapt.maml", "MAML"),
    "fomaml": ("adapt.fomaml", "FOMAML"),
    "meta_sgd": ("adapt.meta_sgd", "MetaSGD"),
    "anil": ("adapt.anil", "ANIL"),
    "promp": ("adapt.promp", "ProMP"),
    "reptile": ("adapt.reptile", "Reptile"),
    "fine_tune": ("adapt.fine_tune", "FineTune"),
    "scratch": ("adapt.scratch", "Scratch"),
    "reinforce": ("adapt.reinforce", "Reinforce"),
    "sac": ("adapt.sac", "SAC"),
    "discrete_sac": ("adapt.discrete_sac", "DiscreteSAC"),
    "pearl": ("adapt.pearl", "PEARL"),
    "dqn": ("adapt.dqn", "DQN"),
    "dqn_mapping": ("adapt.dqn_mapping", "DQNMapping"),
    "pets": ("adapt.pets", "PETS"),
    "grbal": ("adapt.grbal", "GrBAL"),
    "rebal": ("adapt.rebal", "ReBAL"),
}


class Actor(Protocol):
    """What acts in rollouts: a learner, or whatever collects for it."""

    kept: Tensor
    in_graph: bool

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor: ...

    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]: ...

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor: ...

    def start_rollout(self, fast: Tensor) -> Tensor: ...


class MetaLearner(nn.Module, ABC):
    """`fast0`, `act`, `unroll`, `adapt`, `meta_update`; everything else in the project goes through these."""

    Settings: type  # dataclass of the learner's own settings
    trained: float = 0.0  # share of the training that is over, as the outer loop says
    entries: dict[str, int] = {}  # noqa: RUF012  those of the fast state that tell people something, by name
    kept: Tensor  # (F,) bool: what is carried from rollout to rollout; the rest returns to its initial value
    randomised = True  # whether it is trained on random tasks; if not, on the nominal one
    overlaps = True  # whether its update can do with what older weights did, by the probabilities that were recorded
    continuous, discrete = True, True  # what kinds of actions it can give
    in_graph = True  # whether it adapts inside the graph; if not, `adapt` changes the fast state between rollouts
    searches = False  # whether `adapt` compares rollouts, one a try and without noise; training then goes on without it

    @abstractmethod
    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        """Initial fast state (B, F). Only a privileged learner reads the true `dynamics` (B, P)."""

    @abstractmethod
    def act(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Observation (B, O), fast (B, F), noise (B, A) → command (B, A) N·m, next fast (B, F), per-step extras."""

    @abstractmethod
    def unroll(self, episodes: Episodes, fast: Tensor) -> tuple[Tensor, Tensor]:
        """`act` over whole episodes from `fast` (B, F): action means (B, K, T, A) and fast after them (B, F)."""

    @abstractmethod
    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        """The fast state (B, F) for the next rollouts, from the one (B, F) with which `episodes` were recorded."""

    def settle(self, fast: Tensor) -> Tensor:
        """The fast state (B, F) to act with when no more rollouts teach: what is tried next need not be the best."""
        return fast

    @abstractmethod
    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        """One outer step from what was recorded before each `adapt`, and after the last; returns metrics."""

    @abstractmethod
    def optimiser_state(self) -> dict[str, Any]:
        """What the outer optimiser needs to go on exactly, as tensors and plain data."""

    @abstractmethod
    def load_optimiser_state(self, state: dict[str, Any]) -> None:
        """Take it back."""

    def collector(self) -> Actor:
        """What acts in the rollouts of training: something slower but better, such as a planner, or the learner."""
        return self

    def keep_in(self, folder: Path) -> None:
        """Told once, before training begins or goes on, where what outgrows memory may lie: a folder of its own."""

    def start_rollout(self, fast: Tensor) -> Tensor:
        """`fast` (B, F) as a rollout begins: what is not kept returns to its initial value."""
        return torch.where(self.kept, fast, self.fast0(len(fast)))


def class_of(name: str) -> type[MetaLearner]:
    """Of a learner in the table."""
    module, attribute = META_LEARNERS[name]
    cls: type[MetaLearner] = getattr(import_module(module), attribute)
    return cls


def make_learner(name: str, interface: Interface, source: str, settings: dict[str, Any]) -> MetaLearner:
    """A learner for what it sees and gives, with `settings` of its own. Raises ConfigError naming `source`, key."""
    if name not in META_LEARNERS:
        raise ConfigError(source, "learner.name", name, f"one of {', '.join(META_LEARNERS)}")
    cls = class_of(name)
    if not (cls.discrete if interface.discrete else cls.continuous):
        kind = "discrete" if interface.discrete else "continuous"
        raise ConfigError(source, "learner.name", name, f"a learner that gives {kind} actions")
    return cls(interface, build(cls.Settings, settings, source, "learner"))
