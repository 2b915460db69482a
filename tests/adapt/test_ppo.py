"""Advantages worked by hand, and the optimiser on a problem with a known answer."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from adapt.ppo import PPO, Batch, PPOSettings, advantages
from policies.distributions import Gaussian


def test_advantages_by_hand() -> None:
    reward = torch.tensor([[1.0, 2.0, 3.0]])
    value = torch.tensor([[0.5, 1.0, 1.5, 2.0]])
    going = torch.ones(1, 3, dtype=torch.bool)
    gain = advantages(reward, value, going, ~going, discount=0.5, gae=0.5)
    # deltas 1 + 0.5 - 0.5 = 1; 2 + 0.75 - 1 = 1.75; 3 + 1 - 1.5 = 2.5; then back with 0.25
    assert gain[0].tolist() == pytest.approx([1 + 0.25 * (1.75 + 0.25 * 2.5), 1.75 + 0.25 * 2.5, 2.5])


def test_a_terminated_rollout_is_not_bootstrapped_and_what_follows_does_not_count() -> None:
    reward = torch.tensor([[1.0, 2.0, 99.0]])
    value = torch.tensor([[0.5, 1.0, 50.0, 70.0]])
    valid = torch.tensor([[True, True, False]])
    terminated = torch.tensor([[False, True, False]])
    gain = advantages(reward, value, valid, terminated, discount=0.5, gae=0.5)
    assert gain[0].tolist() == pytest.approx([1.0 + 0.25 * 1.0, 2.0 - 1.0, 0.0])


def test_the_update_moves_the_policy_to_the_better_action() -> None:
    torch.manual_seed(0)
    actor, critic = nn.Linear(1, 1), nn.Linear(1, 1)
    log_std = torch.tensor([-1.0])
    optimiser = PPO(
        list(actor.parameters()), list(critic.parameters()), Gaussian(), PPOSettings(learning_rate=0.02, target_kl=0.0)
    )
    ones = torch.ones(256, 1)

    def improve() -> dict[str, float]:
        with torch.no_grad():
            mean = actor(ones)
            action = mean + log_std.exp() * torch.randn(256, 1)
            log_prob = Gaussian().log_prob(action, mean, log_std)
            reward = -((action[:, 0] - 0.7) ** 2)
            gain = (reward - reward.mean()) / reward.std()

        def batches() -> Iterator[Batch]:
            yield Batch(
                actor(ones),
                log_std,
                critic(ones)[:, 0],
                action,
                log_prob,
                gain,
                reward,
                torch.ones(256, dtype=torch.bool),
            )

        return optimiser.update(batches)

    first = improve()
    for _ in range(60):
        last = improve()
    assert actor(ones[:1]).item() == pytest.approx(0.7, abs=0.1)
    assert last["value_loss"] < first["value_loss"]


def test_samples_that_do_not_count_change_nothing() -> None:
    def after(garbage: float) -> list[float]:
        torch.manual_seed(1)
        actor, critic = nn.Linear(1, 1), nn.Linear(1, 1)
        optimiser = PPO(list(actor.parameters()), list(critic.parameters()), Gaussian(), PPOSettings())
        inputs = torch.tensor([[1.0], [garbage]])
        valid = torch.tensor([True, False])
        action, zero = torch.tensor([[0.3], [garbage]]), torch.zeros(2)

        def batches() -> Iterator[Batch]:
            yield Batch(actor(inputs), torch.zeros(1), critic(inputs)[:, 0], action, zero, zero + 1, zero, valid)

        optimiser.update(batches)
        return [p.item() for p in actor.parameters()]

    assert after(0.0) == pytest.approx(after(5.0))


@pytest.mark.parametrize("spread", [0.01, 0.5])
def test_the_written_out_derivatives_are_those_of_the_loss(spread: float) -> None:
    """With steps of plain gradient descent and gradients that are not clipped, parameters move along the gradient."""
    torch.manual_seed(2)
    settings = PPOSettings(epochs=1, target_kl=0.0, max_gradient=1e9, entropy=0.3)
    mean, value, log_std = (nn.Parameter(x) for x in (torch.randn(8, 5, 2), torch.randn(8, 5), torch.zeros(2)))
    action = torch.randn(8, 5, 2)
    old = Gaussian().log_prob(action, mean, log_std).detach() + spread * torch.randn(8, 5)
    advantage, target, valid = torch.randn(8, 5), torch.randn(8, 5), torch.rand(8, 5) < 0.7
    ratio = torch.exp(Gaussian().log_prob(action, mean, log_std) - old)
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)[valid].mean()
    loss = -surrogate + ((value - target) ** 2)[valid].mean() - 0.3 * log_std.sum()
    expected = torch.autograd.grad(loss, [mean, log_std, value])

    optimiser = PPO([mean, log_std], [value], Gaussian(), settings)
    batch = Batch(mean * 1, log_std * 1, value * 1, action, old, advantage, target, valid)
    metrics = optimiser.update(lambda: iter([batch]))
    for parameter, gradient in zip((mean, log_std, value), expected, strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, gradient, atol=1e-6)
    assert metrics["policy_loss"] == pytest.approx(-float(surrogate.detach()), abs=1e-5)
