"""Training: exact resume, Ctrl-C, what lies in the folder, and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from adapt.collect import collect
from adapt.run_folder import TrainConfig, load_run, read_config, read_metrics
from adapt.train import Trainer, main
from hardware_io.config import ConfigError, build
from policies.checkpoint import load_checkpoint, save_checkpoint
from sim.families.navigation import Navigation, NavigationBlock, NavigationSettings
from sim.family import TaskError
from sim.vector_env import VectorEnv

TINY = {
    "robot": "simple_pendulum",
    "task": {"name": "swing_up", "settings": {"duration": 0.4, "hold": 0.2}},
    "learner": {"name": "rl2", "settings": {"memory": 8, "hidden": [8], "critic_hidden": [8], "ppo": {"epochs": 1}}},
    "lanes": 4,
    "workers": 1,
    "steps": 4 * 2 * 10 * 4,  # four iterations
    "checkpoint_every": 1,
    "evaluate_every": 2,
}


def config(**changes: object) -> TrainConfig:
    return build(TrainConfig, {**TINY, **changes}, "test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoint.pt")["learner"]


@pytest.mark.parametrize("overlap", [False, True])
def test_a_resumed_training_equals_one_that_was_never_interrupted(tmp_path: Path, overlap: bool) -> None:
    assert Trainer(config(overlap=overlap), tmp_path / "whole").run()
    first = Trainer(config(checkpoint_every=10, overlap=overlap), tmp_path / "parts")

    def interrupt(progress: object, metrics: object) -> None:
        if first.progress.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    assert not first.run(interrupt)
    assert first.progress.iteration == 2 and load_run(tmp_path / "parts").iteration == 2
    assert Trainer(config(overlap=overlap), tmp_path / "parts").run()
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    kept = ("iteration", "return", "policy_loss", "kl")
    lines = [[{k: line[k] for k in kept} for line in read_metrics(tmp_path / name)] for name in ("whole", "parts")]
    assert lines[0] == lines[1] and len(lines[0]) == 4


def test_a_training_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    assert Trainer(config(), tmp_path / "first").run()
    longer = {"name": "swing_up", "settings": {"duration": 0.6, "hold": 0.2}}
    second = Trainer(config(task=longer, overlap=True, begin_with=str(tmp_path / "first")), tmp_path / "second")
    assert second.ahead is not None and second.progress.steps == 0
    for learner in (second.learner, second.ahead.actor):
        for name, value in learner.state_dict().items():
            assert torch.equal(value, weights(tmp_path / "first")[name]), name
    other = {"name": "rl2", "settings": {"memory": 9, "hidden": [8], "critic_hidden": [8]}}
    with pytest.raises(ConfigError, match=r"begin_with: .*first.*; allowed: a training of rl2 with the same sizes"):
        Trainer(config(learner=other, begin_with=str(tmp_path / "first")), tmp_path / "third")
    with pytest.raises(ConfigError, match="nowhere"):
        Trainer(config(begin_with=str(tmp_path / "nowhere")), tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_regret_takes_the_place_of_reward_in_what_training_maximises(tmp_path: Path) -> None:
    learner = {"name": "rl2", "settings": {"memory": 8, "hidden": [8], "critic_hidden": [8]}}
    bandits = config(robot=None, task=None, family={"name": "bandits"}, learner=learner, regret=True, lanes=64)
    trainer = Trainer(bandits, tmp_path / "run")
    with VectorEnv(trainer.family, 64, workers=0, groups=1) as envs:
        query = collect(bandits, envs, trainer.learner, 0).query
        chance = torch.tensor(envs.dynamics, dtype=torch.float32)
    pulled = chance.gather(1, query.asked[:, 0].argmax(-1))
    wanted = pulled - chance.max(1, keepdim=True).values
    assert torch.allclose(query.gained[:, 0], wanted, atol=1e-6)
    assert set(query.reward.unique().tolist()) == {0.0, 1.0}  # what the policy sees is what was paid


def test_regret_is_asked_of_families_that_know_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="regret: got True; allowed: false: simple_pendulum does not know it"):
        Trainer(config(regret=True), tmp_path / "run")


def test_with_overlap_a_trial_is_simulated_with_the_weights_from_before_the_last_update(tmp_path: Path) -> None:
    folders = {overlap: tmp_path / str(overlap) for overlap in (False, True)}
    for overlap, folder in folders.items():
        assert Trainer(config(overlap=overlap), folder).run()
    plain, ahead = ([line["return"] for line in read_metrics(folder)] for folder in folders.values())
    assert plain[0] == ahead[0] and plain[1] != ahead[1]
    late = Trainer(config(), tmp_path / "late")
    with VectorEnv(late.family, late.config.lanes, late.config.workers) as envs:
        untrained = collect(late.config, envs, late.learner, 1)
    assert float(untrained.query.returns.mean()) == ahead[1]


@pytest.mark.parametrize("overlap", [False, True])
def test_a_task_that_fails_leaves_what_was_learned_before_it(tmp_path: Path, overlap: bool) -> None:
    changes = {"robot": None, "task": None, "workers": 0, "checkpoint_every": 100, "overlap": overlap}
    family = {"name": f"{__name__}:Breaking", "settings": {"good_trials": 2}}
    trainer = Trainer(config(**changes, family=family), tmp_path)
    with pytest.raises(TaskError, match=r"breaking: task 1 \(parameters \[.*\]\): step 1: reward \[nan\]"):
        trainer.run()
    assert load_checkpoint(tmp_path / "checkpoint.pt")["iteration"] == 2 == len(read_metrics(tmp_path))
    assert all(torch.equal(value, trainer.learner.state_dict()[key]) for key, value in weights(tmp_path).items())


class Breaking(Navigation):
    """Points on a plane of which the second is not paid in numbers, after some trials."""

    name = "breaking"

    def __init__(self, good_trials: int) -> None:
        super().__init__(NavigationSettings(horizon=3))
        self.good_trials = good_trials

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Breaking:
        return cls(**settings)

    def block(self, n: int) -> BreakingBlock:
        return BreakingBlock(self.settings, n, self.good_trials)


class BreakingBlock(NavigationBlock):
    def __init__(self, settings: NavigationSettings, n: int, good_trials: int) -> None:
        super().__init__(settings, n)
        self.trials_left = good_trials

    def set_dynamics(self, dynamics: np.ndarray) -> None:
        super().set_dynamics(dynamics)
        self.trials_left -= 1

    def step(self, command: np.ndarray) -> np.ndarray:
        observation = super().step(command)
        if self.trials_left < 0:
            self.reward[1] = np.nan
        return observation


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    Trainer(config(steps=160, checkpoint_every=1), tmp_path).run()
    with (tmp_path / "metrics.jsonl").open("a") as file:  # iterations after the checkpoint, the last one cut
        file.write(json.dumps({"iteration": 3, "return": 0.0}) + '\n{"iterat')
    trainer = Trainer(config(checkpoint_every=1), tmp_path)
    assert trainer.progress.iteration == 2 and trainer.run()
    assert [line["iteration"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_the_folder_holds_what_export_and_evaluation_need(tmp_path: Path) -> None:
    Trainer(config(), tmp_path).run()
    run = load_run(tmp_path)
    assert run.config == config() and run.spec.name == "simple_pendulum" and run.iteration == 4
    assert run.task["duration"] == 0.4 and run.task["position_tolerance"] > 0
    assert {"return", "success_before", "success_after"} <= set(run.metrics)
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert read_config(tmp_path / "config.yaml") == config()


def test_ctrl_c_ends_the_command_with_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "steps": 10_000_000}))
    command = [sys.executable, "-m", "cli", "train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    patience = time.monotonic() + 240
    while not (tmp_path / "run" / "checkpoint.pt").exists() and time.monotonic() < patience:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # its workers, too, as a terminal does
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130 and f"acclimate train {tmp_path / 'run'}" in output
    before = load_run(tmp_path / "run").iteration
    assert before >= 1
    assert main([str(tmp_path / "run"), "--set", f"steps={(before + 2) * 80}"]) == 0
    assert load_run(tmp_path / "run").iteration == before + 2
    assert [line["iteration"] for line in read_metrics(tmp_path / "run")] == list(range(1, before + 3))


def test_another_configuration_does_not_overwrite_a_run(tmp_path: Path) -> None:
    Trainer(config(), tmp_path).run()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ConfigError, match=r"checkpoint.pt: seed: got 1; allowed: 0 as in the checkpoint"):
        Trainer(config(seed=1, steps=640), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_another_version_is_named_and_kept(tmp_path: Path) -> None:
    Trainer(config(), tmp_path).run()
    save_checkpoint(tmp_path / "checkpoint.pt", {**load_checkpoint(tmp_path / "checkpoint.pt"), "optimiser": {}})
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ConfigError, match=r"checkpoint.pt: state: .*a checkpoint of this version"):
        Trainer(config(), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    Trainer(config(), tmp_path).run()
    data = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=r"checkpoint.pt.*unreadable.*a whole checkpoint"):
        load_run(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere.*no such file.*acclimate train"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lerner": 1}, r"bad.yaml: lerner: got 1; allowed: one of the keys learner, robot, task, calibration, family"),
        ({"steps": 0}, r"bad.yaml: steps: got 0; allowed: at least 1 policy steps"),
        ({"anywhere": 1.5}, r"bad.yaml: anywhere: got 1.5; allowed: at most 1"),
        ({"robot": "spot"}, r"robot: name: got 'spot'; allowed: .*simple_pendulum"),
        ({"task": {"name": "fly"}}, r"task: name: got 'fly'; allowed: one of swing_up"),
        ({"task": {"name": "swing_up", "settings": {"hold": "long"}}}, r"swing_up.hold: got 'long'; allowed: a number"),
        ({"lanes": 3}, r"lanes: got 3; allowed: a multiple of workers x groups = 2"),
        ({"learner": {"name": "maml"}, "support": 1, "overlap": True}, r"overlap: got True; allowed: false for maml"),
        ({"learner": {"name": "maml"}, "support": 1, "copies": 4}, r"lanes: got 4; allowed: .*groups x copies = 8"),
        ({"copies": 2}, r"copies: got 2; allowed: 1 for rl2"),
        ({"compiled": True}, r"bad.yaml: compiled: got True; allowed: false for rl2: it has no external memory"),
        ({"learner": {"name": "maml"}}, r"support: got 0; allowed: at least 1 for maml"),
        (
            {"learner": {"name": "anil", "settings": {"hidden": []}}, "support": 1},
            r"learner.hidden: got \[\]; allowed: at",
        ),
        ({"support": 2}, r"bad.yaml: support: got 2; allowed: less than rollouts \(2\)"),
    ],
)
def test_bad_configurations_are_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**TINY, **change}))
    with pytest.raises(ConfigError, match=words):
        main([str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "run")])


@pytest.mark.slow
def test_without_a_compiler_nothing_is_compiled(tmp_path: Path) -> None:
    learner = {"name": "mann", "settings": {"hidden": [8], "critic_hidden": [8]}}
    (tmp_path / "mann.yaml").write_text(yaml.safe_dump({**TINY, "learner": learner, "compiled": True}))
    arguments = [sys.executable, "-m", "cli", "train", str(tmp_path / "mann.yaml"), "--out", str(tmp_path / "run")]
    none = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(arguments, env={**os.environ, **none}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "compiled: got True; allowed: false where PyTorch cannot compile; it needs a C++ compiler" in done.stderr
    assert not (tmp_path / "run").exists()


def test_overrides(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    changed = read_config(tmp_path / "tiny.yaml", ["learner.settings.memory=5", "steps=123"])
    assert changed.learner.settings["memory"] == 5 and changed.learner.settings["hidden"] == [8]
    assert changed.steps == 123
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        read_config(tmp_path / "tiny.yaml", ["steps"])
