"""Meta-learners that adapt by gradient steps: exact derivatives, one inner loop everywhere, and learning on points."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from adapt.episodes import Episodes
from adapt.gradient_based import GradientBased
from adapt.learner import make_learner
from adapt.outer import DivergenceError
from adapt.rollout import begin_trial, progress, rollout
from benchmarks.meta_gradient import Size, disagreement
from export.exporter import make_graph
from hardware_io.interface import Interface
from sim.families.navigation import Navigation, NavigationSettings
from sim.family import RobotFamily
from sim.robots import load_robot
from sim.vector_env import VectorEnv

B, K, T = 3, 4, 6
NAMES = ("maml", "fomaml", "meta_sgd", "anil", "promp", "reptile", "fine_tune", "scratch")
INTERFACE = Interface(observation=3, limit=(0.5, 2.0), angles=(1,))


def learner_of(name: str, interface: Interface = INTERFACE, **settings: Any) -> GradientBased:
    torch.manual_seed(0)
    learner = make_learner(name, interface, "test", {"hidden": [5, 4], **settings})
    assert isinstance(learner, GradientBased)
    return learner


def episodes_of(learner: GradientBased, fast: torch.Tensor, seed: int = 1) -> Episodes:
    """Random rollouts as the policy `fast` (B, F) would leave them, some of which end early."""
    torch.manual_seed(seed)
    dtype, size = learner.shared.dtype, learner.limit.shape[0]
    observation = torch.randn(B, K, T + 1, 3, dtype=dtype)
    noise = torch.randn(B, K, T, size, dtype=dtype)
    lanes = observation[:, :, :-1].reshape(B, -1, 3), noise.reshape(B, -1, size)
    command, _, extra = learner.act(lanes[0].flatten(0, 1), fast.detach(), lanes[1].flatten(0, 1))
    asked = command.view_as(noise).detach()
    length = torch.randint(T // 2, T + 1, (B, K, 1))
    valid, ended = torch.arange(T) < length, torch.arange(T) == length - 1
    action = extra["action"].view_as(noise).detach()
    reward = torch.randn(B, K, T, dtype=dtype) * valid
    starts = fast.detach()[:, None].expand(-1, K, -1)
    return Episodes(observation, asked, asked, noise, reward, valid, ended & (length < T), starts, fast.detach(), None,
                    {"action": action})  # fmt: skip


def trial(learner: GradientBased, adaptations: int = 1) -> tuple[list[Episodes], Episodes]:
    """Support and query of one outer step."""
    fast, support = learner.fast0(B), list[Episodes]()
    for index in range(adaptations):
        support.append(episodes_of(learner, fast, seed=index + 1))
        fast = learner.adapt(fast, support[-1]).detach()
    return support, episodes_of(learner, fast, seed=9)


@pytest.mark.parametrize("name", ["maml", "meta_sgd", "anil", "promp", "reinforce"])
@pytest.mark.parametrize("interface", [INTERFACE, Interface(3, (1.0,) * 3, discrete=True)], ids=["Gaussian", "softmax"])
def test_outer_gradient_is_that_of_finite_differences(name: str, interface: Interface) -> None:
    learner = learner_of(name, interface, inner_rate=0.3, later_rate=0.2, proximity=0.1).double()
    stages = [learner.samples(each, each.fast[:, 0]) for each in (lambda s, q: [*s, q])(*trial(learner, 2))]
    parameters, reach = list(learner.parameters()), 1e-5
    gradients = torch.autograd.grad(learner.mean(learner.objective, stages), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction, values = torch.randn_like(parameter), []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * reach * direction
                values.append(learner.mean(learner.objective, stages).item())
                parameter -= sign * reach * direction
        expected = (values[0] - values[1]) / (2 * reach)
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_tasks_in_a_batch_give_the_gradient_of_a_loop_over_tasks() -> None:
    assert disagreement(Size(tasks=3, samples=7, steps=1, hidden=8)) < 1e-6
    assert disagreement(Size(tasks=3, samples=7, steps=3, hidden=8)) < 1e-6


def test_the_first_order_gradient_is_taken_at_the_adapted_parameters() -> None:
    learner = learner_of("fomaml").double()
    stages = [learner.samples(each, each.fast[:, 0]) for each in (lambda s, q: [*s, q])(*trial(learner))]
    (gradient,) = torch.autograd.grad(learner.mean(learner.objective, stages), [learner.shared])
    fast = learner.adapted(stages[:1]).detach().requires_grad_()
    centre, spread = learner.policy(stages[1].features, fast)
    log_prob = learner.distribution.log_prob(stages[1].action, centre, spread)
    gain = (stages[1].advantage * torch.exp(log_prob - stages[1].log_prob)).sum()
    (at_adapted,) = torch.autograd.grad(gain, fast)
    assert torch.allclose(gradient, at_adapted[:, :-1].mean(0))


@pytest.mark.parametrize("method", ["trpo", "ppo"])
@pytest.mark.parametrize("name", ["maml", "promp", "reptile", "fine_tune"])
def test_chunks_do_not_change_the_update(name: str, method: str) -> None:
    results = []
    for chunk in (1, 10_000):
        learner = learner_of(name, chunk=chunk, outer={"method": method}).double()
        metrics = learner.meta_update(*trial(learner))
        results.append((learner.shared.detach(), metrics))
    # Solving for a trust region's step magnifies rounding.
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-4 if method == "trpo" else 1e-9)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_robot_adapts_as_in_training(name: str) -> None:
    learner = learner_of(name).double()
    episodes = episodes_of(learner, learner.fast0(B))
    trained = learner.adapted([learner.samples(episodes, learner.fast0(B))])
    recorded = replace(episodes, extra={}, dynamics=None)
    with torch.no_grad():
        adapted = learner.adapt(learner.fast0(B), recorded)
        alone = [learner.adapt(learner.fast0(1), recorded.robots_at(slice(i, i + 1))) for i in range(B)]
    assert torch.allclose(adapted, trained) and torch.allclose(torch.cat(alone), adapted)
    assert not torch.equal(adapted, learner.fast0(B)) and torch.all(adapted[:, -1] >= 1)


@pytest.mark.parametrize("name", [*NAMES, "reinforce"])
def test_acting_with_copies_is_acting_with_repeated_fast_states(name: str) -> None:
    learner = learner_of(name)
    fast = torch.randn(B, len(learner.kept))
    observation, noise = torch.randn(B * 2, 3), torch.randn(B * 2, 2)
    command, after, _ = learner.act(observation, fast, noise)
    repeated, _, _ = learner.act(observation, fast.repeat_interleave(2, dim=0), noise)
    assert torch.allclose(command, repeated, atol=1e-6) and torch.equal(after, fast)


def test_unroll_gives_the_means_that_acted() -> None:
    learner = learner_of("maml").double()
    episodes = episodes_of(learner, 0.1 * torch.randn(B, len(learner.kept), dtype=torch.float64))
    mean, after = learner.unroll(episodes, episodes.fast[:, 0])
    assert torch.equal(after, episodes.last_fast)
    std = (episodes.extra["action"] - mean) / episodes.noise
    assert torch.allclose(std, std[:, :1, :1].expand_as(std))


def test_later_steps_have_their_own_rate_and_are_pulled_back() -> None:
    learner = learner_of("maml", inner_rate=0.5, later_rate=0.1, proximity=0.2).double()
    episodes = episodes_of(learner, learner.fast0(B))
    first = learner.adapt(learner.fast0(B), episodes)
    plain = learner_of("maml", inner_rate=0.1).double()
    uncounted = torch.cat([first[:, :-1], torch.zeros(B, 1, dtype=first.dtype)], dim=1)
    step = learner.adapt(first, episodes) - first
    expected = plain.adapt(uncounted, episodes) - uncounted
    assert torch.allclose(step[:, :-1], expected[:, :-1] - 0.1 * 0.2 * first[:, :-1])


@pytest.mark.parametrize("name", ["maml", "meta_sgd", "promp"])
def test_a_resumed_training_goes_on_exactly(name: str) -> None:
    settings: dict[str, Any] = {"outer": {"method": "ppo", "warm_up": 3}}
    learner = learner_of(name, **settings)
    rounds = [trial(learner) for _ in range(2)]
    learner.meta_update(*rounds[0])
    resumed = learner_of(name, **settings)
    resumed.load_state_dict({key: value.clone() for key, value in learner.state_dict().items()})
    resumed.load_optimiser_state(copy.deepcopy(learner.optimiser_state()))
    assert learner.meta_update(*rounds[1]) == resumed.meta_update(*rounds[1])
    for one, other in zip(learner.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_baselines_learn() -> None:
    scratch, tuned, random = learner_of("scratch"), learner_of("fine_tune"), learner_of("reinforce")
    before = scratch.shared.detach().clone()
    for learner in (scratch, tuned, random):
        learner.meta_update(*trial(learner))
        assert learner.features.normaliser.count > 0
    assert torch.equal(scratch.shared, before)
    assert not torch.equal(tuned.shared, before) and not torch.equal(random.shared, before)


def test_reptile_goes_a_part_of_the_way() -> None:
    learner = learner_of("reptile", outer_rate=0.5, normalise=False).double()
    support, query = trial(learner)
    before = learner.shared.detach().clone()
    end = learner.adapt(query.fast[:, 0], query)[:, :-1].mean(0)
    learner.meta_update(support, query)
    assert torch.allclose(learner.shared - before, 0.5 * end)


class TestDivergence:
    def test_reward_that_is_not_finite_names_the_task(self) -> None:
        learner = learner_of("maml")
        episodes = episodes_of(learner, learner.fast0(B))
        episodes.reward[1, 2, 0] = torch.nan
        with pytest.raises(DivergenceError, match=r"task 1: .*reward"):
            learner.adapt(learner.fast0(B), episodes)

    def test_diverging_inner_step_names_task_and_step(self) -> None:
        learner = learner_of("maml", normalise=False, activation="relu")
        episodes = episodes_of(learner, learner.fast0(B))
        first = learner.adapt(learner.fast0(B), episodes)
        episodes.observation[2] = 1e30
        with pytest.raises(DivergenceError, match="task 2: step 2"):
            learner.adapt(first, episodes)

    @pytest.mark.parametrize("method", ["trpo", "ppo"])
    def test_an_update_that_fails_leaves_everything_as_it_was(self, method: str) -> None:
        learner = learner_of("maml", outer={"method": method})
        support, query = trial(learner)
        before = {key: value.clone() for key, value in learner.state_dict().items()}
        query.reward[0, 0, 0] = torch.inf
        with pytest.raises(DivergenceError, match="task 0"):
            learner.meta_update(support, query)
        assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())

    def test_an_outer_step_that_diverges_is_taken_back(self) -> None:
        learner = learner_of("maml", outer={"method": "ppo"})
        stages = [learner.samples(each, each.fast[:, 0]) for each in (lambda s, q: [*s, q])(*trial(learner))]
        before, values = learner.shared.detach().clone(), iter((1.0, torch.nan))
        with pytest.raises(DivergenceError, match="outer step 1"):
            learner.outer.step(lambda: next(values) * learner.mean(learner.objective, stages), lambda: torch.zeros(()))
        assert torch.equal(learner.shared, before) and not learner.outer.adam.state


@pytest.mark.parametrize(("name", "activation"), [("maml", "relu"), ("anil", "tanh"), ("reinforce", "tanh")])
def test_exported_graph_does_what_act_does(name: str, activation: str) -> None:
    spec = load_robot("simple_pendulum")
    interface = RobotFamily(spec, "swing_up").interface
    learner = learner_of(name, interface, activation=activation, initial_std=0.6)
    session = onnxruntime.InferenceSession(make_graph(learner, spec))
    for batch in (1, 3):
        observation, noise = torch.randn(batch, interface.observation), torch.randn(batch, interface.actions)
        fast = 0.3 * torch.randn(batch, len(learner.kept))
        feed = {"observation": observation.numpy(), "fast": fast.numpy(), "noise": noise.numpy()}
        command, after = session.run(None, feed)
        expected, _, _ = learner.act(observation, fast, noise)
        assert np.allclose(command, expected.detach().numpy(), atol=1e-5) and np.array_equal(after, fast.numpy())
        feed["observation"][:, 0] = np.nan
        assert np.isnan(session.run(None, feed)[0]).all(), "a fault of a sensor must not come out finite"


def test_maml_learns_to_learn_where_a_goal_is() -> None:
    family = Navigation(NavigationSettings(horizon=10))
    torch.manual_seed(0)
    settings = {
        "hidden": [16],
        "normalise": False,
        "inner_rate": 0.5,
        "initial_std": 0.8,
        "outer": {"trpo": {"max_kl": 0.03}},
    }
    learner = make_learner("maml", family.interface, "test", settings)
    copies, tasks = 10, 12
    with VectorEnv(family, copies * tasks, workers=0, groups=1) as envs:
        for iteration in range(15):
            fast = begin_trial(envs, learner, copies, np.random.default_rng(iteration))
            support = rollout(envs, learner, fast, 1, (1, iteration))
            query = rollout(envs, learner, learner.adapt(fast, support).detach(), 1, (2, iteration))
            learner.meta_update([support], query)
        fast = begin_trial(envs, learner, copies, np.random.default_rng(99))
        returns, _ = progress(envs, learner, fast, 1, 1, (3,), explore=True)
    before, after = returns.mean(0).tolist()
    assert after > before + 0.5
