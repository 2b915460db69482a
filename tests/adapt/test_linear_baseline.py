"""The linear baseline against values that lie in its features, and returns worked by hand."""

import pytest
import torch

from adapt.linear_baseline import discounted, features, fit_values


def test_returns_by_hand() -> None:
    reward = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, float("nan")]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    returns = discounted(reward, valid, 0.5)
    assert returns.tolist() == [[1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4.0], [2.0, 2.0, 0.0]]


def test_features_by_hand() -> None:
    observation = torch.tensor([[[[3.0], [-20.0], [0.5]]]])  # the second is clipped
    wanted = [[3, 9, 0, 0, 0, 1], [-10, 100, 0.01, 1e-4, 1e-6, 1], [0.5, 0.25, 0.02, 4e-4, 8e-6, 1]]
    assert torch.allclose(features(observation)[0, 0], torch.tensor(wanted, dtype=torch.float64))


def test_each_robot_gets_the_values_of_its_own_returns() -> None:
    torch.manual_seed(0)
    observation, valid = torch.randn(3, 4, 50, 2), torch.ones(3, 4, 50, dtype=torch.bool)
    slope = torch.tensor([1.0, -2.0, 5.0])[:, None, None]
    returns = slope * observation[..., 0] - observation[..., 1] ** 2 + torch.arange(50) / 100 + slope
    values = fit_values(observation, returns, valid)
    assert values.dtype == torch.float32
    assert torch.allclose(values, returns, atol=1e-4)
    assert torch.equal(fit_values(observation[1:2], returns[1:2], valid[1:2])[0], values[1])


def test_noise_is_averaged_not_followed() -> None:
    torch.manual_seed(1)
    observation, valid = torch.randn(1, 20, 50, 1), torch.ones(1, 20, 50, dtype=torch.bool)
    values = fit_values(observation, 3 + torch.randn(1, 20, 50), valid)
    assert (values - 3).abs().max() < 0.8 and (values - 3).abs().mean() < 0.15


def test_steps_after_the_end_take_no_part() -> None:
    torch.manual_seed(2)
    observation, valid = torch.randn(2, 3, 20, 2), torch.ones(2, 3, 20, dtype=torch.bool)
    valid[:, 1, 8:] = False
    returns = observation.sum(-1)
    values = fit_values(observation, returns, valid)
    garbage = torch.where(valid[..., None], observation, torch.nan)
    assert torch.equal(fit_values(garbage, torch.where(valid, returns, torch.inf), valid), values)
    assert not values[~valid].any()


def test_equations_without_a_single_solution_are_solved() -> None:
    """A channel that never changes, one that repeats another, and fewer steps than features."""
    observation = torch.tensor([0.0, 1.0, 1.0, 1e4]).expand(1, 1, 3, 4).clone().requires_grad_()
    returns = torch.tensor([[[1.0, 2.0, 3.0]]])
    values = fit_values(observation, returns, torch.ones(1, 1, 3, dtype=torch.bool))
    assert values.sum().item() == pytest.approx(6.0, abs=0.1) and not values.requires_grad


def test_a_fault_of_one_robot_shows_and_stays_with_it() -> None:
    torch.manual_seed(3)
    observation, valid = torch.randn(2, 2, 10, 2), torch.ones(2, 2, 10, dtype=torch.bool)
    returns = torch.randn(2, 2, 10)
    returns[0, 1, 4] = torch.nan
    values = fit_values(observation, returns, valid)
    assert values[0].isnan().all() and values[1].isfinite().all()
