"""The contract of every meta-learner in the table, on a few small pendulums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt.actor_critic import ActorCritic
from adapt.dqn import DQN
from adapt.episodes import Episodes
from adapt.learner import META_LEARNERS, MetaLearner, make_learner
from adapt.rollout import rollout
from hardware_io.config import ConfigError
from hardware_io.interface import Interface
from policies.regulator import Regulator, RegulatorSettings
from sim.family import RobotFamily
from sim.robots import load_robot
from sim.vector_env import VectorEnv

LANES, ROLLOUTS = 8, 3
CHOICES = Interface(2, (1.0,) * 3, discrete=True, bounds=((0.0, 1.0),), nominal=(0.5,))


def of_table(name: str) -> type[MetaLearner]:
    module, attribute = META_LEARNERS[name]
    return getattr(import_module(module), attribute)


CONTINUOUS = [name for name in META_LEARNERS if of_table(name).continuous]
BY_PPO = [name for name in META_LEARNERS if issubclass(of_table(name), ActorCritic)]


@pytest.fixture(scope="module")
def envs() -> Iterator[VectorEnv]:
    family = RobotFamily(load_robot("simple_pendulum"), "swing_up", linearised=True, duration=0.6, hold=0.2)
    with VectorEnv(family, LANES, workers=1) as made:
        made.begin_trial(family.sample(LANES, np.random.default_rng(3)))
        yield made


def learner_of(name: str, envs: VectorEnv) -> MetaLearner:
    torch.manual_seed(0)
    return make_learner(name, envs.family.interface, "test", {})


def episodes_of(learner: MetaLearner, envs: VectorEnv) -> Episodes:
    if isinstance(learner, DQN):
        learner.exploration.fill_(0.5)  # as in the midst of training
    known = torch.tensor(envs.dynamics, dtype=torch.float32)
    return rollout(envs, learner, learner.fast0(LANES, known), ROLLOUTS, (7,), anywhere=0.5)


REGULATED = {"frames": 3, "regulator": {"reach": 5.0}}
MEASURED = {"regulator": {"reach": 5.0}}  # for those that keep no history


@pytest.mark.parametrize("name", ["rl2", "domain_randomised", "linear_transformer"])
def test_frames_and_a_regulator_are_the_same_step_by_step_and_in_whole_trials(name: str, envs: VectorEnv) -> None:
    """`unroll` has the centres and the fast state that `act` had."""
    torch.manual_seed(0)
    learner = make_learner(name, envs.family.interface, "test", REGULATED)
    episodes = episodes_of(learner, envs)
    with torch.no_grad():
        means, after = learner.unroll(episodes, learner.fast0(LANES))
    assert torch.allclose(after, episodes.last_fast, atol=1e-4)
    log_prob = learner.head.distribution.log_prob(episodes.extra["action"], means, learner.head.spread)
    assert torch.allclose(log_prob[episodes.valid], episodes.extra["log_prob"][episodes.valid], atol=1e-3)
    assert learner.meta_update([], episodes)["kl"] >= 0


@pytest.mark.parametrize(
    ("name", "settings"), [("maml", MEASURED), ("anil", MEASURED), ("sac", REGULATED), ("pearl", REGULATED)]
)
def test_near_the_goal_actions_are_added_to_the_regulator_and_far_from_it_they_act_alone(
    name: str, settings: dict[str, Any], envs: VectorEnv
) -> None:
    """Its velocity is the one that was measured, or how the position changed."""
    torch.manual_seed(0)
    interface = envs.family.interface
    learner = make_learner(name, interface, "test", settings)
    regulator = Regulator(interface, RegulatorSettings(reach=5.0), measured=True)
    goal = interface.linear.goal[0]
    fast, noise = learner.fast0(2), torch.full((2, 1), 0.2)
    before = torch.tensor([[goal + 0.01, 0.0, 1.0], [goal + 2.0, 0.0, 1.0]])
    after = torch.tensor([[goal + 0.008, 0.3, 0.0], [goal + 2.1, 0.3, 0.0]])
    for seen, moved in ((before, torch.zeros(2, 1)), (after, after[:, :1] - before[:, :1])):
        command, fast, extra = learner.act(seen, fast, noise)
        bounded = learner.distribution.bounded(extra["action"])
        told, cost = regulator.observe(seen) if settings is MEASURED else regulator(seen[:, :1], moved)
        assert cost[0] < 5.0 < cost[1] and 0.001 < told[0].abs() < 0.8
        expected = torch.stack([told[0] + 0.25 * bounded[0], bounded[1]]) * learner.limit
        torch.testing.assert_close(command, expected)


def test_copies_of_a_robot_are_regulated_each_where_it_is(envs: VectorEnv) -> None:
    torch.manual_seed(0)
    learner = make_learner("maml", envs.family.interface, "test", MEASURED)
    fast = 0.1 * torch.randn(2, len(learner.kept))
    seen = torch.tensor([[np.pi + 0.01, 0.1, 0.0], [1.0, 0.0, 0.0], [np.pi - 0.02, 0.0, 0.0], [0.0, 3.0, 0.0]])
    noise = torch.randn(4, 1)
    alone, _, _ = learner.act(seen, fast.repeat_interleave(2, 0), noise)
    torch.testing.assert_close(learner.act(seen, fast, noise)[0], alone)


@pytest.mark.parametrize("name", ["sac", "pearl"])
def test_what_is_carried_out_is_the_action_that_is_recalled_and_replayed(name: str, envs: VectorEnv) -> None:
    torch.manual_seed(0)
    learner = make_learner(name, envs.family.interface, "test", {**REGULATED, "warm_up": 1, "updates": 2})
    episodes = episodes_of(learner, envs)
    valid = episodes.valid
    with torch.no_grad():
        mean, after = learner.unroll(episodes, episodes.fast[:, 0])
    torch.testing.assert_close(after, episodes.last_fast, atol=1e-4, rtol=0)
    drawn = mean + episodes.extra["std"] * episodes.noise
    torch.testing.assert_close(drawn[valid], episodes.extra["action"][valid], atol=1e-3, rtol=0)
    assert all(np.isfinite(list(learner.meta_update([], episodes).values())))
    transitions = learner.replay.sample(200)
    batch = learner.batch(transitions)
    chosen = learner.distribution.bounded(episodes.extra["action"][valid][transitions.number])
    alone = torch.isclose(chosen, batch.action)
    assert 20 < alone.sum() < 180, "some near the goal, some far from it"
    torch.testing.assert_close(learner.carried_out(chosen, batch.advice), batch.action, atol=1e-5, rtol=0)
    # What follows on a transition begins the next one, unless that one is of another rollout.
    place = {int(number): index for index, number in enumerate(transitions.number)}
    pairs = torch.tensor([(i, place[n + 1]) for n, i in place.items() if n + 1 in place])
    first, second = pairs.T
    same = (transitions.next_observation[first] == transitions.observation[second]).all(-1)
    assert same.sum() > 10
    torch.testing.assert_close(batch.next_advice[first][same], batch.advice[second][same])


@pytest.mark.parametrize("name", ["rl2", "sac", "pearl"])
def test_a_regulator_reads_changes_of_position(name: str, envs: VectorEnv) -> None:
    with pytest.raises(ConfigError, match="frames: got 0; allowed: at least 1"):
        make_learner(name, envs.family.interface, "test", {"regulator": {}})


def test_a_regulator_without_a_history_needs_measured_velocities(envs: VectorEnv) -> None:
    blind = replace(envs.family.interface, velocities=())
    with pytest.raises(ConfigError, match=r"learner: regulator.*velocities of all joints"):
        make_learner("maml", blind, "test", MEASURED)
    assert make_learner("sac", blind, "test", REGULATED)


@pytest.mark.parametrize("name", CONTINUOUS)
class TestContract:
    """What holds for every learner that gives commands."""

    def test_shapes(self, name: str, envs: VectorEnv) -> None:
        learner = learner_of(name, envs)
        fast = learner.fast0(LANES)
        assert fast.dtype == torch.float32 and fast.shape == (LANES, len(learner.kept))
        command, after, _ = learner.act(torch.zeros(LANES, 3), fast, torch.zeros(LANES, 1))
        assert command.shape == (LANES, 1) and after.shape == fast.shape

    def test_commands_stay_within_the_limit_whatever_the_noise(self, name: str, envs: VectorEnv) -> None:
        learner = learner_of(name, envs)
        command, _, _ = learner.act(torch.zeros(LANES, 3), learner.fast0(LANES), torch.full((LANES, 1), 100.0))
        assert torch.all(command == envs.family.interface.limit[0])

    def test_choices_are_drawn_with_the_probabilities_of_the_policy(self, name: str, envs: VectorEnv) -> None:
        torch.manual_seed(0)
        if not of_table(name).discrete:
            with pytest.raises(ConfigError, match=f"learner.name.*{name}.*discrete"):
                make_learner(name, CHOICES, "test", {})
            return
        learner = make_learner(name, CHOICES, "test", {})
        fast, observation = learner.fast0(1).expand(4000, -1), torch.full((4000, 2), 0.3)
        command, _, extra = learner.act(observation, fast, torch.randn(4000, 3))
        assert torch.all((command == 0) | (command == 1)) and torch.all(command.sum(-1) == 1)
        if "log_prob" in extra:
            for choice in range(3):
                chosen = command[:, choice] == 1
                assert chosen.float().mean() == pytest.approx(
                    float(extra["log_prob"][chosen][0].detach().exp()), abs=0.03
                )
        alike, _, _ = learner.act(observation, fast, torch.zeros(4000, 3))
        assert torch.all(alike == alike[0]), "without noise the most likely one is chosen"

    def test_unroll_gives_the_centres_that_acted(self, name: str, envs: VectorEnv) -> None:
        learner = learner_of(name, envs)
        episodes = episodes_of(learner, envs)
        with torch.no_grad():
            mean, _ = learner.unroll(episodes, episodes.fast[:, 0])
        if "explored" in episodes.extra:  # greedy but for some actions, which are drawn evenly
            greedy = episodes.valid[..., None] & (episodes.extra["explored"] == 0)
            assert torch.equal(episodes.extra["action"][greedy], mean[greedy])
            assert 0 < greedy.sum() < episodes.valid.sum()
            return
        std = (episodes.extra["action"] - mean) / episodes.noise
        acted = episodes.valid
        expected = episodes.extra["std"] if "std" in episodes.extra else std[acted].mean().expand_as(std)
        assert torch.allclose(std[acted], expected[acted], atol=1e-2), "action = mean + std · noise at every step"

    def test_who_searches_settles_and_the_others_act_with_what_they_have(self, name: str, envs: VectorEnv) -> None:
        learner = learner_of(name, envs)
        fast = learner.fast0(2)
        assert (learner.settle(fast) is fast) != learner.searches
        assert torch.equal(learner.settle(fast), fast), "nothing was tried yet"

    def test_what_is_not_kept_returns_at_the_start_of_a_rollout(self, name: str, envs: VectorEnv) -> None:
        learner = learner_of(name, envs)
        started = learner.start_rollout(torch.full((2, len(learner.kept)), 5.0))
        assert torch.all(started[:, learner.kept] == 5.0)
        assert torch.all(started[:, ~learner.kept] == learner.fast0(2)[:, ~learner.kept])


@pytest.mark.parametrize("name", sorted(set(META_LEARNERS) - set(CONTINUOUS)))
def test_who_gives_choices_alone_draws_them_rightly_and_refuses_commands(name: str, envs: VectorEnv) -> None:
    TestContract().test_choices_are_drawn_with_the_probabilities_of_the_policy(name, envs)
    with pytest.raises(ConfigError, match=f"learner.name.*{name}.*continuous"):
        learner_of(name, envs)


@pytest.mark.parametrize("name", [name for name in BY_PPO if of_table(name).in_graph])
def test_adapt_on_recorded_episodes_gives_the_fast_state_of_the_rollout(name: str, envs: VectorEnv) -> None:
    learner = learner_of(name, envs)
    episodes = episodes_of(learner, envs)
    with torch.no_grad():
        assert torch.allclose(learner.adapt(episodes.fast[:, 0], episodes), episodes.last_fast, atol=1e-5)


@pytest.mark.parametrize("name", BY_PPO)
class TestByPPO:
    """What holds for learners that are trained by PPO."""

    def test_an_update_changes_policy_and_critic_and_nothing_becomes_nan(self, name: str, envs: VectorEnv) -> None:
        learner = learner_of(name, envs)
        before = {key: value.clone() for key, value in learner.state_dict().items()}
        metrics = learner.meta_update([], episodes_of(learner, envs))
        assert all(np.isfinite(list(metrics.values())))
        changed = {key for key, value in learner.state_dict().items() if not torch.equal(value, before[key])}
        assert {"head._log_std", "critic.0.weight", "features.normaliser.mean", "return_scale.mean"} <= changed
        assert all(torch.isfinite(value).all() for value in learner.state_dict().values())

    def test_support_and_query_together_are_one_trial(self, name: str, envs: VectorEnv) -> None:
        whole = learner_of(name, envs)
        episodes = episodes_of(whole, envs)
        torch.manual_seed(1)
        expected = whole.meta_update([], episodes)
        parts = learner_of(name, envs)
        first, rest = cut(episodes, 1)
        torch.manual_seed(1)
        assert parts.meta_update([first], rest) == expected

    def test_real_episodes_without_dynamics_are_refused_for_training(self, name: str, envs: VectorEnv) -> None:
        learner = learner_of(name, envs)
        real = Episodes(**{**vars(episodes_of(learner, envs)), "dynamics": None})
        with pytest.raises(ValueError, match="without dynamics"):
            learner.meta_update([], real)


def cut(episodes: Episodes, at: int) -> tuple[Episodes, Episodes]:
    """The first `at` rollouts, and the rest."""

    def part(where: slice, last: torch.Tensor) -> Episodes:
        values = {
            key: {k: v[:, where] for k, v in value.items()} if key == "extra" else value[:, where]
            for key, value in vars(episodes).items()
            if key not in ("last_fast", "dynamics")
        }
        return Episodes(**values, last_fast=last, dynamics=episodes.dynamics)

    return part(slice(0, at), episodes.fast[:, at]), part(slice(at, None), episodes.last_fast)


def test_memory_reaches_the_next_rollout_and_the_previous_action_does_not(envs: VectorEnv) -> None:
    torch.manual_seed(0)
    learner = make_learner("rl2", envs.family.interface, "test", {"memory": 16})
    episodes = rollout(envs, learner, learner.fast0(LANES), 2, (1,))
    assert torch.all(episodes.fast[:, 1, :16] != 0) and torch.all(episodes.fast[:, 1, 16:] == 0)


@pytest.mark.parametrize("name", ["rl2", "domain_randomised", "domain_randomised_memory"])
def test_what_comes_after_an_adaptation_is_recomputed_as_it_was(name: str, envs: VectorEnv) -> None:
    """As the outer loop does with support rollouts: a rollout begins with nothing left of the last action."""
    learner = learner_of(name, envs)
    learner.head.network[-1].weight.data *= 30  # so that what is read shows in the action
    support = rollout(envs, learner, learner.fast0(LANES), 1, (1,))
    query = rollout(envs, learner, learner.start_rollout(learner.adapt(support.fast[:, 0], support).detach()), 1, (2,))
    whole = support.then(query)
    with torch.no_grad():
        mean, _ = learner.unroll(whole, whole.fast[:, 0])
        again = learner.head.distribution.log_prob(whole.extra["action"], mean, learner.head.spread)
    assert torch.allclose(again[whole.valid], whole.extra["log_prob"][whole.valid], atol=1e-3)


def test_the_same_seed_gives_the_same_episodes(envs: VectorEnv) -> None:
    torch.manual_seed(0)
    learner = make_learner("rl2", envs.family.interface, "test", {})
    first, again, other = (rollout(envs, learner, learner.fast0(LANES), 1, (seed,)) for seed in (5, 5, 6))
    assert torch.equal(first.observation, again.observation) and torch.equal(first.reward, again.reward)
    assert not torch.equal(first.observation, other.observation)


def test_the_oracle_is_told_the_dynamics_and_the_others_are_not(envs: VectorEnv) -> None:
    known = torch.tensor(envs.dynamics, dtype=torch.float32)
    for name in CONTINUOUS:
        learner = make_learner(name, envs.family.interface, "test", {})
        told = not torch.equal(learner.fast0(LANES, known), learner.fast0(LANES))
        assert told == (name in ("oracle", "rma"))  # RMA in the first part of its training alone: see test_rma.py


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("rl3", {}, "learner.name.*rl3.*one of"),
        ("rl2", {"memroy": 3}, r"learner.memroy.*got 3.*one of the keys"),
        ("rl2", {"ppo": {"clip": -1.0}}, r"learner.ppo.clip.*at least 0"),
        ("rl2", {"memory": "many"}, "learner.memory.*a whole number"),
    ],
)
def test_bad_settings_are_named(envs: VectorEnv, name: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_learner(name, envs.family.interface, str(Path("x.yaml")), settings)
