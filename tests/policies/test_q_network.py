"""Values by hand, and the choice among them: greedy without noise, evenly spread where it explores."""

from __future__ import annotations

import pytest
import torch

from hardware_io.interface import Interface
from policies.q_network import Choices, QNetwork

MOTORS = Interface(3, (2.0, 5.0))
BUTTONS = Interface(3, (1.0,) * 4, discrete=True)


def test_dueling_values_are_the_states_and_what_levels_are_better_than_their_mean() -> None:
    network = QNetwork(3, (4,), choices=2, levels=3, dueling=True)
    weights, inputs = torch.randn(5, network.size), torch.randn(5, 6, 3)
    values, outputs = network(inputs, weights), network.perceptron(inputs, weights)
    assert values.shape == (5, 6, 2, 3)
    torch.testing.assert_close(values.mean(-1), outputs[..., :1].expand(-1, -1, 2))
    torch.testing.assert_close(values.diff(dim=-1)[..., 1, :], outputs[..., 4:].diff(dim=-1))
    plain = QNetwork(3, (4,), choices=2, levels=3, dueling=False)
    weights = torch.randn(5, plain.size)
    torch.testing.assert_close(plain(inputs, weights).flatten(2), plain.perceptron(inputs, weights))


@pytest.mark.parametrize("interface", [MOTORS, BUTTONS])
def test_without_noise_the_greatest_value_is_chosen_at_any_rate(interface: Interface) -> None:
    choices = Choices(interface, bins=5)
    values = torch.randn(50, choices.count, choices.levels)
    level, explored = choices.draw(values, torch.zeros(50, interface.actions), torch.tensor(1.0))
    assert torch.equal(level.long(), values.argmax(-1)) and not explored.any()


def test_it_explores_as_often_as_it_should_and_evenly() -> None:
    torch.manual_seed(0)
    choices, noise = Choices(MOTORS, bins=4), torch.randn(40_000, 2)
    values = torch.tensor([1.0, 0, 0, 0]).expand(40_000, 2, 4)
    level, explored = choices.draw(values, noise, torch.tensor(0.3))
    assert explored.float().mean(0).tolist() == pytest.approx([0.3, 0.3], abs=0.01)
    share = torch.nn.functional.one_hot(level[explored].long(), 4).float().mean(0)
    assert share.tolist() == pytest.approx([0.25] * 4, abs=0.01)
    assert torch.all(level[~explored] == 0)
    last, _ = choices.draw(values, torch.full((40_000, 2), 100.0), torch.tensor(0.01))
    assert torch.all(last == 3), "the end of the tail is the greatest command"


def test_levels_stand_for_commands_and_commands_for_levels() -> None:
    motors, buttons = Choices(MOTORS, bins=5), Choices(BUTTONS, bins=5)
    assert motors.action(torch.tensor([[0.0, 3.0]])).tolist() == [[-1.0, 0.5]]
    assert motors.level(torch.tensor([[-1.0, 0.5]])).tolist() == [[0, 3]]
    assert buttons.action(torch.tensor([[2.0]])).tolist() == [[0, 0, 1, 0]]
    assert buttons.level(torch.tensor([[0.0, 0, 1, 0]])).tolist() == [[2]]


@pytest.mark.parametrize("fault", ["value", "noise"])
def test_what_is_not_finite_shows_in_the_command(fault: str) -> None:
    choices, values, noise = Choices(MOTORS, bins=3), torch.randn(1, 2, 3), torch.zeros(1, 2)
    (values[0, 1] if fault == "value" else noise[0])[1] = float("nan")
    level, _ = choices.draw(values, noise, torch.tensor(0.2))
    assert torch.isfinite(choices.action(level)).tolist() == [[True, False]]
