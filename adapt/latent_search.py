"""Latent search (Peng et al. 2020, https://arxiv.org/abs/2004.00784): what suits a robot is found by trying.

In training an encoder makes a latent z of the true hidden parameters, drawn once a trial, and the policy reads it. What
z tells has its price, β KL(E(z | μ) ‖ N(0, I)), so that near latents suit near robots. On a robot nobody tells the
parameters: each rollout tries a latent, `adapt` proposes the next one from all that were tried, and `settle` says which
to act with. `P` hidden parameters, `Z` latent, `N` rollouts of the archive, `F` fast state, `M` memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from adapt.actor_critic import ActorCritic, ActorCriticSettings
from adapt.episodes import Episodes
from adapt.outer import DivergenceError
from adapt.searches import Evolved, Tried, Weighted, generation
from hardware_io.config import ConfigError, option
from hardware_io.interface import Interface
from policies.bottleneck import Encoder

AWR, CMA = "awr", "cma"


@dataclass(frozen=True)
class LatentSearchSettings(ActorCriticSettings):
    latent: int = option(4, min=1, help="Z")
    encoder: tuple[int, ...] = option((64, 32), min=1, help="units of the encoder's hidden layers")
    bottleneck: float = option(1e-3, min=0.0, help="price of a nat that the latent tells (β)")
    search: str = option(AWR, choices=(AWR, CMA), help="advantage-weighted regression, or CMA-ES")
    spread: float = option(1.0, min=1e-6, help="standard deviation of the first latents to try, around 0")
    temperature: float = option(0.25, min=1e-3, unit="standard deviations of the returns", help="α of awr")
    archive: int = option(64, min=1, unit="rollouts", help="that a search remembers")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search == CMA and self.archive < 2 * generation(self.latent):
            allowed = f"at least {2 * generation(self.latent)}, two generations of {CMA}"
            raise ConfigError("", "archive", self.archive, allowed)


class LatentSearch(ActorCritic):
    """The memory: true parameters (P), whether they are known (1), the noise of the encoder's draw (Z), the latent in
    use (Z), the archive of latents and returns (N x (Z + 1)), the newest last, and how many were tried (1)."""

    Settings = LatentSearchSettings
    settings: LatentSearchSettings
    in_graph = False
    searches = True

    def __init__(self, interface: Interface, settings: LatentSearchSettings) -> None:
        parameters, latent = len(interface.bounds), settings.latent
        self.parts = [parameters, 1, latent, latent, settings.archive * (latent + 1), 1]
        super().__init__(interface, settings, memory=sum(self.parts))
        self.interface = interface
        self.encoder = Encoder(parameters, settings.encoder, latent)
        self.weighted = Weighted(settings.spread, settings.temperature)
        self.search = Evolved(settings.spread) if settings.search == CMA else self.weighted
        self.finish_setup()

    def policy_input_size(self) -> int:
        return self.input_size + self.settings.latent

    def collector(self) -> Told:
        return Told(self)

    def fast_of(self, dynamics: Tensor) -> Tensor:
        """The initial fast state (B, F) of robots whose true parameters (B, P) the encoder is told.

        Its noise follows from the robots, which are others in each trial, so that a trial can be simulated again.
        """
        fast, known = self.fast0(len(dynamics)), self.normalise(dynamics)
        generator = torch.Generator().manual_seed(crc32(dynamics.cpu().numpy().tobytes()))
        noise = torch.randn(len(fast), self.settings.latent, generator=generator).to(fast)
        with torch.no_grad():
            latent = self.encoder.draw(known, noise, torch.zeros_like(known[:, :1]))
        told = torch.cat([known, torch.ones_like(known[:, :1]), noise, latent], dim=-1)
        fast[:, : told.shape[1]] = told
        return fast

    def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        latent = memory.split(self.parts, dim=-1)[3]
        return self.head(torch.cat([inputs, latent], dim=-1)), memory

    def read_through(self, inputs: Tensor, memory: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        known, told, noise, latent, _, _ = memory.split(self.parts, dim=-1)
        drawn = self.encoder.draw(known, noise, told * (self.settings.bottleneck / len(told)))
        latent = torch.where(told > 0, drawn, latent)
        return torch.cat([inputs, latent[:, None, None].expand(*inputs.shape[:3], -1)], dim=-1), memory

    def meta_update(self, support: list[Episodes], query: Episodes) -> dict[str, float]:
        metrics = super().meta_update(support, query)
        assert query.dynamics is not None
        with torch.no_grad():
            told = self.encoder.told(self.normalise(query.dynamics))
        return {**metrics, "told": float(told.mean())}

    @torch.no_grad()
    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        """Each rollout enters the archive with the latent that it tried, and the next one to try is proposed.

        Raises DivergenceError.
        """
        returns, kept = episodes.returns, self.settings.archive
        for robot, values in enumerate(returns.tolist()):
            if not np.isfinite(values).all():
                raise DivergenceError(f"task {robot}: its rollouts return {values}; allowed: finite numbers")
        before, latent, archive, count, state = self._parted(fast)
        tried = self.latent_of(episodes.fast)
        archive = torch.cat([archive, torch.cat([tried, returns[..., None]], dim=-1)], dim=1)[:, -kept:]
        count = count + episodes.rollouts
        found = [self.search.propose(one, robot) for robot, one in enumerate(_tried(archive, count))]
        return torch.cat([before, _like(latent, found), archive.flatten(1), count, state], dim=-1)

    @torch.no_grad()
    def settle(self, fast: Tensor) -> Tensor:
        """With the mean of the distribution that follows the returns, which no single lucky rollout decides."""
        before, latent, archive, count, state = self._parted(fast)
        found = [self.weighted.distribution(tried)[0] for tried in _tried(archive, count)]
        return torch.cat([before, _like(latent, found), archive.flatten(1), count, state], dim=-1)

    def latent_of(self, fast: Tensor) -> Tensor:
        """The latent in use (..., Z) of fast states (..., F)."""
        return self._parted(fast)[1]

    def _parted(self, fast: Tensor) -> tuple[Tensor, ...]:
        """Parts of (..., F): what comes before the latent, latent (..., Z), archive (..., N, Z+1), count, history."""
        parts = [sum(self.parts[:3]), *self.parts[3:], self.history.size]
        before, latent, archive, count, state = fast.split(parts, dim=-1)
        return before, latent, archive.unflatten(-1, (self.settings.archive, -1)), count, state


class Told:
    """Acts in training: the learner with a latent that its encoder drew for the true robot, whatever it returns."""

    in_graph = False

    def __init__(self, learner: LatentSearch) -> None:
        self.learner, self.kept = learner, learner.kept
        self.act, self.start_rollout = learner.act, learner.start_rollout

    def fast0(self, batch: int, dynamics: Tensor | None = None) -> Tensor:
        if dynamics is None:
            raise ValueError("robots with unknown dynamics cannot train the encoder; real rollouts only adapt")
        return self.learner.fast_of(dynamics)

    def adapt(self, fast: Tensor, episodes: Episodes) -> Tensor:
        return fast


def _tried(archive: Tensor, count: Tensor) -> list[Tried]:
    """What each robot's archive (B, N, Z+1) holds after so many rollouts (B, 1)."""
    rows = archive.double().cpu().numpy()
    result = []
    for row, number in zip(rows, count[:, 0].long().tolist(), strict=True):
        held = min(number, len(row))
        result.append(Tried(row[len(row) - held :, :-1], row[len(row) - held :, -1], number - held))
    return result


def _like(latent: Tensor, found: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(found)).to(latent)
