"""The map between networks against plain matrices, and a model of tasks that tells them apart."""

from __future__ import annotations

import torch

from policies.mapping import MappingNetwork
from policies.task_model import TaskModel
from policies.task_perceptron import TaskPerceptron

SIZES, Z = [3, 4, 2], 5


def mapping_of(rank: int = 2) -> MappingNetwork:
    torch.manual_seed(0)
    mapping = MappingNetwork(SIZES, Z, rank, hidden=8)
    for parameter in mapping.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return mapping


def test_it_is_a_linear_map_of_each_layer() -> None:
    mapping, network = mapping_of(), TaskPerceptron(SIZES, "tanh")
    weights, source, target = torch.randn(6, 3, network.size), torch.randn(6, 3, Z), torch.randn(6, Z)
    mapped = mapping(weights, source, target)
    assert mapped.shape == weights.shape and not torch.allclose(mapped, weights, atol=0.1)
    other = torch.randn_like(weights)
    torch.testing.assert_close(
        mapping(weights + 2 * other, source, target), mapped + 2 * mapping(other, source, target)
    )
    pair = torch.cat([source[4, 1], target[4]])
    left, right = (side(pair) for side in (mapping.left, mapping.right))
    for before, after, start, units in zip(
        network.layers(weights[4, 1:2]), network.layers(mapped[4, 1:2]), (0, 8), (4, 2), strict=True
    ):
        u, v = (side[start : start + 2 * units].view(units, 2) for side in (left, right))
        whole = torch.eye(units) + u @ v.T / units**0.5
        torch.testing.assert_close(after[0][0], whole @ before[0][0])
        torch.testing.assert_close(after[1][0, 0], whole @ before[1][0, 0])


def test_it_begins_near_the_identity_and_both_factors_learn() -> None:
    torch.manual_seed(0)
    mapping = MappingNetwork(SIZES, Z, rank=2, hidden=8)
    weights = torch.randn(1, 1, TaskPerceptron(SIZES, "tanh").size)
    mapped = mapping(weights, torch.randn(1, 1, Z), torch.randn(1, Z))
    assert torch.allclose(mapped, weights, atol=0.05)
    mapped.square().sum().backward()
    assert all(parameter.grad is not None for parameter in mapping.parameters())
    assert mapping.left[-1].weight.grad.abs().max() > 1e-3 and mapping.right[-1].weight.grad.abs().max() > 1e-6


def test_a_representation_knows_no_order_and_makes_the_model_specific() -> None:
    """Tasks whose actions push to one side or to the other."""
    torch.manual_seed(0)
    model = TaskModel(state=1, action=1, size=2, hidden=32)
    adam, side = torch.optim.Adam(model.parameters(), 0.01), torch.tensor([1.0, -1.0]).repeat(4)[:, None, None]

    def drawn() -> torch.Tensor:
        state, action = torch.randn(8, 12, 1), torch.randn(8, 12, 1)
        return torch.cat([state, action, -state, side * action], dim=-1)

    for _ in range(300):
        loss = model.error(model.encode(drawn()), drawn()).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    seen, held_out = drawn(), drawn()
    latent = model.encode(seen)
    torch.testing.assert_close(model.encode(seen.flip(1)), latent)
    torch.testing.assert_close(model.encode(seen.repeat(1, 3, 1)), latent)
    own, other = model.error(latent, held_out), model.error(latent.roll(1, 0), held_out)
    assert own.mean() < 0.2 and other.min() > 4 * own.max()
