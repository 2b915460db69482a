"""The ensemble that foretells motion: its gradients, what it knows that it does not know, and that it learns."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from hardware_io.interface import Interface
from policies.dynamics_model import DynamicsModel, DynamicsSettings, Foretold, Step

INTERFACE = Interface(observation=2, limit=(1.0,), angles=(0,))


def model_of(context: int = 0, members: int = 3) -> DynamicsModel:
    torch.manual_seed(0)
    return DynamicsModel(INTERFACE, DynamicsSettings(members=members, hidden=(16, 16)), context)


def steps_of(count: int, reach: float = 1.0) -> Step:
    """A cart on a spring, whose reward is its place; it is over beyond 0.8."""
    observation, action = reach * (2 * torch.rand(count, 2) - 1), 2 * torch.rand(count, 1) - 1
    change = torch.stack([0.1 * observation[:, 1], 0.1 * (action[:, 0] - observation[:, 0])], dim=-1)
    ended = (observation[:, 0] > 0.8).float()
    return Step(observation, action, observation + change, observation[:, 0], ended, torch.ones(count))


@cache
def trained(reach: float = 1.0) -> DynamicsModel:
    model, steps, none = model_of(), steps_of(200, reach), torch.zeros(200, 0)
    model.learn_scales(steps.observation, steps.after, steps.reward)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(250):
        optimiser.zero_grad()
        model.loss(steps, none).backward()
        optimiser.step()
    return model


def test_members_are_perceptrons_of_their_own() -> None:
    model, steps = model_of(context=2), steps_of(5)
    context = torch.randn(5, 2)
    told = model(steps.observation, steps.action, context)
    assert told.mean.shape == (3, 5, 3) and told.log_variance.shape == (3, 5, 2) and told.ends.shape == (3, 5)
    values = torch.cat([model.features(steps.observation), steps.action, context], dim=-1)
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        values = (torch.nn.functional.silu(values) if layer else values) @ weight[1] + bias[1]
    assert torch.allclose(told.mean[1], values[:, :3], atol=1e-6)


def test_variances_stay_within_their_bounds() -> None:
    model, nothing = model_of(), (torch.zeros(1, 2), torch.zeros(1, 1), torch.zeros(1, 0))
    for far, bound in ((1000.0, model.highest), (-1000.0, model.lowest)):
        with torch.no_grad():
            model.biases[-1].fill_(far)
        told = model(*nothing).log_variance
        assert torch.allclose(told, bound.expand_as(told), atol=1e-3)


def test_the_loss_is_the_likelihood_of_what_counts() -> None:
    model, steps, none = model_of(members=2), steps_of(4), torch.zeros(4, 0)
    weight = torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    told = model(steps.observation, steps.action, none)
    target = torch.cat([steps.after - steps.observation, steps.reward[:, None]], dim=-1)  # nothing is usual yet
    std = torch.cat([(told.log_variance / 2).exp(), torch.full((2, 4, 1), 0.1**0.5)], dim=-1)
    normal = torch.distributions.Normal(told.mean, std).log_prob(target).mean(-1)
    ends = torch.distributions.Bernoulli(logits=told.ends).log_prob(steps.ended)
    each = -2 * normal - math.log(2 * math.pi) - ends
    bounds = 0.01 * (model.highest - model.lowest).sum()
    expected = (each * weight).sum() / 4 + bounds
    assert model.loss(steps._replace(weight=weight), none).item() == pytest.approx(expected.item(), rel=1e-5)


def test_uncertainty_is_split_as_that_of_a_mixture() -> None:
    told = Foretold(torch.tensor([[[0.0]], [[2.0]]]), torch.tensor([[[0.0]], [[math.log(3.0)]]]), torch.zeros(2, 1))
    assert told.spread.item() == pytest.approx(1.0) and told.noise.item() == pytest.approx(2.0)


def test_the_gradient_by_the_context_is_that_of_the_error_and_can_be_differentiated() -> None:
    model, steps = model_of(context=2).double(), steps_of(6)
    steps = Step(*(values.double() for values in steps))
    model.learn_scales(steps.observation, steps.after, steps.reward)
    context = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    told = model(steps.observation, steps.action, context)
    error = (told.mean[..., :2] - model.moved(steps.observation, steps.after)) ** 2
    (expected,) = torch.autograd.grad(error.mean((0, 2)).sum() / 2, context)
    given = steps.observation, steps.action, steps.after
    assert torch.allclose(model.context_gradient(*given, context), expected)
    assert torch.autograd.gradcheck(lambda values: model.context_gradient(*given, values), context)


def test_it_learns_motion_reward_and_ends_and_doubts_what_it_never_saw() -> None:
    model, far = trained(), trained(reach=0.3)
    steps, none = steps_of(200), torch.zeros(200, 0)
    told = model(steps.observation, steps.action, none)
    moved = model.usual.inverse(told.mean.mean(0))
    assert torch.allclose(moved[:, :2], steps.after - steps.observation, atol=0.03)
    assert torch.allclose(moved[:, 2], steps.reward, atol=0.15)
    assert ((told.ends.mean(0) > 0) == (steps.ended > 0)).float().mean() > 0.95
    known, unknown = far(steps.observation * 0.3, steps.action, none), far(steps.observation * 3, steps.action, none)
    assert unknown.spread.mean() > 10 * known.spread.mean()


def test_imagined_steps_are_drawn_around_what_is_foretold() -> None:
    model = trained()
    start, none = torch.full((3, 500, 2), 0.2), torch.zeros(3, 500, 0)
    with torch.no_grad():
        after, paid, going = model.imagine(start, torch.zeros(3, 500, 1), none)
        told = model(start, torch.zeros(3, 500, 1), none)
    usual = torch.sqrt(model.usual.variance[:2])
    std = torch.exp(told.log_variance[:, 0, :2] / 2) * usual
    assert torch.allclose(after.std(1), std, rtol=0.15)
    assert torch.allclose(paid, torch.full_like(paid, 0.2), atol=0.1) and (going > 0.9).all()
