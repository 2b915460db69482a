"""Soft actor-critics and PEARL: exact gradients, one belief everywhere, exact resume, and learning on tiny tasks."""

from __future__ import annotations

import os
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from adapt.learner import class_of, make_learner
from adapt.off_policy import Batch, OffPolicy
from adapt.pearl import PEARL
from adapt.replayed import Replayed
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import TrainConfig
from adapt.train import Trainer
from hardware_io.config import build
from hardware_io.interface import Interface, Linear
from policies.checkpoint import load_checkpoint
from sim.families.bandits import Bandits
from sim.families.navigation import Navigation, NavigationSettings
from sim.vector_env import VectorEnv

N = 40
CONTINUOUS = Interface(3, (1.0, 2.0), angles=(1,), positions=(1,))
CHOICES = Interface(3, (1.0,) * 3, discrete=True)
CART = Linear(goal=(0.5,), period=0.1, state=((1.0, 0.1), (0.0, 1.0)), action=((0.005, 0.0), (0.1, 0.05)))
STANDING = replace(CONTINUOUS, linear=CART)
REGULATED = {"frames": 2, "regulator": {"reach": 0.5, "share": 0.3}}
SMALL = {"hidden": [8, 7], "critic_hidden": [9, 6]}
PLANE = NavigationSettings(horizon=7, feedback=True, tolerance=0.1)


def learner_of(name: str, interface: Interface, **settings: Any) -> OffPolicy:
    """One whose weights are far from their first ones."""
    torch.manual_seed(0)
    learner = make_learner(name, interface, "test", {**SMALL, **settings})
    assert isinstance(learner, OffPolicy)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return learner


def batch_of(learner: OffPolicy, discrete: bool) -> Batch:
    size, width = learner.action_size, learner.input_size
    action = 2 * torch.rand(N, size) - 1
    if discrete:
        action = torch.nn.functional.one_hot(torch.randint(size, (N,)), size).float()
    going_on = 0.9 * (torch.rand(N) > 0.3)
    batch = torch.randn(N, width), action, torch.randn(N), going_on, torch.randn(N, width), torch.rand(N)
    advice = torch.zeros(2, N, 0)
    if learner.regulator is not None:  # within its reach and beyond it, with room for an action and without
        advice = torch.cat([torch.randn(2, N, size), torch.rand(2, N, 1)], dim=-1)
        near, clamped = advice[0, :, -1:] < 0.5, advice[0, :, :-1].abs() > 1.3
        assert all((which & room).any() for which in (near, ~near) for room in (clamped, ~clamped))
    highest = 4 * torch.randn(N)  # above some values and below others
    return Batch(*(values.double() for values in (*batch[:4], highest, *batch[4:], *advice)))


def judged(learner: OffPolicy, reads: Tensor, weights: Tensor) -> Tensor:
    return learner.critic(reads.expand(2, -1, -1), weights)


def loss_of_sac(learner: OffPolicy, batch: Batch, noise: Tensor) -> Tensor:
    """The losses of Haarnoja et al. 2018 as they stand there."""

    def draw(reads: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        centre, spread = learner.policy(learner.decide(reads))
        drawn = centre + spread.exp() * noise
        log_prob = Normal(centre, spread.exp()).log_prob(drawn) - torch.log(1 - torch.tanh(drawn) ** 2)
        return torch.tanh(drawn), log_prob.sum(-1)

    def done(action: Tensor, advice: Tensor) -> Tensor:
        if learner.regulator is None:
            return action
        command, cost = advice.split([learner.action_size, 1], dim=-1)
        return torch.where(cost < 0.5, (command + 0.3 * action).clamp(-1, 1), action)

    temperature = learner.log_temperature.exp().detach()
    with torch.no_grad():
        action, log_prob = draw(batch.next_inputs, noise[N:])
        action = done(action, batch.next_advice)
        value = judged(learner, torch.cat([batch.next_inputs, action], -1), learner.targets)[..., 0].amin(0)
        assert (value > batch.highest).any() and (value < batch.highest).any()
        value = torch.minimum(value, batch.highest)
        target = batch.reward + batch.going_on * (value - temperature * log_prob)
    value = judged(learner, torch.cat([batch.inputs, batch.action], -1), learner.critics)[..., 0]
    critic_loss = (batch.weight * (value - target) ** 2).mean(1).sum()
    action, log_prob = draw(batch.inputs, noise[:N])
    action = done(action, batch.advice)
    worth = judged(learner, torch.cat([batch.inputs, action], -1), learner.critics.detach())[..., 0].amin(0)
    entropy = -log_prob.detach().mean()
    return critic_loss + (temperature * log_prob - worth).mean() + learner.log_temperature * (entropy - learner.wanted)


def loss_of_discrete_sac(learner: OffPolicy, batch: Batch, noise: Tensor) -> Tensor:
    """Those of Christodoulou 2019."""
    temperature = learner.log_temperature.exp().detach()
    with torch.no_grad():
        log_prob = torch.log_softmax(learner.decide(batch.next_inputs), -1)
        value = judged(learner, batch.next_inputs, learner.targets).amin(0)
        assert (value > batch.highest[:, None]).any() and (value < batch.highest[:, None]).any()
        value = torch.minimum(value, batch.highest[:, None]) - temperature * log_prob
        target = batch.reward + batch.going_on * (log_prob.exp() * value).sum(-1)
    value = judged(learner, batch.inputs, learner.critics)
    critic_loss = (batch.weight * ((value * batch.action).sum(-1) - target) ** 2).mean(1).sum()
    log_prob = torch.log_softmax(learner.decide(batch.inputs), -1)
    cost = (log_prob.exp() * (temperature * log_prob - value.detach().amin(0))).sum(-1).mean()
    entropy = -(log_prob.exp() * log_prob).sum(-1).mean().detach()
    return critic_loss + cost + learner.log_temperature * (entropy - learner.wanted)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    ("name", "interface", "settings", "loss"),
    [
        ("sac", CONTINUOUS, {}, loss_of_sac),
        ("sac", STANDING, REGULATED, loss_of_sac),
        ("discrete_sac", CHOICES, {}, loss_of_discrete_sac),
    ],
)
def test_gradients_are_those_of_the_losses(
    name: str, interface: Interface, settings: dict[str, Any], loss: Any, activation: str
) -> None:
    learner = learner_of(name, interface, activation=activation, **settings).double()
    batch, noise = batch_of(learner, interface.discrete), torch.randn(2 * N, learner.action_size).double()
    with torch.no_grad():
        learner.set_gradients(batch, noise)
    parameters = [learner.actor, learner.critics, learner.log_temperature]
    for parameter, expected in zip(
        parameters, torch.autograd.grad(loss(learner, batch, noise), parameters), strict=True
    ):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(parameter.grad, expected)


def test_the_encoder_learns_from_the_critics_loss_and_the_divergence() -> None:
    learner = learner_of("pearl", CONTINUOUS, latent=4, tasks=5, batch=8, kl=0.3).double()
    assert isinstance(learner, PEARL)
    batch, noise = batch_of(learner, False), torch.randn(2 * N, 2).double()
    reads = 2 * learner.features.size + 2
    context, counts = torch.randn(5, 6, reads).double(), torch.arange(6) < torch.arange(5)[:, None]
    offset = torch.randn(5, 4).double()
    mean, precision = learner.belief(context, counts)
    assert torch.equal(mean[0], torch.zeros(4)) and torch.equal(precision[0], torch.ones(4)), "the prior"
    shuffled = learner.belief(context.flip(1), counts.flip(1))
    torch.testing.assert_close(shuffled[0], mean)
    latent = mean + precision**-0.5 * offset
    kl = torch.distributions.kl_divergence(Normal(mean, precision**-0.5), Normal(0.0, 1.0)).sum(-1).mean()
    told = latent.repeat_interleave(8, 0)
    seen = batch._replace(
        inputs=torch.cat([batch.inputs, told], -1), next_inputs=torch.cat([batch.next_inputs, told], -1).detach()
    )
    weights = list(learner.encoder.parameters())
    with torch.no_grad():
        draw = learner.decide(seen.next_inputs)
        centre, spread = learner.policy(draw)
        drawn = centre + spread.exp() * noise[N:]
        log_prob = learner.distribution.log_prob(drawn, spread, noise[N:])
        value = judged(learner, torch.cat([seen.next_inputs, torch.tanh(drawn)], -1), learner.targets)[..., 0].amin(0)
        value = torch.minimum(value, batch.highest)
        target = batch.reward + batch.going_on * (value - learner.log_temperature.exp() * log_prob)
    value = judged(learner, torch.cat([seen.inputs, batch.action], -1), learner.critics)[..., 0]
    loss = (batch.weight * (value - target) ** 2).mean(1).sum() + 0.3 * kl
    expected = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        report = learner._step(batch, context, counts, noise, offset)
    assert float(report[-1]) == pytest.approx(kl.item())
    for parameter, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("settings", [{"infer": "step"}, {"infer": "rollout"}, {"infer": "step", "latent": 3}])
def test_a_belief_is_the_same_step_by_step_and_over_whole_trials(settings: dict[str, Any]) -> None:
    """Also after rollouts that ended early; and the draw of a rollout stands once it is filled from the noise."""
    learner = learner_of("pearl", Navigation(PLANE).interface, **settings)
    with VectorEnv(Navigation(PLANE), 12, workers=0) as envs, torch.no_grad():
        fast = begin_trial(envs, learner, 1, np.random.default_rng(0))
        episodes = rollout(envs, learner, fast, 3, (1,))
        mean, after = learner.unroll(episodes, fast)
        quiet = rollout(envs, learner, fast, 1, (1,), explore=False)
    assert (~episodes.valid[:, :, -1]).any() and episodes.valid[:, :, -1].any()
    torch.testing.assert_close(after, episodes.last_fast, atol=1e-5, rtol=0)
    drawn = mean + episodes.extra["std"] * episodes.noise
    torch.testing.assert_close(drawn[episodes.valid], episodes.extra["action"][episodes.valid], atol=1e-4, rtol=0)
    size = learner.settings.latent
    assert torch.all(episodes.fast[:, 1:, : 2 * size] != 0) and torch.all(episodes.fast[:, 1:, 2 * size :] == 0)
    noise, offset = episodes.noise[:, -1], episodes.last_fast[:, 2 * size : 3 * size]
    long = episodes.valid[:, -1].sum(-1) >= 3
    torch.testing.assert_close(offset[long], noise.flatten(1)[long, :size])
    assert torch.all(quiet.last_fast[:, 2 * size : 3 * size] == 0), "without noise z is the mean"


TINY = {"hidden": [8], "critic_hidden": [8], "updates": 3, "warm_up": 1, "batch": 16}
CONFIG = {
    "family": {"name": "navigation", "settings": {"horizon": 5, "feedback": True}},
    "lanes": 8,
    "workers": 0,
    "rollouts": 2,
    "steps": 8 * 2 * 5 * 4,
    "checkpoint_every": 1,
    "evaluate_every": 0,
}


@pytest.mark.parametrize(("name", "priority"), [("sac", 0.6), ("pearl", 0.0)])
def test_a_resumed_training_equals_one_that_was_never_interrupted(tmp_path: Path, name: str, priority: float) -> None:
    """With what was in the replay, of which the oldest is forgotten on the way."""
    settings = {**TINY, "replay": {"capacity": 200, "priority": priority}}
    config = build(TrainConfig, {**CONFIG, "learner": {"name": name, "settings": settings}}, "test")
    whole = Trainer(config, tmp_path / "whole")
    assert whole.run() and (tmp_path / "whole" / "kept" / "replay.bin").exists()
    first = Trainer(config, tmp_path / "parts")
    assert not first.run(lambda now, _: now.iteration == 2 and os.kill(os.getpid(), signal.SIGTERM))
    first.learner.meta_update([], whole_trial(first.learner))  # which no checkpoint knows of
    assert Trainer(config, tmp_path / "parts").run()
    one, other = (load_checkpoint(tmp_path / folder / "checkpoint.pt")["learner"] for folder in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def whole_trial(learner: Any) -> Any:
    family = Navigation(NavigationSettings(horizon=5, feedback=True))
    with VectorEnv(family, 8, workers=0) as envs:
        return rollout(envs, learner, begin_trial(envs, learner, 1, np.random.default_rng(5)), 2, (5,))


def improvement(learner: OffPolicy, family: Any, rollouts: int, iterations: int) -> tuple[float, float]:
    """Return of the last rollout without exploration, before and after training."""

    def score() -> float:
        fast = begin_trial(envs, learner, 1, np.random.default_rng(99))
        return float(rollout(envs, learner, fast, rollouts, (99,), explore=False).returns[:, -1].mean())

    with VectorEnv(family, 32, workers=0) as envs:
        before = score()
        for index in range(iterations):
            fast = begin_trial(envs, learner, 1, np.random.default_rng(index))
            learner.meta_update([], rollout(envs, learner, fast, rollouts, (index,)))
        return before, score()


def test_no_value_is_above_what_the_best_reward_comes_to() -> None:
    rewards, bonus = torch.tensor([-2.0, 0.5]), {"discount": 0.9, "temperature": 0.2}
    learner = learner_of("sac", CONTINUOUS, **bonus)
    torch.testing.assert_close(learner.highest_of(rewards), torch.tensor([5.0, 5.0]))
    torch.testing.assert_close(learner.highest_of(-rewards.abs()), torch.tensor([0.0, 0.0]))
    eager = make_learner("sac", CONTINUOUS, "test", {**SMALL, **bonus, "entropy": 3.0})
    assert isinstance(eager, OffPolicy)
    torch.testing.assert_close(eager.highest_of(rewards), torch.tensor([11.0, 11.0]))


def test_critics_that_are_far_too_sure_come_back() -> None:
    """Nothing pays in this family more than 0; without a bound it takes a discount's time for them to come down."""
    torch.manual_seed(0)
    family = Navigation(NavigationSettings(horizon=10))
    settings = {"hidden": [8], "critic_hidden": [16], "updates": 60, "batch": 64, "warm_up": 1, "learning_rate": 0.02}
    learner = make_learner("sac", family.interface, "test", settings)
    assert isinstance(learner, OffPolicy)
    with torch.no_grad():
        learner.critics[:, -1] = learner.targets[:, -1] = 1000.0
    with VectorEnv(family, 32, workers=0) as envs:
        trial = rollout(envs, learner, begin_trial(envs, learner, 1, np.random.default_rng(0)), 2, (0,))
    values = [learner.meta_update([], trial)["value"] for _ in range(60)]
    assert values[0] > 500 and values[-1] < 0


@pytest.mark.parametrize(("annealed", "rates"), [(0.25, [1.0, 1.0, 0.4]), (0.0, [1.0] * 3), (1.0, [1.0, 0.5, 0.1])])
@pytest.mark.parametrize("name", ["sac", "dqn", "dqn_mapping"])
def test_the_learning_rate_falls_towards_the_end(name: str, annealed: float, rates: list[float]) -> None:
    family = Navigation(NavigationSettings(horizon=5, feedback=True))
    known = {key: value for key, value in TINY.items() if key in {one.name for one in fields(class_of(name).Settings)}}
    learner = make_learner(name, family.interface, "test", {**known, "annealed": annealed, "learning_rate": 0.01})
    assert isinstance(learner, Replayed)
    with VectorEnv(family, 4, workers=0) as envs:
        trial = rollout(envs, learner, begin_trial(envs, learner, 1, np.random.default_rng(0)), 1, (0,))
    found = []
    for learner.trained in (0.0, 0.5, 0.9):
        learner.meta_update([], trial)
        found.append(learner.optimiser.param_groups[0]["lr"] / 0.01)
    assert found == pytest.approx(rates)


def test_sac_moves_to_where_goals_are_on_average() -> None:
    """Goals differ and none is shown, so that the origin, where it starts, is the best place: it learns to stay."""
    torch.manual_seed(0)
    family = Navigation(NavigationSettings(horizon=10))
    settings = {"hidden": [32], "critic_hidden": [32, 32], "updates": 40, "batch": 64, "warm_up": 1}
    learner = make_learner("sac", family.interface, "test", settings)
    assert isinstance(learner, OffPolicy)
    with torch.no_grad():
        learner.actor[:, -4:-2] = 1.0  # begins by walking away
    before, after = improvement(learner, family, 1, 15)
    assert before < -6 and after > -4.5


def test_discrete_sac_learns_which_arm_pays_more_often() -> None:
    torch.manual_seed(0)
    family = Bandits.of({"pulls": 10, "arms": 2}, "test")
    settings = {"hidden": [16], "critic_hidden": [32], "updates": 40, "batch": 64, "warm_up": 1, "discount": 0.0}
    learner = make_learner("discrete_sac", family.interface, "test", settings)
    assert isinstance(learner, OffPolicy)
    with torch.no_grad():
        learner.actor[:, -2:] = torch.tensor([0.0, 1.0])
    before, after = improvement(learner, family, 1, 15)
    assert after > before + 0.5, "who is paid by an arm stays with it"
