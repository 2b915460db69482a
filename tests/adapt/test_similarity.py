"""How alike tasks are: distances by hand, and the choice of the nearest."""

from __future__ import annotations

import pytest
import torch

from adapt.similarity import KINDS, Tasks, distances, energy, nearest, report, surprise
from policies.task_model import TaskModel


def test_the_energy_distance_by_hand() -> None:
    own = torch.tensor([[[0.0], [2.0]]])
    others = torch.stack([own[0], torch.tensor([[3.0], [3.0]])])
    between = 2 * (3 + 1) / 2 - 1 - 0  # both pairs of one sample differ by 2, half of all pairs
    assert energy(own, others).tolist() == [pytest.approx([0.0, between])]


def test_samples_of_one_distribution_are_nearer_than_those_of_another() -> None:
    torch.manual_seed(0)
    own, same, wider = torch.randn(1, 200, 3), torch.randn(200, 3), 2 * torch.randn(200, 3)
    near, far = energy(own, torch.stack([same, wider]))[0]
    assert 0 < near < 0.05 < far


def test_a_model_is_surprised_by_what_it_does_not_foretell() -> None:
    torch.manual_seed(0)
    model = TaskModel(1, 1, 2, 4)
    own, latent = torch.randn(3, 6, 4), torch.randn(2, 2)
    found = surprise(model, own, latent)
    assert found.shape == (3, 2)
    assert found[2, 1].item() == pytest.approx(model.error(latent[1], own[2]).item())


@pytest.mark.parametrize("kind", KINDS)
def test_every_distance_is_one_of_each_to_each(kind: str) -> None:
    torch.manual_seed(0)
    model = TaskModel(1, 1, 2, 4)
    own, others = (Tasks.of(model, torch.randn(n, 6, 4)) for n in (3, 5))
    found = distances(kind, model, own, others)
    assert found.shape == (3, 5) and found.min() >= 0
    assert torch.equal(found, distances(kind, model, own, others)), "even what is drawn is drawn again"


def test_the_nearest_have_the_greatest_share() -> None:
    distance = torch.tensor([[3.0, 1.0, 2.0, 9.0], [5.0, 5.0, 1.0, 5.0]])
    chosen, share = nearest(distance, 2)
    assert chosen[0].tolist() == [1, 2] and chosen[1, 0] == 2
    assert share[0].tolist() == pytest.approx(torch.softmax(torch.tensor([-1, -2]) / 1.5, 0).tolist())
    assert nearest(distance, 9)[0].shape == (2, 4)
    found = report(distance, chosen)
    assert found["nearest_source"] == 1 and found["chosen_sources"] == pytest.approx((1 + 2 + 1 + 5) / 4)
    assert found["sources"] == 4 and found["all_sources"] == pytest.approx(31 / 8)
