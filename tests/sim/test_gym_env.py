"""The Gymnasium face of the engine: the interface that other libraries expect, and what resets and rollouts mean."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from hardware_io.config import ConfigError
from sim.gym_env import REGISTERED, RobotEnv


@pytest.mark.parametrize("name", REGISTERED)
def test_registered_environments_pass_gymnasiums_checks(name: str) -> None:
    env = gymnasium.make(name, duration=0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_making_one_by_its_module_registers_it() -> None:
    code = "import gymnasium; print(gymnasium.make('sim.gym_env:acclimate/AcrobotSwingUp-v0').action_space)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Box(-1.0, 1.0, (1,), float32)" in done.stdout, done.stderr


def test_a_reset_is_another_robot_and_a_seed_the_same_one() -> None:
    env = RobotEnv()
    _, first = env.reset(seed=3)
    _, second = env.reset()
    observation, again = env.reset(seed=3)
    assert not np.array_equal(first["dynamics"], second["dynamics"])
    assert np.array_equal(first["dynamics"], again["dynamics"])
    assert env.observation_space.contains(observation)
    low, high = env.engine.ranges.bounds("train").T
    assert ((first["dynamics"] >= low) & (first["dynamics"] <= high)).all()
    env.close()


def test_dynamics_can_be_given_whole_or_by_name() -> None:
    env = RobotEnv(split="test")
    _, info = env.reset(options={"dynamics": {"payload": 2.0}})
    expected = env.engine.ranges.nominal
    expected[env.engine.ranges.names.index("payload")] = 2.0
    assert np.array_equal(info["dynamics"], expected)
    assert np.array_equal(env.reset(options={"dynamics": expected})[1]["dynamics"], expected)
    assert env.engine.model.bodies(expected[None]).mass[0, 0] == pytest.approx(0.82)
    env.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dynamics": {"colour": 1.0}}, r"options\.dynamics\.colour.*payload"),
        ({"dynamics": [1.0, 2.0]}, r"options\.dynamics.*\d+ values"),
        ({"dynamics": {"payload": float("nan")}}, r"options\.dynamics.*finite"),
        ({"robot": "acrobot"}, r"options\.robot.*dynamics"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], words: str) -> None:
    env = RobotEnv()
    with pytest.raises(ConfigError, match=words):
        env.reset(options=options)
    env.close()


def test_an_unknown_split_or_task_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match=r"split.*'dev'"):
        RobotEnv(split="dev")
    with pytest.raises(ConfigError, match=r"tasks\.swing_up\.pace"):
        RobotEnv(pace=3)


def test_running_out_of_time_is_truncation_and_tells_success() -> None:
    env = RobotEnv(duration=2.0)
    env.reset(seed=0)
    for step in range(50):
        _, _, terminated, truncated, info = env.step(np.zeros(1, np.float32))
        assert (terminated, truncated) == (False, step == 49) and ("success" in info) == truncated
    assert info == {"success": False}
    env.close()


def test_holding_upright_is_success() -> None:
    env = RobotEnv(anywhere=1.0, duration=1.2)
    still = {"latency": 0.0, "torque_response": 0.002, "velocity_noise": 0.0, "position_noise": 0.0}
    for seed in range(40):
        observation, _ = env.reset(seed=seed, options={"dynamics": still})
        if abs(observation[0] - np.pi) > 0.1 or abs(observation[1]) > 1:
            continue
        info: dict[str, object] = {}
        while "success" not in info:
            command = -(8.0 * (observation[0] - np.pi) + 1.0 * observation[1]) / env.robot.action_limit[0]
            observation, _, _, _, info = env.step(np.array([command], np.float32))
        assert info["success"] is True
        break
    else:
        pytest.fail("no start near upright among 40")
    env.close()


def test_leaving_the_limits_is_termination_and_no_success() -> None:
    env = RobotEnv(duration=20.0)
    observation, _ = env.reset(seed=0, options={"dynamics": {}})
    terminated = truncated = False
    while not terminated and not truncated:
        push = np.array([1.0 if observation[1] >= 0 else -1.0], np.float32)
        observation, _, terminated, truncated, info = env.step(push)
    assert terminated and not truncated and info == {"success": False}
    env.close()


def test_an_action_is_a_share_of_the_command_limit() -> None:
    env = RobotEnv()
    env.reset(seed=0, options={"dynamics": {"latency": 0.0, "torque_response": 0.002}})
    for _ in range(3):
        env.step(np.array([-0.5], np.float32))
    assert env.engine.torque[0, 0] == pytest.approx(-0.5 * env.robot.action_limit[0], abs=0.003)  # N·m
    env.close()


def test_stable_baselines_trains_on_it_unchanged() -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed: pip install .[bench]")
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    env = gymnasium.make("acclimate/SimplePendulumSwingUp-v0", duration=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_for_sb3(env)
    model = sb3.PPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, seed=0, device="cpu")
    before = model.policy.state_dict()["action_net.weight"].clone()
    model.learn(256)
    assert model.num_timesteps == 256 and len(model.ep_info_buffer) == 10  # 25 steps each
    assert not before.equal(model.policy.state_dict()["action_net.weight"])
    env.close()
