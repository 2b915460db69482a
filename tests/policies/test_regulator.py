"""A regulator that holds a robot upright in its own simulator, and what becomes of actions near and far."""

import math

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
INTERFACE = Interface(observation=2, limit=(2.0,), angles=(0,), positions=(0,), linear=CART)


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


def test_a_task_without_a_goal_is_refused() -> None:
    with pytest.raises(ConfigError, match="regulator"):
        Regulator(Interface(observation=2, limit=(1.0,)), RegulatorSettings())
