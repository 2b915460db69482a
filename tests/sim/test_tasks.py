"""The swing-up: rewards worked out by hand, their bounds, where a rollout ends and when it has succeeded."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from sim.robots import load_robot
from sim.tasks import TASKS, make_task
from sim.tasks.swing_up import SwingUp


def swing_up(spec: RobotSpec, **parameters: float) -> SwingUp:
    task = make_task("swing_up", spec, **parameters)
    assert isinstance(task, SwingUp)
    return task


def pendulum_observation(*rows: tuple[float, float]) -> np.ndarray:
    """(T+1, 3) of positions and velocities."""
    return np.array([(position, velocity, 0.0) for position, velocity in rows])


def test_every_task_of_a_robot_can_be_made() -> None:
    for name in TASKS:
        assert make_task(name, load_robot("double_pendulum/acrobot")).steps == 250


def shaped(squared: float, tolerance: float, speed: float = 0.0) -> float:
    """The reward of being near, from the squared error, rad², and speed, rad²/s²: three wells, each inside the last."""
    widths = ((0.2, 1.0, 0.02), (0.3, 32 * tolerance**2, 0.1), (0.3, 2 * tolerance**2, 0.2))
    return float(sum(share * np.exp(-squared / width - damping * speed) for share, width, damping in widths))


def test_rewards_by_hand(pendulum: RobotSpec) -> None:
    task, limit = swing_up(pendulum, position_tolerance=0.12, effort=0.01), pendulum.action_limit[0]
    seen = pendulum_observation((np.pi, 0.0), (0.0, 0.0), (np.pi / 2, 0.0), (np.pi - 0.12, 1.0))
    action = np.array([[0.0], [limit], [-limit / 2], [0.0]])
    reward = task.reward(seen, action, seen, action)
    hanging = shaped(np.pi**2, 0.12) - 0.01
    level = 0.2 / 2 + shaped(np.pi**2 / 4, 0.12) - 0.01 / 4
    near = 0.2 * (1 + np.cos(0.12)) / 2 + shaped(0.12**2, 0.12, 1.0)
    assert reward == pytest.approx([1.0, hanging, level, near], abs=1e-12)


def test_changes_and_speed_cost_what_the_task_says(pendulum: RobotSpec) -> None:
    limit = pendulum.action_limit[0]
    seen = pendulum_observation((0.0, 3.0), (0.0, 30.0))
    free, charged = (swing_up(pendulum, effort=0.0, change=cost, speed=cost) for cost in (0.0, 0.001))
    action = np.array([[limit], [limit]]), seen, np.array([[-limit], [limit]])
    spent = free.reward(seen, *action) - charged.reward(seen, *action)
    assert spent == pytest.approx([0.001 * 4 + 0.001 * 9, 0.001 * 400])  # from end to end; and no more than 20 rad/s


def test_some_starts_near_upright_are_very_near_and_some_are_thrown() -> None:
    task = swing_up(load_robot("double_pendulum/acrobot"), thrown=15.0)
    position, velocity = task.reset(4000, np.random.default_rng(0), 1.0)
    error = np.abs(task.error(np.concatenate([position, np.zeros((4000, 3))], axis=1))).max(1)
    assert 0.05 < np.mean((error < 0.05) & (np.abs(velocity).max(1) < 0.2)) < 0.1
    assert 14.9 < np.abs(velocity).max() <= 15.0


def test_height_counts_each_link() -> None:
    task = swing_up(load_robot("double_pendulum/acrobot"), position_tolerance=0.35)
    upper_up = np.array([np.pi, np.pi, 0, 0, 0])  # upper link up, lower link folded down beside it
    rest = np.zeros(1)
    assert task.reward(upper_up, rest, upper_up, rest) == pytest.approx(0.2 / 2 + shaped(np.pi**2, 0.35))
    lower_up = np.array([0, np.pi, 0, 0, 0])  # the other way round: both angles are wrong, the lower link is up
    assert task.reward(lower_up, rest, lower_up, rest) == pytest.approx(0.2 / 2 + shaped(2 * np.pi**2, 0.35))


@pytest.mark.parametrize("robot", ["simple_pendulum", "double_pendulum/pendubot"])
def test_a_reward_is_at_most_one_and_at_least_the_effort(robot: str) -> None:
    spec, rng = load_robot(robot), np.random.default_rng(0)
    task = swing_up(spec)
    seen = rng.uniform(-15, 15, (20000, spec.observation_size))
    before, action = rng.uniform(-1, 1, (2, 20000, 1)) * spec.action_limit
    reward = task.reward(seen, action, seen, before)
    assert reward.shape == (20000,) and reward.max() <= 1 and reward.min() >= -0.01


def test_the_goal_is_any_pose_of_the_robot() -> None:
    spec = load_robot("double_pendulum/arm")
    task, rest = swing_up(spec, duration=0.4, hold=0.4, position_tolerance=0.05), np.zeros(2)
    held = np.tile([0.8, 0.5, 0, 0, 0], (21, 1))
    assert task.reward(held[0], rest, held[0], rest) == pytest.approx(1.0)
    off = held + np.array([0.0, 0.06, 0, 0, 0])
    height = 0.2 * (1 + np.cos(0.06)) / 2 / 2 + 0.2 / 2
    assert task.reward(off[0], rest, off[0], rest) == pytest.approx(height + shaped(0.06**2, 0.05))
    upright = np.tile([np.pi, 0, 0, 0, 0], (21, 1))
    assert task.success(np.stack([held, off, upright]), np.ones((3, 20), bool)).tolist() == [True, False, False]
    with pytest.raises(ConfigError, match="a pose named 'kneeling'"):
        swing_up(spec, goal="kneeling")


def test_a_whole_turn_away_is_upright_as_well(pendulum: RobotSpec) -> None:
    assert swing_up(pendulum).error(np.array([-np.pi, 0.0, 0.0])) == pytest.approx(0.0, abs=1e-12)
    assert swing_up(pendulum).error(np.array([3 * np.pi + 0.1, 0.0, 0.0])) == pytest.approx(0.1)


def test_a_rollout_ends_beyond_the_limits(pendulum: RobotSpec) -> None:
    seen = pendulum_observation((6.4, 0), (6.6, 0), (-6.6, 0), (0, 19.9), (0, 20.1), (0, -20.1))
    assert swing_up(pendulum).terminated(seen).tolist() == [False, True, True, False, True, True]


def test_success_is_the_whole_hold_within_the_tolerances(pendulum: RobotSpec) -> None:
    task = swing_up(pendulum, duration=2.0, hold=0.4, position_tolerance=0.12, velocity_tolerance=0.6)
    assert (task.steps, task.hold_steps) == (50, 10)

    def rollout(error: float, speed: float, steps: int = 10) -> np.ndarray:
        return pendulum_observation(*[(0.0, 0.0)] * (51 - steps), *[(np.pi + error, speed)] * steps)

    episodes = np.stack(
        [rollout(0, 0), rollout(0.11, 0.59), rollout(0.13, 0), rollout(0, 0.61), rollout(0, 0, 9), rollout(-0.11, -0.5)]
    )
    valid = np.ones((6, 50), bool)
    assert task.success(episodes, valid).tolist() == [True, True, False, False, False, True]
    valid[0, 49] = False  # it ended early
    assert task.success(episodes, valid).tolist() == [False, True, False, False, False, True]


def test_rollouts_start_hanging_or_anywhere(pendulum: RobotSpec) -> None:
    task, rng = swing_up(pendulum), np.random.default_rng(0)
    position, velocity = task.reset(1000, rng, 0.0)
    assert np.abs(position).max() <= 0.05 and np.abs(velocity).max() <= 0.05
    position, velocity = task.reset(4000, rng, 0.5)
    hanging = (np.abs(position[:, 0]) <= 0.05) & (np.abs(velocity[:, 0]) <= 0.05)
    near = np.abs(position[:, 0] - np.pi) <= 0.4
    assert hanging.mean() == pytest.approx(0.5, abs=0.03) and near.mean() == pytest.approx(0.25 + 0.03, abs=0.03)
    assert (np.abs(position) <= 6.3).all()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"duration": -1.0}, ["tasks.swing_up.duration", "at least 0.1 s"]),
        ({"height": 1.0}, ["tasks.swing_up.height", "one of the keys duration"]),
        ({"hold": "long"}, ["tasks.swing_up.hold", "'long'"]),
    ],
)
def test_bad_parameters_are_named(pendulum: RobotSpec, parameters: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task("swing_up", pendulum, **parameters)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_unknown_task_is_named(pendulum: RobotSpec) -> None:
    with pytest.raises(ConfigError, match=r"'juggle'.*swing_up"):
        make_task("juggle", pendulum)
