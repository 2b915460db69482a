"""Curricula: what is drawn after what was lived, exact resume, and bad settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt.curriculum import CurriculumSettings, Similar, Widen
from adapt.episodes import Episodes
from adapt.run_folder import TrainConfig, read_metrics
from adapt.train import Trainer
from hardware_io.config import ConfigError, build
from policies.checkpoint import load_checkpoint, save_checkpoint
from sim.families.navigation import Navigation, NavigationSettings

FAMILY = Navigation(NavigationSettings(horizon=4))  # goals in a square about the nominal one, of side 1
SETTINGS = {"memory": 4, "hidden": [8], "critic_hidden": [8], "ppo": {"epochs": 1, "minibatches": 1}}
TINY = {
    "family": {"name": "navigation", "settings": {"horizon": 4, "feedback": True}},
    "learner": {"name": "rl2", "settings": SETTINGS},
    "lanes": 8,
    "workers": 0,
    "steps": 8 * 2 * 4 * 4,  # four iterations
    "checkpoint_every": 1,
    "evaluate_every": 0,
}


def config(kind: str, **changes: object) -> TrainConfig:
    return build(TrainConfig, {**TINY, "curriculum": {"kind": kind}, **changes}, "test")


def lived(tasks: np.ndarray, returns: np.ndarray) -> Episodes:
    """One rollout of each task with a return: the task is what moves the robot, which is all that tells it."""
    task = torch.tensor(tasks, dtype=torch.float32)
    count, steps = len(task), 4
    moved = task[:, None, None] * torch.arange(steps + 1.0)[:, None]
    zeros, paid = torch.zeros(count, 1, steps, 2), torch.tensor(returns, dtype=torch.float32) / steps
    reward = paid[:, None, None].expand(count, 1, steps)
    valid = torch.ones(count, 1, steps, dtype=torch.bool)
    fast = torch.zeros(count, 1, 1)
    return Episodes(moved, zeros, zeros, zeros, reward, valid, ~valid, fast, fast[:, 0], task)


def test_the_range_widens_while_its_whole_is_mastered_and_narrows_when_it_is_not() -> None:
    curriculum = Widen(CurriculumSettings(kind="widen", least=0.3, step=0.1), FAMILY)
    rng, shares = np.random.default_rng(0), []
    for iteration in range(60):
        tasks = curriculum.draw(40, rng)
        assert np.abs(tasks).max() <= 0.5 * curriculum.share
        gained = min(iteration, 10) * np.ones(40)
        if iteration >= 25:  # what is far from the nominal task is unlearned
            gained[10:] = 0
        curriculum.observe(lived(tasks, gained - 20))
        shares.append(curriculum.share)
    assert max(shares[:25]) == 1.0 and shares[-1] == 0.3 and min(shares) == 0.3


def test_a_wide_range_is_nearly_that_of_training_and_a_narrow_one_near_the_nominal_task() -> None:
    curriculum = Widen(CurriculumSettings(kind="widen", least=0.1), FAMILY)
    narrow = curriculum.distance(curriculum.draw(2000, np.random.default_rng(0)))
    curriculum.share = 1.0
    whole = curriculum.draw(2000, np.random.default_rng(0))[500:]
    assert narrow == pytest.approx(0.05 * (0.75 + 0.25 / 2), rel=0.1)
    assert (whole == FAMILY.sample(2000, np.random.default_rng(0))[500:]).all()


def test_tasks_like_those_that_made_progress_are_practised_and_all_stay_reachable() -> None:
    curriculum = Similar(CurriculumSettings(kind="similar", neighbours=4), FAMILY)
    rng = np.random.default_rng(0)
    for iteration in range(6):  # goals to the right are learned, those to the left are not
        tasks = curriculum.draw(64, rng)
        metrics = curriculum.observe(lived(tasks, np.where(tasks[:, 0] > 0, iteration, 0.0)))
    assert metrics["curriculum_expected"] > 1.5 * metrics["curriculum_candidates"] > 0
    tasks = curriculum.draw(400, np.random.default_rng(1))
    assert (tasks[100:, 0] > 0).mean() > 0.9
    assert (tasks[:100] == FAMILY.sample(100, np.random.default_rng(1))).all()  # as without a curriculum


def test_before_anything_was_lived_all_tasks_promise_the_same() -> None:
    curriculum = Similar(CurriculumSettings(kind="similar"), FAMILY)
    tasks = curriculum.draw(400, np.random.default_rng(0))
    assert abs(tasks.mean()) < 0.05 and np.abs(tasks).max() > 0.45


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("kind", ["widen", "similar"])
def test_a_resumed_curriculum_goes_on_as_if_nothing_had_been(tmp_path: Path, kind: str, overlap: bool) -> None:
    assert Trainer(config(kind, overlap=overlap), tmp_path / "whole").run()
    first = Trainer(config(kind, overlap=overlap, checkpoint_every=10), tmp_path / "parts")

    def interrupt(*_: object) -> None:
        if first.progress.iteration == 2:
            first.interrupt()

    assert not first.run(interrupt)
    assert Trainer(config(kind, overlap=overlap), tmp_path / "parts").run()
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts["learner"][key]) for key, value in whole["learner"].items())
    timed = ("seconds", "steps_per_second", "simulation_share")
    lines = [[{k: v for k, v in line.items() if k not in timed} for line in read_metrics(tmp_path / name)]
             for name in ("whole", "parts")]  # fmt: skip
    assert lines[0] == lines[1] and len(lines[0]) == 4 and "curriculum_distance" in lines[0][-1]


@pytest.mark.parametrize("kind", ["widen", "similar"])
def test_tasks_have_copies_where_learners_adapt_between_rollouts(tmp_path: Path, kind: str) -> None:
    changes: dict[str, Any] = {"learner": {"name": "maml", "settings": {"hidden": [8]}}, "support": 1, "copies": 2}
    trainer = Trainer(config(kind, **changes, steps=1), tmp_path)
    assert trainer.run() and trainer.metrics["curriculum_distance"] > 0
    if isinstance(trainer.curriculum, Similar):
        assert trainer.curriculum.lived["task"].shape == (4, 2)


def test_without_a_curriculum_nothing_changes_and_older_checkpoints_go_on(tmp_path: Path) -> None:
    assert Trainer(config("none", steps=128), tmp_path).run()
    content = load_checkpoint(tmp_path / "checkpoint.pt")
    del content["curriculum"], content["config"]["curriculum"]
    save_checkpoint(tmp_path / "checkpoint.pt", content)
    assert Trainer(config("none"), tmp_path).run()
    assert not any(name.startswith("curriculum") for line in read_metrics(tmp_path) for name in line)


def test_learners_of_the_nominal_task_are_left_alone(tmp_path: Path) -> None:
    learner = {"name": "ppo", "settings": {**SETTINGS}}
    del learner["settings"]["memory"]
    assert Trainer(config("widen", learner=learner), tmp_path).curriculum is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"curriculum": {"kind": "harder"}}, "curriculum.kind: got 'harder'; allowed: one of none, widen, similar"),
        ({"curriculum": {"kind": "widen", "least": 0}}, "curriculum.least: got 0.0; allowed: at least 0.01"),
        ({"curriculum": {"kind": "similar", "uniform": 0}}, "curriculum.uniform: got 0.0; allowed: at least 0.01"),
        ({"lanes": 1}, "curriculum.kind: got 'widen'; allowed: none where a trial has 1 task"),
        (
            {"family": {"name": "grid_world"}},
            "curriculum.kind: got 'widen'; allowed: none or similar: between tasks of grid_world",
        ),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Trainer(config("widen", **change), tmp_path)
