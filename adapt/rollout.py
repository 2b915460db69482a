"""Rollouts of many simulated robots at once: policy and simulator work at the same time on alternate groups."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.episodes import Episodes
from adapt.learner import Actor, MetaLearner
from hardware_io.config import ConfigError
from hardware_io.state import Array
from sim.family import TaskError
from sim.vector_env import VectorEnv


@torch.no_grad()
def rollout(
    envs: VectorEnv,
    learner: Actor,
    fast: Tensor,
    rollouts: int,
    seed: tuple[int, ...],
    explore: bool = True,
    anywhere: float = 0.0,
) -> Episodes:
    """`rollouts` of the present trial from `fast` (B, F); the same seed, learner and layout give the same episodes.

    A share `anywhere` of the rollouts start all over the state space; without `explore` the noise is zero. With fewer
    robots than lanes, neighbouring lanes are copies of one robot and their rollouts count as rollouts of it: that is
    for learners whose fast state does not change in a rollout.
    """
    batch, steps, interface, device = envs.lanes, envs.family.steps, envs.family.interface, learner.kept.device
    copies = batch // len(fast)
    shape = (batch, rollouts, steps)
    observation = torch.zeros(batch, rollouts, steps + 1, interface.observation, device=device)
    asked, noise, reward = (torch.zeros(*shape, *last, device=device) for last in ([interface.actions],) * 2 + ([],))
    valid, terminated = (torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(2))
    starts = torch.zeros(len(fast), rollouts, fast.shape[1], device=device)
    extra: dict[str, Tensor] = {}
    if explore:
        generator = torch.Generator().manual_seed(hash(seed) % 2**63)
        noise.copy_(torch.randn(noise.shape, generator=generator))
    fast = fast.clone()
    for k in range(rollouts):
        if k > 0:
            fast = learner.start_rollout(fast)
        starts[:, k] = fast
        observation[:, k, 0] = torch.from_numpy(envs.begin_rollout((*seed, k), anywhere))
        going = torch.ones(batch, dtype=torch.bool, device=device)
        for t in range(steps + 1):
            for group, where in enumerate(envs.slices):
                if t > 0:
                    seen, gained, ended = envs.wait(group)
                    observation[where, k, t] = torch.from_numpy(seen)
                    reward[where, k, t - 1] = torch.from_numpy(gained)
                    over = torch.from_numpy(ended).to(device)
                    terminated[where, k, t - 1] = over & going[where]
                    going[where] &= ~over
                if t == steps:
                    continue
                robots = slice(where.start // copies, where.stop // copies)
                before = fast[robots]
                command, after, more = learner.act(observation[where, k, t], before, noise[where, k, t])
                envs.send(group, command.cpu().numpy())
                asked[where, k, t], valid[where, k, t] = command, going[where]
                if after is not before:  # the graph changed it
                    fast[robots] = torch.where(going[where, None], after, before)
                for name, values in more.items():
                    if name not in extra:
                        extra[name] = torch.zeros(*shape, *values.shape[1:], device=device)
                    extra[name][where, k, t] = values
    _check_finite(envs, observation, reward)
    dynamics = torch.tensor(envs.dynamics[::copies], dtype=torch.float32, device=device)
    lanes = {"observation": observation, "asked": asked, "noise": noise, "reward": reward, "valid": valid,
             "terminated": terminated}  # fmt: skip
    folded, extra = ({name: v.view(len(fast), -1, *v.shape[2:]) for name, v in d.items()} for d in (lanes, extra))
    sent = folded["asked"].clone()  # the simulated bus loses nothing; quantisation is part of its motors
    starts = starts[:, None].expand(-1, copies, -1, -1).reshape(len(fast), copies * rollouts, -1)
    return Episodes(**folded, sent=sent, fast=starts, last_fast=fast, dynamics=dynamics, extra=extra)


def _check_finite(envs: VectorEnv, observation: Tensor, reward: Tensor) -> None:
    """Raises TaskError naming the first task and step with a value that no learner may see."""
    for what, values, offset in (("reward", reward[..., None], 1), ("observation", observation, 0)):
        bad = ~torch.isfinite(values).all(-1)
        if bad.any():
            lane, _, step = (int(index) for index in bad.nonzero()[0])
            parameters = np.array2string(np.asarray(envs.dynamics[lane]), precision=4, threshold=8)
            where = f"{envs.family.name}: task {lane} (parameters {parameters}): step {step + offset}"
            raise TaskError(f"{where}: {what} {values[bad][0].tolist()}; allowed: finite numbers")


def begin_trial(
    envs: VectorEnv,
    learner: Actor,
    copies: int,
    rng: np.random.Generator,
    split: str = "train",
    randomised: bool = True,
    tasks: Array | None = None,
) -> Tensor:
    """Tasks for the lanes, each on `copies` of them, and the initial fast state (B, F).

    Random tasks of a split, or the nominal one, or those that are given, (B, P); only a privileged learner reads their
    hidden parameters. Raises ConfigError when the copies of a task would not be in flight together.
    """
    if envs.lanes // envs.groups % copies:
        raise ConfigError("rollout", "lanes", envs.lanes, f"a multiple of groups x copies = {envs.groups * copies}")
    count, family = envs.lanes // copies, envs.family
    if tasks is None:
        tasks = family.sample(count, rng, split) if randomised else np.tile(family.interface.nominal, (count, 1))
    envs.begin_trial(np.repeat(tasks, copies, axis=0))
    return learner.fast0(len(tasks), torch.tensor(tasks, dtype=torch.float32, device=learner.kept.device))


def progress(
    envs: VectorEnv,
    learner: MetaLearner,
    fast: Tensor,
    rounds: int,
    support: int,
    seed: tuple[int, ...],
    explore: bool = False,
) -> tuple[Tensor, NDArray[np.bool_] | None]:
    """Return and success (B, rounds + 1) against how often a learner has adapted, on the present trial.

    A learner that adapts inside the graph has lived through one rollout more each time. The others `adapt` from
    `support` rollouts a lane, in which they explore, as they must to learn from them, and are then scored alone, with
    what they settle on. One that searches compares rollouts like those that are scored.
    """
    if learner.in_graph:
        episodes = rollout(envs, learner, fast, rounds + 1, seed, explore)
        return episodes.returns, _success(envs, episodes)
    scores = []
    for index in range(rounds + 1):
        recorded = rollout(envs, learner, fast, support, (*seed, index), explore or not learner.searches)
        settled, scored = learner.settle(fast), recorded
        if settled is not fast or not explore:
            scored = rollout(envs, learner, settled, 1, (*seed, index, 1), explore)
        success = _success(envs, scored)
        scores.append((scored.returns.mean(1), None if success is None else success.mean(1)))
        if index < rounds:
            fast = learner.adapt(fast, recorded).detach()
    returns, successes = zip(*scores, strict=True)
    return torch.stack(returns, dim=1), None if successes[0] is None else np.stack(successes, axis=1)


def _success(envs: VectorEnv, episodes: Episodes) -> NDArray[np.bool_] | None:
    return envs.family.success(episodes.observation.cpu().numpy(), episodes.valid.cpu().numpy())
