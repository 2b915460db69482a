"""Advantages worked by hand, the optimiser's gradients against autograd, and a problem with a known answer."""

import pytest
import torch
from torch import Tensor, nn

from adapt.ppo import PPO, Batch, PPOSettings, advantages
from hardware_io.interface import Interface
from policies.networks import ActionHead
from policies.perceptron import Perceptron


def networks(
    inputs: int, known: int, actions: int = 1, discrete: bool = False, std: float = 0.4
) -> tuple[ActionHead, Perceptron]:
    head = ActionHead([inputs, 8], Interface(inputs, (1.0,) * actions, discrete), std)
    return head, Perceptron([known, 8, 1], output_gain=1.0)


def optimiser_of(head: ActionHead, critic: Perceptron, settings: PPOSettings) -> PPO:
    return PPO(list(head.parameters()), head, critic, settings)


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
    head, critic = networks(1, 1)
    optimiser = optimiser_of(head, critic, PPOSettings(learning_rate=0.02, target_kl=0.0))
    ones = torch.ones(256, 1)

    def improve() -> dict[str, float]:
        with torch.no_grad():
            mean, log_std = head(ones), head.spread
            action = mean + log_std.exp() * torch.randn(256, 1)
            log_prob = head.distribution.log_prob(action, mean, log_std)
            reward = -((action[:, 0] - 0.7) ** 2)
            gain = (reward - reward.mean()) / reward.std()
        batch = Batch(ones, ones, action, log_prob, gain, reward, torch.ones(256, dtype=torch.bool))
        return optimiser.update(lambda: iter([batch]))

    first = improve()
    for _ in range(60):
        last = improve()
    assert head(ones[:1]).item() == pytest.approx(0.7, abs=0.1)
    assert last["value_loss"] < first["value_loss"]


def test_samples_that_do_not_count_change_nothing() -> None:
    def after(garbage: float) -> list[Tensor]:
        torch.manual_seed(1)
        head, critic = networks(1, 1)
        inputs, action = torch.tensor([[1.0], [garbage]]), torch.tensor([[0.3], [garbage]])
        zero, valid = torch.zeros(2), torch.tensor([True, False])
        batch = Batch(inputs, inputs, action, zero, zero + 1, zero, valid)
        optimiser_of(head, critic, PPOSettings()).update(lambda: iter([batch]))
        return [parameter.detach() for parameter in (*head.parameters(), *critic.parameters())]

    for one, other in zip(after(0.0), after(5.0), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("old_spread", [0.01, 0.5])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("rows", [40, 1200])
def test_gradients_are_those_of_autograd(old_spread: float, discrete: bool, rows: int) -> None:
    """Of head, critic, standard deviation and of what stands before the head, with gradients that are not clipped."""
    torch.manual_seed(2)
    settings = PPOSettings(epochs=1, target_kl=0.0, max_gradient=1e9, entropy=0.3, learning_rate=0.0)
    (head, critic), before = networks(4, 5, 3, discrete), nn.Linear(2, 4)
    seen, known, distribution = torch.randn(rows, 2), torch.randn(rows, 5), head.distribution
    centre, value = head(torch.tanh(before(seen))), critic(known)[:, 0]
    action = distribution.sample(centre, head.spread, torch.randn(rows, 3)).detach()
    log_prob = distribution.log_prob(action, centre, head.spread)
    old = log_prob.detach() + old_spread * torch.randn(rows)
    advantage, target, valid = torch.randn(rows), torch.randn(rows), torch.rand(rows) < 0.7
    ratio = torch.exp(log_prob - old)
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)[valid].mean()
    entropy = distribution.entropy(centre, head.spread)[valid].mean()
    value_loss = ((value - target) ** 2)[valid].mean()
    parameters = [p for p in (*head.parameters(), *before.parameters(), *critic.parameters()) if p.requires_grad]
    expected = torch.autograd.grad(value_loss - surrogate - 0.3 * entropy, parameters)

    optimiser = PPO([*head.parameters(), *before.parameters()], head, critic, settings)
    batch = Batch(torch.tanh(before(seen)), known, action, old, advantage, target, valid)
    metrics = optimiser.update(lambda: iter([batch]))
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, gradient, atol=2e-6)
    assert metrics["policy_loss"] == pytest.approx(-float(surrogate.detach()), abs=1e-5)
    assert metrics["value_loss"] == pytest.approx(float(value_loss.detach()), rel=1e-5)
    divergence = (ratio - 1 - torch.log(ratio))[valid].mean()
    assert metrics["kl"] == pytest.approx(float(divergence.detach()), rel=1e-2, abs=1e-6)


@pytest.mark.parametrize(("reach", "led_back"), [(1.0, True), (0.0, False)])
def test_a_standard_deviation_beyond_its_bounds_is_only_led_back(reach: float, led_back: bool) -> None:
    """Actions that were good far from the mean ask for a wider distribution, those at the mean for a narrower one."""
    torch.manual_seed(3)
    head, critic = networks(2, 2, std=0.01)
    zeros, inputs = torch.zeros(8), torch.randn(8, 2)
    with torch.no_grad():
        action = head(inputs) + reach * torch.randn(8, 1)
        log_prob = head.distribution.log_prob(action, head(inputs), head.spread)
    batch = Batch(inputs, inputs, action, log_prob, zeros + 1, zeros, zeros + 1)
    optimiser_of(head, critic, PPOSettings(epochs=1, entropy=0.0)).update(lambda: iter([batch]))
    assert head._log_std.grad is not None and (head._log_std.grad.item() < 0) == led_back
    assert led_back or head._log_std.grad.item() == 0


def test_steps_are_those_of_adam() -> None:
    """The clipped gradients of each minibatch, fed to PyTorch's own optimiser, give the same weights and moments."""
    torch.manual_seed(4)
    head, critic = networks(2, 2)
    rates = PPOSettings(epochs=1, target_kl=0.0, learning_rate=0.02, critic_learning_rate=0.01, max_gradient=0.1)
    optimiser = optimiser_of(head, critic, rates)
    copies = [[p.detach().clone().requires_grad_() for p in net.parameters()] for net in (head, critic)]
    reference = torch.optim.Adam([{"params": copies[0], "lr": 0.02}, {"params": copies[1], "lr": 0.01}])
    for _ in range(3):
        batch = Batch(torch.randn(8, 2), torch.randn(8, 2), torch.randn(8, 1), *torch.randn(3, 8), torch.ones(8))
        optimiser.update(lambda batch=batch: iter([batch]))
        for copied, net in zip(copies, (head, critic), strict=True):
            assert torch.cat([p.grad.flatten() for p in net.parameters()]).norm() <= 0.1 + 1e-6
            for copy, parameter in zip(copied, net.parameters(), strict=True):
                copy.grad = parameter.grad.clone()
        reference.step()
    for copied, net in zip(copies, (head, critic), strict=True):
        for copy, parameter in zip(copied, net.parameters(), strict=True):
            assert torch.allclose(copy, parameter, atol=1e-6)
    assert [float(state["step"]) for state in optimiser.state_dict()["state"].values()] == [3.0, 3.0]
