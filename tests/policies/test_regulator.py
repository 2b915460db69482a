"""A regulator that holds a robot upright in its own simulator, and what becomes of actions near and far."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hardware_io.config import ConfigError
from hardware_io.interface import Interface, Linear
from policies.regulator import Regulator, RegulatorSettings, gains
from sim.family import RobotFamily
from sim.linear import linearise
from sim.robots import load_robot

CART = Linear(goal=(1.0,), period=0.1, state=((1.0, 0.1), (0.0, 1.0)), action=((0.005,), (0.1,)))
INTERFACE = Interface(observation=2, limit=(2.0,), angles=(0,), positions=(0,), velocities=(1,), linear=CART)


def test_gains_are_optimal() -> None:
    """The cost-to-go satisfies Bellman's equation, and no other command from a state costs less."""
    settings = RegulatorSettings(position=2.0, velocity=0.3, effort=0.7)
    gain, cost = gains(CART, settings)
    a, b = np.asarray(CART.state), np.asarray(CART.action)
    state, weights = np.array([0.3, -0.2]), np.diag([2.0, 0.3]) * 0.1

    def worth(command: np.ndarray) -> float:
        after = a @ state + b @ command
        return float(state @ weights @ state + 0.07 * command @ command + after @ cost @ after)

    best = -gain @ state
    assert worth(best) == pytest.approx(state @ cost @ state)
    assert all(worth(best + by) > worth(best) for by in (-0.01, 0.01))


def test_actions_are_added_near_the_goal_and_act_alone_far_from_it() -> None:
    regulator = Regulator(INTERFACE, RegulatorSettings(reach=0.5, share=0.25))
    near, far = torch.tensor([[1.02]]), torch.tensor([[1.0 + math.pi]])
    still, action = torch.zeros(1, 1), torch.tensor([[0.4]])
    command, cost = regulator(near, still)
    assert cost < 0.5 and command < 0  # back to where it is to be
    assert torch.allclose(regulator.blend(*regulator(near, still), action), command + 0.1)
    assert torch.equal(regulator.blend(*regulator(far, still), action), action)
    assert regulator.blend(*regulator(near, torch.full((1, 1), -0.01)), torch.ones(1, 1)) <= 1


def test_whole_turns_change_nothing_and_velocity_is_the_change_a_period() -> None:
    regulator = Regulator(INTERFACE, RegulatorSettings())
    gain, _ = gains(CART, RegulatorSettings())
    turned, _ = regulator(torch.tensor([[1.1 + 4 * math.pi]]), torch.tensor([[0.03]]))
    assert turned.item() == pytest.approx(-(gain[0, 0] * 0.1 + gain[0, 1] * 0.3) / 2.0, rel=1e-4)


def test_an_observation_says_what_position_and_change_say() -> None:
    """Whatever else is in it, and wherever; velocities are those of the robot's own channel."""
    spec = load_robot("double_pendulum/pendubot")
    linear = linearise(spec)
    plain = Interface.of(spec, np.zeros((0, 2)), np.zeros(0), linear)
    assert (plain.positions, plain.velocities) == ((0, 1), (2, 3))
    position, moved = torch.randn(5, 2), 0.01 * torch.randn(5, 2)
    velocity = moved / linear.period
    regulator = Regulator(plain, RegulatorSettings(), measured=True)
    seen = torch.cat([position, velocity, torch.ones(5, 1)], dim=-1)
    turned = Regulator(replace(plain, positions=(4, 1), velocities=(2, 0)), RegulatorSettings(), measured=True)
    for got, expected, other in zip(
        regulator.observe(seen), regulator(position, moved), turned.observe(seen[:, [3, 1, 2, 4, 0]]), strict=True
    ):
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(other, expected)


@pytest.mark.parametrize("action", [-0.6, 0.1, 0.9])
def test_the_slope_is_that_of_blending(action: float) -> None:
    regulator = Regulator(INTERFACE, RegulatorSettings(reach=0.5, share=0.3))
    command, cost = torch.tensor([[0.0], [0.95], [-1.5], [1.5]]), torch.tensor([[0.1], [0.1], [0.1], [0.9]])
    given = torch.full((4, 1), action, requires_grad=True)
    blended = regulator.blend(command, cost, given)
    (expected,) = torch.autograd.grad(blended.sum(), given)
    assert torch.equal(regulator.slope(cost, blended), expected)
    assert expected[2] == 0 and expected[3] == 1 and expected[0] == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["pendubot_robust", "acrobot_robust", "simple_pendulum"])
def test_it_holds_the_robot_upright_that_it_was_made_for(name: str) -> None:
    spec = load_robot(name)
    family = RobotFamily(spec, "swing_up", linearised=True)
    regulator = Regulator(family.interface, RegulatorSettings())
    block = family.block(2)
    block.set_dynamics(np.tile(family.interface.nominal, (2, 1)))
    block.reset(np.random.default_rng(0))
    goal = np.array(spec.poses["upright"])
    block.position[...], block.velocity[...] = goal + 0.01, 0.0
    block.world.set_state(block.position, block.velocity)
    before = torch.tensor(block.position, dtype=torch.float32)
    for _ in range(100):
        now = torch.tensor(block.position, dtype=torch.float32)
        command, _ = regulator(now, now - before)
        before = now
        block.step(command.clamp(-1, 1).numpy() * spec.action_limit)
    assert np.abs(block.position - goal).max() < 0.2
    block.close()


def test_the_linear_model_foretells_a_period_of_the_simulator() -> None:
    linear = linearise(load_robot("double_pendulum/pendubot"))
    poles = np.log(np.abs(np.linalg.eigvals(np.asarray(linear.state)))) / linear.period
    # Without friction, poles come in pairs around zero; the upright falls with 9 and 5 rad/s.
    assert np.allclose(np.sort(poles), -np.sort(poles)[::-1], atol=1e-3)
    assert np.sort(poles)[2:] == pytest.approx([4.6, 8.9], abs=0.1)


def test_a_pose_that_has_to_be_held_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"poses.held_out: got \[0.8, 0.5\]; allowed: .* without torque"):
        RobotFamily(load_robot("arm"), "swing_up", linearised=True)
    RobotFamily(load_robot("arm"), "swing_up", linearised=True, goal="hanging")


def test_a_task_without_a_goal_is_refused() -> None:
    with pytest.raises(ConfigError, match="regulator"):
        Regulator(Interface(observation=2, limit=(1.0,)), RegulatorSettings())


def test_a_robot_that_does_not_show_what_is_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="positions of all joints"):
        Regulator(replace(INTERFACE, positions=()), RegulatorSettings())
    blind = replace(INTERFACE, velocities=())
    with pytest.raises(ConfigError, match="velocities of all joints"):
        Regulator(blind, RegulatorSettings(), measured=True)
    Regulator(blind, RegulatorSettings())
