"""The shape that learners train on: joined, picked and summed by hand."""

from __future__ import annotations

import torch

from adapt.episodes import Episodes

B, K, T, SEEN, A, F, P = 3, 2, 4, 5, 1, 6, 7


def episodes(first: float, dynamics: bool = True) -> Episodes:
    """Numbers that count up from `first`, robot by robot, so that every robot and rollout is told by its values."""

    def count(*shape: int) -> torch.Tensor:
        return first + torch.arange(float(torch.Size(shape).numel())).reshape(shape)

    valid = torch.ones(B, K, T, dtype=torch.bool)
    valid[1, 0, 2:] = False
    return Episodes(
        observation=count(B, K, T + 1, SEEN),
        asked=count(B, K, T, A),
        sent=count(B, K, T, A) / 2,
        noise=torch.zeros(B, K, T, A),
        reward=count(B, K, T),
        valid=valid,
        terminated=~valid & valid.roll(1, -1),
        fast=count(B, K, F),
        last_fast=count(B, F),
        dynamics=count(B, P) if dynamics else None,
        extra={"log_prob": count(B, K, T), "action": count(B, K, T, A)},
    )


def test_the_return_counts_what_happened_before_the_end() -> None:
    returns = episodes(0.0).returns
    assert returns.shape == (B, K)
    assert returns[0].tolist() == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7]
    assert returns[1].tolist() == [8 + 9, 12 + 13 + 14 + 15]  # ended after two steps


def test_some_robots_are_picked_from_every_array() -> None:
    whole, part = episodes(0.0), episodes(0.0).robots_at(torch.tensor([2, 0]))
    assert part.robots == 2 and part.rollouts == K
    for name in ("observation", "asked", "sent", "noise", "reward", "valid", "terminated", "fast", "last_fast"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[[2, 0]]), name
    assert part.dynamics is not None and torch.equal(part.dynamics, whole.dynamics[[2, 0]])
    assert torch.equal(part.extra["action"], whole.extra["action"][[2, 0]])
    assert episodes(0.0).robots_at(slice(1, 2)).robots == 1


def test_rollouts_follow_on_another_and_the_last_fast_state_is_the_later_one() -> None:
    first, second = episodes(0.0), episodes(1000.0)
    both = first.then(second)
    assert both.robots == B and both.rollouts == 2 * K
    for name in ("observation", "asked", "reward", "valid", "fast"):
        assert torch.equal(getattr(both, name)[:, :K], getattr(first, name)), name
        assert torch.equal(getattr(both, name)[:, K:], getattr(second, name)), name
    assert torch.equal(both.extra["log_prob"][:, K:], second.extra["log_prob"])
    assert torch.equal(both.last_fast, second.last_fast)
    assert torch.equal(both.dynamics, first.dynamics)  # the same robots


def test_real_episodes_have_no_dynamics() -> None:
    real = episodes(0.0, dynamics=False)
    assert real.robots_at(slice(0, 1)).dynamics is None
    assert real.then(real).dynamics is None
    assert real.to(torch.device("cpu")).dynamics is None
