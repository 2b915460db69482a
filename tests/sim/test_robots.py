"""Every robot that ships: its spec, its rigid bodies, its hidden parameters and a step of it."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_io.config import ConfigError
from sim.batch_env import BatchEnv
from sim.robots import load_robot, robot_names
from sim.tasks import make_task


def test_shared_files_are_no_robots() -> None:
    assert set(robot_names()) >= {"simple_pendulum", "double_pendulum/acrobot", "double_pendulum/pendubot"}
    assert not any("_common" in name for name in robot_names())


@pytest.mark.parametrize("name", robot_names())
def test_a_robot_moves_under_any_dynamics_of_its_ranges(name: str) -> None:
    spec = load_robot(name)
    env = BatchEnv(spec, make_task("swing_up", spec), lanes=4)
    rng = np.random.default_rng(0)
    try:
        env.set_dynamics(env.ranges.sample(4, rng, "test"))
        first = env.reset(rng).copy()
        for _ in range(12):
            seen = env.step(np.tile(0.3 * spec.action_limit, (4, 1)))
        assert np.isfinite(seen).all() and not env.terminated.any()
        assert np.abs(seen - first)[:, env.sensor.slices["position"]].max() > 0.1
    finally:
        env.close()


def test_acrobot_and_pendubot_differ_in_the_motor_that_acts() -> None:
    acrobot, pendubot = load_robot("double_pendulum/acrobot"), load_robot("double_pendulum/pendubot")
    assert acrobot.acting == [1] and pendubot.acting == [0]
    assert acrobot.joints.keys() == pendubot.joints.keys() and acrobot.dynamics.keys() == pendubot.dynamics.keys()
    assert acrobot.dynamics["torque_constant"]["joint"] == "elbow"
    assert pendubot.dynamics["torque_constant"]["joint"] == "shoulder"


def test_a_robot_is_found_by_name_by_its_variant_alone_and_by_path() -> None:
    acrobot = load_robot("double_pendulum/acrobot")
    assert load_robot("acrobot") == load_robot(acrobot.source) == acrobot
    assert load_robot("simple_pendulum").name == "simple_pendulum"


@pytest.mark.parametrize("name", ["double_pendulum", "_common", "double_pendulum/_common"])
def test_what_is_no_robot_alone_is_not_found(name: str) -> None:
    with pytest.raises(ConfigError, match=r"double_pendulum/acrobot"):
        load_robot(name)


def test_an_unknown_robot_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'triple_pendulum'.*simple_pendulum"):
        load_robot("triple_pendulum")
