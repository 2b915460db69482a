"""Model-based learners: who acts in training, what is learned from it, and that contexts are the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt.collect import collect
from adapt.episodes import Episodes
from adapt.learner import make_learner
from adapt.model_based import ModelBased, bootstrap
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import TrainConfig, read_metrics
from adapt.train import Trainer
from hardware_io.config import build
from policies.checkpoint import load_checkpoint
from sim.families.navigation import Navigation, NavigationBlock, NavigationSettings
from sim.vector_env import VectorEnv

NAMES = ("pets", "grbal", "rebal")
SMALL = {
    "model": {"members": 2, "hidden": [24]},
    "planner": {"horizon": 4, "candidates": 24, "elites": 4, "iterations": 2},
    "hidden": [24],
    "batch": 64,
    "learning_rate": 5e-3,
}
WINDOWS = {"pets": {}, "grbal": {"past": 3, "future": 3, "context": 2}, "rebal": {"past": 3, "future": 3, "memory": 4}}


class Turned(Navigation):
    """Points with one goal, of which some go where they are told and the others the opposite way: (1,) is the sign."""

    name = "turned"

    def __init__(self, signs: tuple[float, ...] = (1.0,)) -> None:
        super().__init__(NavigationSettings(horizon=12, goal=0.5))
        self.signs = signs

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Turned:
        return cls(tuple(settings["signs"]))

    def sample(self, n: int, rng: np.random.Generator, split: str = "train") -> np.ndarray:
        return np.stack([rng.choice(self.signs, n), np.zeros(n)], axis=1)

    def block(self, n: int) -> TurnedBlock:
        return TurnedBlock(self.settings, n)


class TurnedBlock(NavigationBlock):
    def set_dynamics(self, dynamics: np.ndarray) -> None:
        self.sign = dynamics[:, :1]
        self.goal[...] = (0.5, -0.4)

    def step(self, command: np.ndarray) -> np.ndarray:
        return super().step(self.sign * command)


def config(name: str, signs: tuple[float, ...] = (1.0,), batches: int = 10, **changes: Any) -> TrainConfig:
    learner = {"name": name, "settings": {**SMALL, **WINDOWS[name], "batches": batches}}
    plain = {
        "family": {"name": f"{__name__}:Turned", "settings": {"signs": list(signs)}},
        "lanes": 8,
        "workers": 0,
        "rollouts": 2,
        "anywhere": 0.0,
        "steps": 8 * 2 * 12 * 4,  # four iterations
        "evaluate_every": 0,
        "checkpoint_every": 1,
    }
    return build(TrainConfig, {**plain, "learner": learner, **changes}, "test")


def learner_of(name: str, **settings: Any) -> ModelBased:
    torch.manual_seed(0)
    made = make_learner(name, Turned().interface, "test", {**SMALL, **WINDOWS[name], "batches": 10, **settings})
    assert isinstance(made, ModelBased)
    return made


def collected(learner: ModelBased, signs: tuple[float, ...] = (1.0,), iteration: int = 0) -> Episodes:
    chosen = config("pets", signs)
    with VectorEnv(Turned(signs), chosen.lanes, 0) as envs:
        return collect(chosen, envs, learner, iteration).query


@pytest.mark.parametrize("name", NAMES)
def test_adapt_on_recorded_episodes_gives_the_fast_state_of_the_rollout(name: str) -> None:
    learner, family = learner_of(name), Turned()
    learner.meta_update([], collected(learner))
    with VectorEnv(family, 4, 0) as envs, torch.no_grad():
        fast = begin_trial(envs, learner, 1, np.random.default_rng(0))
        episodes = rollout(envs, learner, fast, 3, (1,))
        assert torch.allclose(learner.adapt(fast, episodes), episodes.last_fast, atol=1e-5)
    assert torch.all(episodes.last_fast[:, -1] > 0), "it doubts"


@pytest.mark.parametrize("name", ["grbal", "rebal"])
def test_contexts_of_training_are_those_of_the_graph(name: str) -> None:
    learner = learner_of(name)
    episodes = collected(learner)
    learner.meta_update([], episodes)
    own = len(learner.kept)
    with torch.no_grad():
        fast = learner.fast0(episodes.robots)
        for t in range(learner.past + 1):  # the last step of the past is read when its outcome is seen
            context, memory = learner.recall(episodes.observation[:, 0, t], fast)
            action = episodes.asked[:, 0, t] / learner.limit
            fast = learner.leave(episodes.observation[:, 0, t], action, context, memory, fast)
        window, valid = learner.replay.sample_windows(200, learner.past + learner.future)
        told = learner._contexts(window, valid[:, : learner.past].float())
    first = window.number[:, 0] % 24 == 0  # where trials begin: two rollouts of 12 steps each
    robots = window.partition[first, 0]
    assert first.any() and torch.allclose(told[first], context[robots], atol=1e-5) and fast.shape[1] == own


def test_a_context_is_a_gradient_step_on_the_last_steps() -> None:
    learner = learner_of("grbal", inner_rate=0.01)
    episodes = collected(learner)
    learner.meta_update([], episodes)
    with torch.no_grad():
        learner.log_rate.fill_(np.log(0.1))
    before, after = episodes.observation[:, 0, :3], episodes.observation[:, 0, 1:4]
    action, memory = episodes.asked[:, 0, :3] / learner.limit, torch.zeros(8, 6)
    for t in range(3):
        memory = learner.learn(before[:, t], action[:, t], after[:, t], memory)
    context = torch.zeros(8, 2, requires_grad=True)

    def error(context: torch.Tensor) -> torch.Tensor:
        errors = [
            (
                learner.model(before[:, t], action[:, t], context).mean[..., :2]
                - learner.model.moved(before[:, t], after[:, t])
            )
            ** 2
            for t in range(3)
        ]
        return torch.stack(errors).mean((0, 1, 3)) / 2

    (gradient,) = torch.autograd.grad(error(context).sum(), context)
    assert torch.allclose(learner.read(memory), -0.1 * gradient, atol=1e-6)
    assert torch.all(error(learner.read(memory)) <= error(context))


@pytest.mark.parametrize("name", ["grbal", "rebal"])
def test_the_context_tells_robots_apart(name: str) -> None:
    """Half of the points go the opposite way: without a context nothing is known of where one goes."""
    learner = learner_of(name, batches=100, batch=192, model={"members": 2, "hidden": [32, 32]})
    for iteration in range(5):
        learner.begun.fill_(False)  # noise acts, which shows all sides
        learner.meta_update([], collected(learner, (-1.0, 1.0), iteration))
    episodes = collected(learner, (-1.0, 1.0), 9)
    with torch.no_grad():
        context = learner.recall(episodes.observation[:, 1, -1], episodes.last_fast[:, : len(learner.kept)])[0]
        command, position = torch.tensor([[1.0, 0.0]]).expand(8, -1), torch.zeros(8, 2)
        moved = learner.model.usual.inverse(learner.model(position, command, context).mean.mean(0))[:, 0]
    assert episodes.dynamics is not None
    turned = episodes.dynamics[:, 0] < 0
    assert moved[~turned].min() > moved[turned].max() + 0.04, "of 0.2 between them"


def test_before_there_is_a_model_noise_acts_and_then_the_planner_or_the_policy() -> None:
    learner = learner_of("pets", driven=0.5)
    first = collected(learner)
    assert torch.equal(first.asked, first.noise.clamp(-1, 1) * learner.limit) and not first.extra["driven"].any()
    learner.meta_update([], first)
    later = collected(learner, iteration=1)
    driven = later.extra["driven"][:, :, 0] > 0
    assert torch.all((later.extra["driven"] > 0) == driven[..., None]) and driven.any() and not driven.all()
    assert torch.equal(later.extra["plan"][~driven] * learner.limit, later.asked[~driven])
    assert not torch.equal(later.extra["plan"][driven] * learner.limit, later.asked[driven])
    assert set(learner.meta_update([], later)) == {"model_loss", "policy_loss", "return_planned", "return_driven"}


def test_members_resample_transitions_each_in_its_own_way_and_always_the_same() -> None:
    number = torch.arange(20_000)
    counts = bootstrap(number, 3)
    assert torch.equal(counts[:, 500:600], bootstrap(number[500:600], 3))
    assert counts.mean(1) == pytest.approx(np.ones(3), abs=0.03) and counts.max() == 4
    assert (counts == 0).float().mean().item() == pytest.approx(np.exp(-1), abs=0.01)
    assert torch.corrcoef(counts)[0, 1].abs() < 0.03


def test_planner_and_policy_learn_to_reach_a_goal(tmp_path: Path) -> None:
    trainer = Trainer(config("pets", batches=120), tmp_path)
    assert trainer.run()
    lines = read_metrics(tmp_path)
    with VectorEnv(trainer.family, 4, 0) as envs:
        fast = begin_trial(envs, trainer.learner, 1, np.random.default_rng(0))
        policy = rollout(envs, trainer.learner, fast, 1, (1,), explore=False).returns.mean().item()
    assert lines[-1]["return_planned"] > lines[0]["return"] + 2 and policy > lines[0]["return"] + 2


@pytest.mark.parametrize("name", ["pets", "grbal"])
def test_a_resumed_training_equals_one_that_was_never_interrupted(name: str, tmp_path: Path) -> None:
    assert Trainer(config(name, batches=5), tmp_path / "whole").run()
    first = Trainer(config(name, batches=5), tmp_path / "parts")
    first.run(lambda progress, metrics: first.interrupt() if progress.iteration == 2 else None)
    assert first.progress.iteration == 2 and Trainer(config(name, batches=5), tmp_path / "parts").run()
    whole, parts = (load_checkpoint(tmp_path / each / "checkpoint.pt")["learner"] for each in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert read_metrics(tmp_path / "whole")[-1]["return"] == read_metrics(tmp_path / "parts")[-1]["return"]
