"""Latent search: what the encoder tells and what that costs, both searches, and an archive that outlives everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt.episodes import Episodes
from adapt.latent_search import LatentSearch, Told
from adapt.learner import make_learner
from adapt.outer import DivergenceError
from adapt.rollout import begin_trial, progress, rollout
from adapt.run_folder import TrainConfig
from adapt.searches import Evolved, Tried, Weighted
from adapt.train import Trainer
from hardware_io.config import ConfigError, build
from policies.bottleneck import Encoder
from policies.checkpoint import load_checkpoint
from sim.families.navigation import Navigation, NavigationSettings
from sim.vector_env import VectorEnv

LANES, LATENT = 4, 2
SMALL = {"latent": LATENT, "encoder": [8], "hidden": [8], "critic_hidden": [8], "archive": 12}


@pytest.fixture(scope="module")
def envs() -> Iterator[VectorEnv]:
    with VectorEnv(Navigation(NavigationSettings(horizon=5)), LANES, workers=0, groups=1) as made:
        yield made


def learner_of(envs: VectorEnv, **settings: Any) -> LatentSearch:
    torch.manual_seed(0)
    made = make_learner("latent_search", envs.family.interface, "test", {**SMALL, **settings})
    assert isinstance(made, LatentSearch)
    return made


def with_returns(episodes: Episodes, values: torch.Tensor) -> Episodes:
    """The same episodes with other returns (B, K)."""
    reward = torch.zeros_like(episodes.reward)
    reward[:, :, 0] = values
    return replace(episodes, reward=reward)


def searched(learner: LatentSearch, envs: VectorEnv, paid: Callable[[torch.Tensor], torch.Tensor], tries: int) -> Any:
    """The fast state after so many adaptations to what a latent (B, Z) is paid, (B,)."""
    episodes = rollout(envs, learner, learner.fast0(LANES), 1, (0,))
    fast = learner.fast0(LANES)
    for _ in range(tries):
        tried = replace(episodes, fast=fast[:, None])
        fast = learner.adapt(fast, with_returns(tried, paid(learner.latent_of(fast))[:, None]))
    return fast


def test_the_divergence_and_its_gradient_are_the_closed_form() -> None:
    torch.manual_seed(0)
    encoder, inputs, noise = Encoder(3, (4,), 2), torch.randn(5, 3), torch.randn(5, 2)
    mean, log_variance = encoder.network(inputs).chunk(2, dim=-1)
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(encoder.told(inputs), expected)
    price = torch.tensor([[0.0], [0.1], [0.2], [0.3], [0.4]])
    drawn = mean + torch.exp(0.5 * log_variance) * noise
    wanted = torch.autograd.grad(drawn.sin().sum() + (price[:, 0] * expected).sum(), list(encoder.parameters()))
    got = encoder.draw(inputs, noise, price)
    torch.testing.assert_close(got, drawn, atol=1e-6, rtol=0)
    for one, other in zip(torch.autograd.grad(got.sin().sum(), list(encoder.parameters())), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_weighted_regression_by_hand() -> None:
    """Returns of deviation 1 and mean 2, α = 1: the weights of the two are e⁻² and 1, that of the start is e⁻¹."""
    tried = Tried(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([1.0, 3.0]))
    mean, deviation = Weighted(spread=0.5, temperature=1.0).distribution(tried)
    low, start = np.exp(-2.0), np.exp(-1.0)
    expected = (low * tried.latents[0] + tried.latents[1]) / (low + 1 + start)
    apart = low * (tried.latents[0] - expected) ** 2 + (tried.latents[1] - expected) ** 2
    np.testing.assert_allclose(mean, expected)
    np.testing.assert_allclose(deviation**2, (apart + 0.25) / (low + 2))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_returns_that_are_all_alike_tell_nothing(count: int) -> None:
    mean, deviation = Weighted(0.5, 0.25).distribution(Tried(np.zeros((count, 2)), np.full(count, 7.0)))
    assert not mean.any() and np.all((deviation > 0.2) & (deviation <= 0.5))


class Prior:
    def propose(self, tried: Tried, seed: int) -> np.ndarray:
        return np.random.default_rng((seed, len(tried.returns))).standard_normal(2)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_both_searches_find_the_best_latent_and_sooner_than_draws_from_the_prior(noise: float) -> None:
    best, settled, robots, tries = np.array([1.0, -1.2]), Weighted(1.0, 0.25), range(6), 30

    def distance(search: Any, seed: int) -> float:
        rng, latents, returns = np.random.default_rng(seed), [np.zeros(2)], list[float]()
        for _ in range(tries):
            returns.append(-((latents[-1] - best) ** 2).sum() + noise * rng.standard_normal())
            tried = Tried(np.array(latents), np.array(returns))
            latents.append(search.propose(tried, seed))
        return float(np.linalg.norm(settled.distribution(tried)[0] - best))

    found = {type(one): np.mean([distance(one, k) for k in robots]) for one in (settled, Evolved(1.0), Prior())}
    assert max(found[Weighted], found[Evolved]) < 0.35 and max(found[Weighted], found[Evolved]) < found[Prior]


@pytest.mark.parametrize("search", ["awr", "cma"])
def test_the_archive_goes_on_over_adaptations_and_overflows_without_harm(search: str, envs: VectorEnv) -> None:
    learner, best = learner_of(envs, search=search), torch.tensor([0.6, -0.4])

    def paid(latent: torch.Tensor) -> torch.Tensor:
        return -(latent - best).square().sum(-1)

    first, whole = searched(learner, envs, paid, 9), searched(learner, envs, paid, 40)
    assert torch.equal(searched(learner, envs, paid, 40), whole), "asked again, it answers the same"
    assert torch.equal(first[:, ~learner.kept], learner.fast0(LANES)[:, ~learner.kept]) and first.isfinite().all()
    archive = learner.memory_size - 1 - 12 * (LATENT + 1)
    rows = first[:, archive : learner.memory_size - 1].view(LANES, 12, LATENT + 1)
    assert not rows[:, :3].any() and first[:, learner.memory_size - 1].tolist() == [9.0] * LANES
    torch.testing.assert_close(paid(rows[..., :LATENT])[:, 3:], rows[:, 3:, LATENT])
    assert not rows[:, 3, :LATENT].any(), "what is deployed is tried first"
    before, after = (paid(learner.latent_of(learner.settle(fast))).mean() for fast in (learner.fast0(LANES), whole))
    assert whole[:, learner.memory_size - 1].tolist() == [40.0] * LANES and after > 0.5 * before


def test_rollouts_together_are_tries_each_with_the_latent_that_it_began_with(envs: VectorEnv) -> None:
    learner = learner_of(envs)
    episodes = rollout(envs, learner, learner.fast0(LANES), 2, (0,))
    starts = learner.fast0(LANES)[:, None].repeat(1, 2, 1)
    learner.latent_of(starts)[:, 1] = 0.5
    returns = torch.arange(2.0 * LANES).view(LANES, 2)
    together = learner.adapt(starts[:, 0], with_returns(replace(episodes, fast=starts), returns))
    one_by_one = learner.fast0(LANES)
    for k in range(2):
        single = rollout(envs, learner, starts[:, k], 1, (0,))
        one_by_one = learner.adapt(one_by_one, with_returns(single, returns[:, k : k + 1]))
    assert torch.equal(together, one_by_one)


def test_a_return_that_is_no_number_is_refused_by_name(envs: VectorEnv) -> None:
    learner = learner_of(envs)
    episodes = rollout(envs, learner, learner.fast0(LANES), 1, (0,))
    with pytest.raises(DivergenceError, match=r"task 1: its rollouts return \[nan\]; allowed: finite"):
        learner.adapt(learner.fast0(LANES), with_returns(episodes, torch.tensor([[1.0], [torch.nan], [1.0], [1.0]])))


def test_an_archive_is_refused_that_holds_no_two_generations(envs: VectorEnv) -> None:
    with pytest.raises(ConfigError, match=r"archive: got 11; allowed: at least 12, two generations of cma"):
        learner_of(envs, search="cma", archive=11)


def test_only_what_collects_is_told_and_what_it_drew_is_drawn_again(envs: VectorEnv) -> None:
    learner = learner_of(envs)
    told = learner.collector()
    fast = begin_trial(envs, told, 1, np.random.default_rng(0))
    again = begin_trial(envs, told, 1, np.random.default_rng(0))
    assert torch.equal(fast, again) and not torch.equal(begin_trial(envs, told, 1, np.random.default_rng(1)), fast)
    assert not begin_trial(envs, learner, 1, np.random.default_rng(0)).any(), "whoever is scored is not told"
    assert isinstance(told, Told) and learner.latent_of(fast).std() > 0
    begin_trial(envs, told, 1, np.random.default_rng(0))
    episodes = rollout(envs, told, fast, 2, (1,))
    read, _ = learner.read_through(
        learner.inputs(episodes)[:, :, :-1], episodes.fast[:, 0, : learner.memory_size], episodes.valid
    )
    drawn = read[..., learner.input_size :]
    torch.testing.assert_close(drawn, learner.latent_of(fast)[:, None, None].expand_as(drawn), atol=1e-6, rtol=0)
    assert drawn.requires_grad and torch.equal(told.adapt(fast, episodes), fast)
    before = [value.clone() for value in learner.encoder.parameters()]
    assert learner.meta_update([], episodes)["told"] > 0
    assert not any(torch.equal(a, b) for a, b in zip(before, learner.encoder.parameters(), strict=True))
    with pytest.raises(ValueError, match="unknown dynamics"):
        told.fast0(LANES)


def test_a_search_is_scored_by_what_it_settles_on(envs: VectorEnv) -> None:
    learner = learner_of(envs)
    learner.head.network[-1].weight.data *= 30  # so that the latent shows in the action
    fast = begin_trial(envs, learner, 1, np.random.default_rng(0))
    returns, _ = progress(envs, learner, fast, 2, 1, (3,))
    for index in range(3):
        expected = rollout(envs, learner, learner.settle(fast), 1, (3, index, 1), explore=False)
        assert torch.equal(returns[:, index], expected.returns[:, 0])
        fast = learner.adapt(fast, rollout(envs, learner, fast, 1, (3, index), explore=False))


def test_a_training_resumes_exactly(tmp_path: Path) -> None:
    content = {
        "family": {"name": "navigation", "settings": {"horizon": 5}},
        "learner": {"name": "latent_search", "settings": SMALL},
    }
    budget = {"lanes": 8, "workers": 0, "rollouts": 2, "checkpoint_every": 1, "evaluate_every": 3, "overlap": True}

    def trainer(folder: str) -> Trainer:
        return Trainer(build(TrainConfig, {**content, **budget, "steps": 6 * 8 * 2 * 5}, "test"), tmp_path / folder)

    assert trainer("whole").run()
    parts = trainer("parts")
    parts.run(lambda progress, _: parts.interrupt() if progress.iteration == 4 else None)
    assert trainer("parts").run()
    states = [load_checkpoint(tmp_path / name / "checkpoint.pt")["learner"] for name in ("whole", "parts")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    with pytest.raises(ConfigError, match=r"copies: got 2; allowed: 1 for latent_search: each rollout is a try"):
        Trainer(build(TrainConfig, {**content, **budget, "copies": 2}, "test"), tmp_path / "copies", "test")
