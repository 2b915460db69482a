"""DQN with a mapping network: where a task begins, what it learns, and what is remembered of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt.dqn_mapping import DQNMapping
from adapt.episodes import Episodes
from adapt.outer import DivergenceError
from adapt.rollout import begin_trial, progress, rollout
from adapt.run_folder import TrainConfig
from adapt.train import Trainer
from hardware_io.config import build
from policies.checkpoint import load_checkpoint
from sim.vector_env import VectorEnv

TASKS, COPIES = 4, 2
SMALL = {
    "hidden": [8],
    "batch": 16,
    "updates": 4,
    "inner": {"steps": 5, "later_steps": 5, "batch": 16},
    "mapping": {"sources": 2, "library": 6, "transitions": 8, "latent": 3, "hidden": 8, "updates": 2},
}
TINY: dict[str, Any] = {
    "family": {"name": "cartpole", "settings": {"horizon": 12}},
    "learner": {"name": "dqn_mapping", "settings": SMALL},
    "lanes": TASKS * COPIES,
    "copies": COPIES,
    "workers": 0,
    "rollouts": 2,
    "support": 1,
    "steps": TASKS * COPIES * 24 * 4,  # four iterations
    "evaluate_every": 0,
}


def config(**changes: object) -> TrainConfig:
    return build(TrainConfig, {**TINY, **changes}, "test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer(config(), tmp_path_factory.mktemp("mapping"))
    assert trainer.run()
    return trainer


def learner_of(trainer: Trainer) -> DQNMapping:
    assert isinstance(trainer.learner, DQNMapping)
    return trainer.learner


def lived(trainer: Trainer, seed: int = 0) -> Episodes:
    """Rollouts of some tasks with the shared weights."""
    with VectorEnv(trainer.family, TASKS * COPIES, workers=0, groups=1) as envs:
        fast = begin_trial(envs, trainer.learner, COPIES, np.random.default_rng(seed))
        return rollout(envs, trainer.learner, fast, 1, (seed,))


def test_the_first_adaptation_maps_and_all_take_steps(trained: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, episodes = learner_of(trained), lived(trained)
    started = []
    descend = learner.descend
    monkeypatch.setattr(learner, "descend", lambda weights, *rest: started.append(weights) or descend(weights, *rest))
    first = learner.adapt(learner.fast0(TASKS), episodes)
    later = learner.adapt(first, episodes)
    with torch.no_grad():
        mapped, each, _ = learner.mapped(learner.described(learner.sample_of(episodes)))
    assert torch.equal(started[0], mapped) and each.shape == (TASKS, 2, learner.network.size)
    assert torch.allclose(started[1], learner.weights(first), atol=1e-6)
    assert torch.all(first[:, -1] == 1) and torch.all(later[:, -1] == 2)
    assert (learner.weights(later) - started[0]).abs().max() > 1e-3


def test_without_sources_a_task_begins_with_the_shared_weights(tmp_path: Path) -> None:
    settings = {**SMALL, "mapping": {"sources": 0}}
    trainer = Trainer(config(learner={"name": "dqn_mapping", "settings": settings}), tmp_path)
    assert trainer.run() and "nearest_source" not in trainer.metrics
    learner, episodes = learner_of(trainer), lived(trainer)
    shared = learner.shared.detach().expand(TASKS, -1)
    wanted = learner.descend(shared, episodes, 5) - shared
    assert torch.equal(learner.adapt(learner.fast0(TASKS), episodes)[:, :-1], wanted)


def test_each_task_learns_from_its_own_rollouts(trained: Trainer) -> None:
    learner, episodes = learner_of(trained), lived(trained)
    together = learner.adapt(learner.fast0(TASKS), episodes)
    for task in range(TASKS):
        alone = learner.adapt(learner.fast0(1), episodes.robots_at(slice(task, task + 1)))
        torch.testing.assert_close(alone[0], together[task], atol=1e-4, rtol=0)


def test_the_library_holds_the_last_tasks(trained: Trainer) -> None:
    learner = learner_of(trained)
    assert int(learner.entered) == 4 * TASKS and len(learner.sources) == 6
    before, episodes = learner.library.clone(), lived(trained)
    weights = torch.randn(TASKS, learner.network.size)
    learner.enter(episodes, weights)
    places = [(4 * TASKS + k) % 6 for k in range(TASKS)]
    assert torch.equal(learner.library[places], weights)
    assert torch.equal(learner.experience[places], learner.sample_of(episodes))
    rest = [place for place in range(6) if place not in places]
    assert torch.equal(learner.library[rest], before[rest])


@pytest.mark.parametrize("forgotten", [0.0, 0.25])
def test_what_enters_the_library_has_acted(forgotten: float, tmp_path: Path) -> None:
    """An offset from the shared weights counts from where they were; then it goes part of the way to where they are."""
    settings = {**SMALL, "inner": {"steps": 1, "later_steps": 1, "rate": 0.0, "forgotten": forgotten}}
    trainer = Trainer(config(learner={"name": "dqn_mapping", "settings": settings}, steps=1), tmp_path)
    learner = learner_of(trainer)
    before = learner.shared.detach().clone()
    assert trainer.run()
    entered = before.lerp(learner.shared, forgotten)
    assert torch.equal(learner.sources, entered.expand(TASKS, -1))
    assert not torch.equal(learner.shared, before)


def test_training_says_which_sources_were_near(trained: Trainer) -> None:
    metrics = trained.metrics
    assert metrics["sources"] == 6 and 1 <= metrics["sources_used"] <= 6
    assert 0 <= metrics["nearest_source"] <= metrics["chosen_sources"] <= metrics["all_sources"]
    assert metrics["mapped_apart"] > 0 and metrics["inner_shift"] > 0


def test_a_resumed_training_equals_one_that_was_never_interrupted(trained: Trainer, tmp_path: Path) -> None:
    first = Trainer(config(), tmp_path)
    assert not first.run(lambda progress, metrics: first.interrupt() if progress.iteration == 2 else None)
    assert Trainer(config(), tmp_path).run()
    whole, parts = (load_checkpoint(folder / "checkpoint.pt")["learner"] for folder in (trained.folder, tmp_path))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_task_that_is_not_finite_is_named(trained: Trainer) -> None:
    episodes = lived(trained)
    episodes.reward[2, 0, 0] = float("nan")
    with pytest.raises(DivergenceError, match="task 2: adaptation 1 left no finite weights"):
        learner_of(trained).adapt(trained.learner.fast0(TASKS), episodes)


def test_bandits_pay_more_after_an_adaptation(tmp_path: Path) -> None:
    settings = {**SMALL, "discount": 0.5, "exploration": {"last": 0.5}}
    settings["inner"] = {"steps": 40, "later_steps": 10, "batch": 32, "rate": 0.02}
    changes = {"family": {"name": "bandits", "settings": {"arms": 3, "pulls": 8, "feedback": False}}}
    changes |= {"learner": {"name": "dqn_mapping", "settings": settings}, "copies": 4, "lanes": 32}
    trainer = Trainer(config(**changes, steps=32 * 16 * 3), tmp_path)
    assert trainer.run()
    with VectorEnv(trainer.family, 4 * 40, workers=0, groups=1) as envs:
        fast = begin_trial(envs, trainer.learner, 4, np.random.default_rng(5))
        returns, _ = progress(envs, trainer.learner, fast, 2, 1, (5,))
    before, after, later = returns.mean(0).tolist()
    assert after > before + 0.7 and later > before + 0.7  # of 8 pulls, half of which pay by chance
