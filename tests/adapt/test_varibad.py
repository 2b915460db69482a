"""VariBAD: the bound by hand, what gradients reach, and a belief that learns of an unseen goal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.episodes import Episodes
from adapt.learner import make_learner
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import TrainConfig
from adapt.train import Trainer
from adapt.varibad import VariBAD
from hardware_io.config import ConfigError, build
from hardware_io.interface import Interface
from policies.checkpoint import load_checkpoint
from policies.varibad import divergence, draw
from sim.families.grid_world import GridWorld, GridWorldSettings
from sim.vector_env import VectorEnv

LANES = 32
SMALL = {"memory": 16, "latent": 2, "decoder": [16], "hidden": [8], "critic_hidden": [8], "decode_motion": False}
GRID = {"size": 3, "steps": 5, "episodes": 2}


@pytest.fixture(scope="module")
def envs() -> Iterator[VectorEnv]:
    with VectorEnv(GridWorld(GridWorldSettings(**GRID)), LANES, workers=0, groups=1) as made:
        yield made


def learner_of(envs: VectorEnv, **settings: object) -> VariBAD:
    torch.manual_seed(0)
    made = make_learner("varibad", envs.family.interface, "test", {**SMALL, **settings})
    assert isinstance(made, VariBAD)
    return made


def episodes_of(learner: VariBAD, envs: VectorEnv, seed: int = 0) -> Episodes:
    return rollout(envs, learner, begin_trial(envs, learner, 1, np.random.default_rng(seed)), 1, (seed,))


def test_divergences_and_draws_are_those_of_normal_distributions() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4, 6), torch.randn(4, 6)

    def normal(belief: torch.Tensor) -> torch.distributions.Normal:
        mean, log_variance = belief.chunk(2, dim=-1)
        return torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))

    expected = torch.distributions.kl_divergence(normal(one), normal(other)).sum(-1)
    torch.testing.assert_close(divergence(one, other), expected)
    drawn = draw(one[0].expand(20_000, -1))
    torch.testing.assert_close(drawn.mean(0), normal(one[0]).mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), normal(one[0]).stddev, atol=0.05, rtol=0)


def test_the_bound_is_what_all_steps_say_from_every_step(envs: VectorEnv) -> None:
    """Every belief foretells every step but the last of each episode, whose next state nobody saw."""
    learner = learner_of(envs, sampled=100)
    episodes = episodes_of(learner, envs)
    learner.decoders["reward"].scale.update(episodes.reward.reshape(-1, 1))
    belief = torch.zeros(LANES, 10, 4)
    belief[..., 2:] = -50.0  # sure of 0, so that nothing is drawn
    belief[:, 5:, 0] = 1.0
    told = torch.ones(LANES, 10, dtype=torch.bool)
    told[:, [4, 9]] = False
    surprise, kl = learner._bound(belief, learner.transitions(episodes), torch.ones_like(told), told)
    cells = learner.state(episodes.observation)[:, 0]
    scale, expected = learner.decoders["reward"].scale, 0.0
    for first in (0.0, 1.0):
        latent = torch.tensor([first, 0.0]).expand(LANES, 10, 2)
        known = torch.cat([latent, cells[:, :-1], episodes.asked[:, 0], cells[:, 1:]], dim=-1)
        foretold = scale(learner.decoders["reward"](known))[..., 0]
        error = 0.5 * (foretold - scale(episodes.reward[:, 0, :, None])[..., 0]) ** 2
        expected += 0.5 * float((error * told).sum().detach() / LANES)
    assert surprise.item() == pytest.approx(expected, rel=1e-3)
    to_sure = 2 * 0.5 * (np.exp(-50.0) - 1 + 50.0)  # from standard normal to the first belief
    moved = 0.5 * np.exp(50.0)  # by 1 where the deviation is e⁻²⁵
    assert kl.item() == pytest.approx((to_sure + moved) / 10, rel=1e-3)


def test_policy_gradients_end_at_the_belief_and_the_bound_does_not_reach_the_policy(envs: VectorEnv) -> None:
    learner = learner_of(envs, learning_rate=0.0)
    before = {name: value.clone() for name, value in learner.named_parameters()}
    learner.meta_update([], episodes_of(learner, envs))
    changed = {name.split(".")[0] for name, value in learner.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"head", "critic"}
    learner = learner_of(envs, ppo={"learning_rate": 0.0, "critic_learning_rate": 0.0, "target_kl": 0.0})
    learner.meta_update([], episodes_of(learner, envs))
    changed = {name.split(".")[0] for name, value in learner.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"memory", "decoder"}


def test_a_belief_holds_where_a_rollout_ended(envs: VectorEnv) -> None:
    learner = learner_of(envs)
    inputs, valid = torch.randn(2, 2, 5, learner.input_size), torch.ones(2, 2, 5, dtype=torch.bool)
    valid[0, 0, 3:] = False
    belief = learner.beliefs(inputs, torch.zeros(2, 16), valid)
    assert torch.equal(belief[0, 3], belief[0, 2]) and torch.equal(belief[0, 4], belief[0, 2])
    assert not torch.equal(belief[1, 3], belief[1, 2])


def test_what_was_seen_changes_what_is_expected(envs: VectorEnv) -> None:
    """Where the goal was found it is expected again, and nowhere that was visited without finding it."""
    learner = learner_of(envs, learning_rate=0.01, kl_weight=0.01, ppo={"epochs": 1, "learning_rate": 0.0})
    surprises = [learner.meta_update([], episodes_of(learner, envs, seed))["surprise"] for seed in range(60)]
    assert np.mean(surprises[-5:]) < 0.85 * np.mean(surprises[:5])
    episodes = episodes_of(learner, envs, 1000)
    with torch.no_grad():
        belief = learner.beliefs(learner.inputs(episodes)[:, :, :-1], learner.fast0(LANES)[:, :16], episodes.valid)
        known, reward = learner.transitions(episodes)["reward"]
        mean = belief[:, -1:, :2].expand(-1, 10, -1)
        foretold = learner.decoders["reward"](torch.cat([mean, known], dim=-1))[..., 0]
    found = reward[..., 0] > 0
    assert foretold[found].mean() > foretold[~found].mean() + 0.3


def test_without_rewards_to_see_motion_alone_is_foretold() -> None:
    learner = make_learner("varibad", Interface(3, (1.0,), bounds=((0.0, 1.0),), nominal=(0.5,)), "test", {})
    assert isinstance(learner, VariBAD) and list(learner.decoders) == ["motion"]
    with pytest.raises(ConfigError, match=r"decode_motion: got False; allowed: true where"):
        make_learner("varibad", learner.interface, "test", {"decode_motion": False})


def test_a_resumed_training_equals_one_that_was_never_interrupted(tmp_path: Path) -> None:
    content = {"family": {"name": "grid_world", "settings": GRID}, "learner": {"name": "varibad", "settings": SMALL}}
    budget = {"lanes": 8, "workers": 0, "rollouts": 1, "checkpoint_every": 1, "evaluate_every": 0}

    def trainer(folder: str, iterations: int) -> Trainer:
        return Trainer(build(TrainConfig, {**content, **budget, "steps": iterations * 80}, "test"), tmp_path / folder)

    assert trainer("whole", 4).run() and trainer("parts", 2).run() and trainer("parts", 4).run()
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts["learner"][key]) for key, value in whole["learner"].items())
    moments = whole["optimiser"]["vae"]["state"][0]
    assert torch.equal(moments["exp_avg"], parts["optimiser"]["vae"]["state"][0]["exp_avg"]) and moments["step"] == 32
