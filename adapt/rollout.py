"""Rollouts of many simulated robots at once: policy and simulator work at the same time on alternate groups."""

from __future__ import annotations

import torch
from torch import Tensor

from adapt.episodes import Episodes
from adapt.learner import MetaLearner
from sim.vector_env import VectorEnv


@torch.inference_mode()
def rollout(
    envs: VectorEnv,
    learner: MetaLearner,
    fast: Tensor,
    rollouts: int,
    seed: tuple[int, ...],
    explore: bool = True,
    anywhere: float = 0.0,
) -> Episodes:
    """`rollouts` of the present trial from `fast` (B, F); the same seed, learner and layout give the same episodes.

    A share `anywhere` of the rollouts start all over the state space; without `explore` the noise is zero.
    """
    batch, steps, spec = envs.lanes, envs.task.steps, envs.spec
    shape, device = (batch, rollouts, steps), learner.kept.device
    observation = torch.zeros(batch, rollouts, steps + 1, spec.observation_size, device=device)
    asked, noise, reward = (torch.zeros(*shape, *last, device=device) for last in ([spec.action_size],) * 2 + ([],))
    valid, terminated = (torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(2))
    starts = torch.zeros(batch, rollouts, fast.shape[1], device=device)
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
                command, after, more = learner.act(observation[where, k, t], fast[where], noise[where, k, t])
                envs.send(group, command.cpu().numpy())
                asked[where, k, t], valid[where, k, t] = command, going[where]
                fast[where] = torch.where(going[where, None], after, fast[where])
                for name, values in more.items():
                    if name not in extra:
                        extra[name] = torch.zeros(*shape, *values.shape[1:], device=device)
                    extra[name][where, k, t] = values
    dynamics = torch.tensor(envs.dynamics, dtype=torch.float32, device=device)
    sent = asked.clone()  # the simulated bus loses nothing; quantisation is part of its motors
    return Episodes(observation, asked, sent, noise, reward, valid, terminated, starts, fast, dynamics, extra)
