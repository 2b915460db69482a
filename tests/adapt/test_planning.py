"""The planner, on models whose best plan is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapt.planning import PlannerSettings, later, plan, returns
from hardware_io.config import ConfigError
from hardware_io.interface import Interface
from policies.dynamics_model import DynamicsModel, DynamicsSettings

NONE = torch.zeros(2, 0)


class Cart(DynamicsModel):
    """Moves by its action and `drift` of a member; pays minus the distance from 1, and is over beyond an `end`."""

    def __init__(self, drift: tuple[float, ...] = (0.0, 0.0), end: float = 10.0) -> None:
        super().__init__(Interface(observation=1, limit=(1.0,)), DynamicsSettings(members=len(drift), hidden=(1,)))
        self.drift, self.end = torch.tensor(drift)[:, None, None], end

    def imagine(self, observation: Tensor, action: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        after = observation + 0.5 * action + self.drift
        return after, -(after[..., 0] - 1).abs(), (after[..., 0] < self.end).float()


def test_it_goes_to_where_it_pays_and_stays_within_the_limits() -> None:
    torch.manual_seed(0)
    settings = PlannerSettings(horizon=5, candidates=200, elites=20, iterations=8)
    observation = torch.tensor([[0.0], [3.0]])
    actions = plan(Cart(), observation, NONE, torch.zeros(2, 5, 1), settings)
    assert actions.abs().max() <= 1
    assert actions[0, :2, 0] == pytest.approx([1.0, 1.0], abs=0.1) and actions[0, 3:].abs().max() < 0.25
    assert actions[1, :4, 0] == pytest.approx([-1.0] * 4, abs=0.1)


def test_it_goes_on_from_the_last_plan() -> None:
    actions = torch.arange(6.0).view(2, 3, 1)
    assert later(actions)[..., 0].tolist() == [[1, 2, 0], [4, 5, 0]]
    torch.manual_seed(0)
    short = PlannerSettings(horizon=3, candidates=20, elites=4, iterations=1)
    known = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1).expand(2, -1, -1)
    from_known, anew = (plan(Cart(), torch.zeros(2, 1), NONE, start, short) for start in (known, 0 * known))
    gained = [returns(Cart(), torch.zeros(2, 1), NONE, made[:, None], "ts1").sum() for made in (from_known, anew)]
    assert gained[0] > gained[1]


def test_nothing_is_paid_after_the_end() -> None:
    actions = torch.ones(2, 1, 3, 1)  # at 0.5, 1.0, 1.5
    assert returns(Cart(), torch.zeros(2, 1), NONE, actions, "ts_infinity")[:, 0].tolist() == [-1.0, -1.0]
    assert returns(Cart(end=0.9), torch.zeros(2, 1), NONE, actions, "ts1")[:, 0].tolist() == [-0.5, -0.5]


def test_particles_stay_with_their_member_or_change_it() -> None:
    model, actions = Cart(drift=(0.25, -0.25)), torch.zeros(2, 400, 2, 1)
    settled = returns(model, torch.ones(2, 1), NONE, actions, "ts_infinity")
    assert torch.all(settled == -0.75)  # a quarter away, then half
    torch.manual_seed(0)
    changing = returns(model, torch.ones(2, 1), NONE, actions, "ts1")
    assert set(changing.flatten().tolist()) == {-0.75, -0.25} and changing.mean() == pytest.approx(-0.5, abs=0.05)


def test_more_elites_than_candidates_are_refused() -> None:
    with pytest.raises(ConfigError, match="elites: got 9; allowed: at most candidates"):
        PlannerSettings(candidates=8, elites=9)
