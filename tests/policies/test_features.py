"""What a network reads of an observation: angles and their turns, and running statistics."""

from __future__ import annotations

import math

import pytest
import torch

from hardware_io.interface import Interface
from policies.features import Features, Normaliser
from sim.family import RobotFamily
from sim.robots import load_robot

TURN = 2 * math.pi


def test_angles_are_read_as_value_sine_and_cosine() -> None:
    features = Features(Interface(observation=3, limit=(1.0,), angles=(0, 2)))
    read = features.expand(torch.tensor([[math.pi / 2, 7.0, TURN]]))
    torch.testing.assert_close(read, torch.tensor([[math.pi / 2, 7.0, TURN, 1.0, 0.0, 0.0, 1.0]]), atol=2e-6, rtol=0)


def test_whole_turns_of_an_endless_joint_make_no_difference() -> None:
    features = Features(Interface(observation=3, limit=(1.0,), angles=(0, 2), endless=(0,)))
    seen = torch.tensor([[0.3, 7.0, 0.1]])
    once, twice = features(seen), features(seen + torch.tensor([TURN, 0.0, 0.0]))
    torch.testing.assert_close(once, twice, atol=1e-6, rtol=0)
    assert features.expand(seen)[0, 0] == 0 and not torch.equal(once, features(seen + torch.tensor([0.0, 0.0, TURN])))
    assert features(torch.tensor([[math.nan, 7.0, 0.1]])).isnan().any()  # what is hidden hides no fault


@pytest.mark.parametrize(("robot", "endless"), [("pendubot", ()), ("pendubot_robust", (0, 1))])
def test_a_robot_says_which_joints_are_endless(robot: str, endless: tuple[int, ...]) -> None:
    interface = RobotFamily(load_robot(f"double_pendulum/{robot}"), "swing_up").interface
    assert interface.endless == endless and interface.angles == (0, 1)


def test_statistics_merge_as_if_all_came_at_once() -> None:
    values = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1
    parts, whole = Normaliser(2), Normaliser(2)
    for part in values.split(20):
        parts.update(part)
    whole.update(values)
    torch.testing.assert_close(parts.mean, values.mean(0))
    torch.testing.assert_close(parts.variance, values.var(0, correction=0))
    torch.testing.assert_close(whole.variance, parts.variance)
    torch.testing.assert_close(parts.inverse(parts(values)), values)
