"""RMA: convolutions over windows and over whole rollouts, what is told when, and a module that finds out the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt.episodes import Episodes
from adapt.learner import make_learner
from adapt.rma import RMA
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import TrainConfig, load_run
from adapt.train import Trainer
from hardware_io.config import build
from policies.checkpoint import load_checkpoint
from policies.rma import WINDOW, AdaptationModule
from sim.families.navigation import Navigation, NavigationBlock, NavigationSettings
from sim.vector_env import VectorEnv

LANES = 16
SIZES = {"extrinsics": 3, "encoder": [8], "channels": 8, "hidden": [8], "critic_hidden": [8]}
SMALL = {**SIZES, "expert_share": 0.5, "module_learning_rate": 0.005}
HORIZON = 12


class Windy(Navigation):
    """Points that a wind drives, of which the two hidden parameters tell; the goal is where they start."""

    @classmethod
    def of(cls, settings: dict[str, Any], source: str) -> Windy:
        return cls(NavigationSettings(horizon=HORIZON, tolerance=0.0))

    def block(self, n: int) -> WindyBlock:
        return WindyBlock(self.settings, n)


class WindyBlock(NavigationBlock):
    def set_dynamics(self, dynamics: np.ndarray) -> None:
        self.wind = 0.1 * dynamics

    def step(self, command: np.ndarray) -> np.ndarray:
        super().step(command)
        self.position += self.wind
        return self.position.astype(np.float32)


@pytest.fixture(scope="module")
def envs() -> Iterator[VectorEnv]:
    with VectorEnv(Windy.of({}, "test"), LANES, workers=0, groups=1) as made:
        yield made


def learner_of(envs: VectorEnv, **settings: object) -> RMA:
    torch.manual_seed(0)
    made = make_learner("rma", envs.family.interface, "test", {**SMALL, **settings})
    assert isinstance(made, RMA)
    return made


def episodes_of(learner: RMA, envs: VectorEnv, rollouts: int = 2, seed: int = 0) -> Episodes:
    return rollout(envs, learner, begin_trial(envs, learner, 1, np.random.default_rng(seed)), rollouts, (seed,))


def test_a_sequence_says_what_each_of_its_windows_says() -> None:
    torch.manual_seed(0)
    module = AdaptationModule(3, 2, 4)
    sequence = torch.randn(2, WINDOW + 9, 3)
    along = module.along(sequence)
    assert along.shape == (2, 10, 2)
    for step in range(10):
        torch.testing.assert_close(along[:, step], module(sequence[:, step : step + WINDOW]), atol=1e-6, rtol=0)
    changed = sequence.clone()
    changed[:, [0, -1]] += 1
    unlike = (module.along(changed) != along).any(-1)[0]
    assert unlike[0] and unlike[-1] and not unlike[1:-1].any(), "the oldest and the newest step of a window count"


@pytest.mark.parametrize("every", [1, 5])
def test_estimates_are_the_same_step_by_step_and_in_whole_trials(envs: VectorEnv, every: int) -> None:
    learner = learner_of(envs, module_every=every)
    learner.estimates.fill_(True)
    learner.head.network[-1].weight.data *= 30  # so that what is read shows in the action
    episodes = episodes_of(learner, envs, rollouts=3)
    with torch.no_grad():
        means, after = learner.unroll(episodes, episodes.fast[:, 0])
        again = learner.head.distribution.log_prob(episodes.extra["action"], means, learner.head.spread)
        read, _ = learner.read_through(
            learner.inputs(episodes)[:, :, :-1], episodes.fast[:, 0, : learner.memory_size], episodes.valid
        )
    torch.testing.assert_close(after, episodes.last_fast, atol=1e-5, rtol=0)
    torch.testing.assert_close(again, episodes.extra["log_prob"], atol=1e-3, rtol=0)
    changes = (read[..., learner.input_size :].diff(dim=2) != 0).any(-1)
    steps = torch.arange(1, 12)
    assert torch.equal(changes, (steps % every == 0).expand_as(changes))


def test_the_expert_is_told_and_what_comes_after_it_is_not(envs: VectorEnv) -> None:
    learner = learner_of(envs)
    goals = torch.tensor(envs.family.sample(LANES, np.random.default_rng(0)), dtype=torch.float32)
    expert = learner.fast0(LANES, goals)
    torch.testing.assert_close(expert[:, 3:6], learner.encode(learner.normalise(goals)))
    episodes = episodes_of(learner, envs)
    assert torch.equal(episodes.last_fast[:, :6], episodes.fast[:, 0, :6]), "true extrinsics stay"
    learner.trained = 0.5
    learner.meta_update([], episodes)
    assert not learner.fast0(LANES, goals).any(), "from then on, nobody tells it"
    again = learner_of(envs)
    again.load_state_dict(learner.state_dict())
    assert not again.fast0(LANES, goals).any(), "nor a copy that is evaluated"


def test_only_the_module_learns_after_the_expert(envs: VectorEnv) -> None:
    learner = learner_of(envs)
    before = {name: value.clone() for name, value in learner.state_dict().items()}

    def changed() -> set[str]:
        return {n.split(".")[0] for n, value in learner.state_dict().items() if not torch.equal(value, before[n])}

    learner.meta_update([], episodes_of(learner, envs))
    assert {"encoder", "head", "critic", "features"} <= changed() and not {"module", "estimates"} & changed()
    learner.estimates.fill_(True)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.trained = 0.9
    learner.meta_update([], episodes_of(learner, envs))
    assert changed() == {"module"}
    with pytest.raises(ValueError, match="without dynamics"):
        learner.meta_update([], Episodes(**{**vars(episodes_of(learner, envs)), "dynamics": None}))


def test_system_identification_reads_the_parameters_themselves(envs: VectorEnv) -> None:
    learner = learner_of(envs, extrinsics=0)
    goals = torch.tensor([[0.25, -0.5]])
    assert learner.encoder is None and learner.fast0(1, goals)[0, :5].tolist() == [0.5, -1.0, 1.0, 0.5, -1.0]


def test_a_training_learns_to_estimate_and_can_be_resumed_exactly(tmp_path: Path) -> None:
    settings = {**SMALL, "expert_share": 0.25}
    content = {"family": {"name": f"{__name__}:Windy"}, "learner": {"name": "rma", "settings": settings}}
    budget = {"lanes": 64, "workers": 0, "rollouts": 1, "checkpoint_every": 1, "evaluate_every": 0}
    errors = list[float]()

    def trainer(folder: str, iterations: int) -> Trainer:
        return Trainer(
            build(TrainConfig, {**content, **budget, "steps": iterations * 64 * HORIZON}, "test"), tmp_path / folder
        )

    first = trainer("whole", 20)
    assert first.run(lambda _, metrics: errors.append(metrics.get("estimation_error", np.inf)))
    assert np.isinf(errors[5]) and errors[-1] < 0.75 * errors[6], "a quarter of the training is the expert's"
    parts = trainer("parts", 20)
    parts.run(lambda progress, _: parts.interrupt() if progress.iteration == 15 else None)
    assert load_run(tmp_path / "parts").iteration == 15 and trainer("parts", 20).run()
    states = [load_checkpoint(tmp_path / name / "checkpoint.pt")["learner"] for name in ("whole", "parts")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
