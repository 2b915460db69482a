"""DQN: targets by hand, a replay that resumes, and tasks that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapt.dqn import DQN, ExplorationSettings
from adapt.learner import make_learner
from adapt.replay import Transitions
from adapt.run_folder import TrainConfig, load_run, read_metrics
from adapt.train import Trainer
from hardware_io.config import build
from hardware_io.interface import Interface
from policies.checkpoint import load_checkpoint

MOTORS = Interface(2, (2.0, 4.0))
SMALL = {"hidden": [8], "batch": 16, "updates": 4}
TINY: dict[str, Any] = {
    "family": {"name": "cartpole", "settings": {"horizon": 20}},
    "learner": {"name": "dqn", "settings": SMALL},
    "lanes": 4,
    "workers": 0,
    "rollouts": 1,
    "steps": 4 * 20 * 4,  # four iterations
    "evaluate_every": 0,
}


def config(**changes: object) -> TrainConfig:
    return build(TrainConfig, {**TINY, **changes}, "test")


def learner(**settings: object) -> DQN:
    torch.manual_seed(0)
    made = make_learner("dqn", MOTORS, "test", {"hidden": [8], "bins": 3, **settings})
    assert isinstance(made, DQN)
    return made


def transitions(n: int) -> Transitions:
    torch.manual_seed(1)
    level = torch.randint(3, (n, 2)) - 1.0
    more = {"previous": torch.randn(n, 2)}
    plain = torch.randn(n, 2), level * torch.tensor([2.0, 4.0]), torch.randn(n), torch.randn(n, 2)
    return Transitions(*plain, (torch.arange(n) % 3 == 0).float(), torch.zeros(n), torch.arange(n), torch.ones(n), more)


@pytest.mark.parametrize("double", [False, True])
def test_targets_are_rewards_and_the_worth_of_what_follows(double: bool) -> None:
    dqn, batch = learner(double=double, discount=0.9), transitions(7)
    weights = torch.randn(1, dqn.network.size)
    target = torch.randn(1, dqn.network.size)
    value, error = dqn.temporal_difference(batch, weights, target)
    for n in range(7):
        after = (batch.next_observation[n : n + 1], batch.action[n : n + 1] / torch.tensor([2.0, 4.0]))
        now = dqn.values(batch.observation[n : n + 1], batch.extra["previous"][n : n + 1], weights)[0]
        other, own = dqn.values(*after, target)[0], dqn.values(*after, weights)[0]
        chosen = [(own if double else other)[d].argmax() for d in range(2)]
        best = sum(other[d, chosen[d]] for d in range(2)) / 2
        wanted = 0.1 * batch.reward[n] + 0.9 * best * (n % 3 != 0)
        levels = (batch.action[n] / torch.tensor([2.0, 4.0]) + 1).long()
        for d in range(2):
            assert value[n, d] == pytest.approx(float(now[d, levels[d]]), abs=1e-5)
            assert error[n, d] == pytest.approx(float(now[d, levels[d]] - wanted), abs=1e-5)


def test_the_target_follows_slowly_and_the_exploration_falls(tmp_path: Path) -> None:
    trainer = Trainer(config(), tmp_path)
    dqn = trainer.learner
    assert isinstance(dqn, DQN)
    before = dqn.target.clone()
    assert torch.equal(before, dqn.shared.detach()) and dqn.exploration == 1.0
    trainer.run()
    moved, led = (dqn.target - before).norm(), (dqn.shared.detach() - before).norm()
    assert 0 < moved < 0.2 * led  # 16 steps of 1 %
    assert dqn.exploration == pytest.approx(0.05)
    assert ExplorationSettings(1.0, 0.2, 0.5).rate(0.25) == pytest.approx(0.6)


@pytest.mark.parametrize("priority", [0.0, 0.6])
def test_a_resumed_training_equals_one_that_was_never_interrupted(tmp_path: Path, priority: float) -> None:
    changed = {"learner": {"name": "dqn", "settings": {**SMALL, "replay": {"priority": priority, "capacity": 200}}}}
    assert Trainer(config(**changed), tmp_path / "whole").run()
    first = Trainer(config(**changed), tmp_path / "parts")
    assert not first.run(lambda progress, metrics: first.interrupt() if progress.iteration == 2 else None)
    assert Trainer(config(**changed), tmp_path / "parts").run()
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt")["learner"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    lines = [[line["loss"] for line in read_metrics(tmp_path / name)] for name in ("whole", "parts")]
    assert lines[0] == lines[1] and len(lines[0]) == 4


def test_it_learns_to_keep_poles_up(tmp_path: Path) -> None:
    settings = {"hidden": [32], "updates": 40, "batch": 64, "target_rate": 0.03, "exploration": {"until": 0.4}}
    settings |= {"discount": 0.95, "learning_rate": 0.003}
    family = {"name": "cartpole", "settings": {"horizon": 60}}
    changes = {"family": family, "learner": {"name": "dqn", "settings": settings}, "lanes": 8}
    assert Trainer(config(**changes, steps=8 * 60 * 16), tmp_path).run()
    returns = [line["return"] for line in read_metrics(tmp_path)]
    assert load_run(tmp_path).iteration == 16
    assert sum(returns[:3]) / 3 < 35 and sum(returns[-3:]) / 3 > 50
