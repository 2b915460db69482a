"""PEARL (Rakelly et al. 2019, https://arxiv.org/abs/1903.08254): a policy told what is believed of the robot.

The belief is a Gaussian over a latent z, the product of a prior, N(0, 1), and of a factor for each transition that was
seen, whose order does not matter. Unlike in the paper the prior is a factor too, so that there always is a belief; so
few numbers hold it that it is brought up to date inside the graph. A transition is an observation, an action and the
observation after it, which shows the reward where the interface does.

While a robot explores it acts for a whole rollout as if one draw of z were true (posterior sampling): what the draw is
off the mean by, in standard deviations, is taken from the noise of the rollout's first steps, as many as it takes to
fill it. Without noise z is the mean. Policy and critics are soft actor-critic's; the encoder learns from the critics'
loss. It is shown contexts as a robot comes by them, what a trial held up to a random moment: draws from whole trials
hold more of the truth than any first rollout. `P` tasks, `N` samples, `C` transitions of context, `L` latent numbers,
`O` observation, `A` action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from adapt.episodes import Episodes
from adapt.off_policy import Batch, OffPolicy
from adapt.sac import SAC, SACSettings
from hardware_io.config import option
from hardware_io.interface import Interface
from policies.perceptron import Perceptron


@dataclass(frozen=True)
class PEARLSettings(SACSettings):
    latent: int = option(5, min=1, help="numbers that a robot is described by")
    encoder_hidden: tuple[int, ...] = option((64, 64), min=1)
    infer: str = option("step", choices=("step", "rollout"), help="when the policy is told a new belief")
    kl: float = option(0.001, min=0.0, help="weight of the belief's divergence from the prior, nats a task")
    tasks: int = option(16, min=1, help="in one gradient step")
    batch: int = option(32, min=1, unit="transitions", help="of each of these tasks")
    context: int = option(64, min=1, unit="transitions", help="of the same task, at most, that a belief comes from")


class PEARL(SAC):
    """Memory: mean and log precision of the belief (L each), kept; offset of the draw (L), steps so far (1), the last
    observation (O); where beliefs hold for a rollout, mean and log precision in use (L each).
    """  # fmt: skip

    Settings = PEARLSettings
    settings: PEARLSettings
    NAMES = (*OffPolicy.NAMES, "kl")

    def __init__(self, interface: Interface, settings: PEARLSettings) -> None:
        size = settings.latent
        self.parts = [size, size, size, 1, interface.observation] + [size, size] * (settings.infer == "rollout")
        super().__init__(interface, settings, memory=sum(self.parts), latent=size)
        self.kept[: 2 * size] = True
        reads = 2 * self.features.size + interface.actions
        self.encoder = Perceptron([reads, *settings.encoder_hidden, 2 * size], output_gain=1.0)
        places = torch.arange(size)
        self.register_buffer("filled_at", places // interface.actions, persistent=False)  # step whose noise fills it
        self.register_buffer("filled_from", places % interface.actions, persistent=False)
        self.filled_at: Tensor
        self.filled_from: Tensor

    def transition(self, before: Tensor, action: Tensor, after: Tensor) -> Tensor:
        """What the encoder reads of observations (..., O) around actions (..., A) in units of the limit."""
        return torch.cat([self.features(before), action, self.features(after)], dim=-1)

    def factors(self, transitions: Tensor, train: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and precision (..., L) of each transition's factor."""
        mean, precision = (self.encoder.train_on if train else self.encoder)(transitions).chunk(2, dim=-1)
        return mean, softplus(precision)

    def recall(self, observation: Tensor, action: Tensor, noise: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_precision, offset, count, before, *held = memory.split(self.parts, dim=-1)
        seen = count.clamp(max=1)  # 0 as a rollout begins
        told, weight = self.factors(self.transition(before, action, observation))
        weight = weight * seen
        precision = torch.exp(log_precision) + weight
        mean = mean + (told - mean) * weight / precision
        log_precision = torch.log(precision)
        used = [mean, log_precision]
        if held:
            used = held = [old * seen + new * (1 - seen) for old, new in zip(held, used, strict=True)]
        latent = used[0] + torch.exp(-0.5 * used[1]) * offset
        now = self.filled_at == count
        offset = torch.where(now, noise.index_select(-1, self.filled_from), offset)
        return latent, torch.cat([mean, log_precision, offset, count + 1, observation, *held], dim=-1)

    def recall_through(self, episodes: Episodes, memory: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_precision, *_ = memory.split(self.parts, dim=-1)
        observation, action = episodes.observation[:, :, :-1], episodes.asked / self.limit
        told, weight = self.factors(self.transition(observation[:, :, :-1], action[:, :, :-1], observation[:, :, 1:]))
        weight = pad(weight * episodes.valid[:, :, 1:, None], (0, 0, 1, 0))  # a step adds the transition before it
        start, shape = torch.exp(log_precision)[:, None], weight.shape
        precision = start + weight.flatten(1, 2).cumsum(1)
        pulled = (weight * pad(told, (0, 0, 1, 0))).flatten(1, 2).cumsum(1)
        belief = ((start * mean[:, None] + pulled) / precision).view(shape), torch.log(precision).view(shape)
        rollout = self.settings.infer == "rollout"
        used = [values[:, :, :1].expand(shape) for values in belief] if rollout else belief
        step = torch.arange(shape[2] + 1, device=memory.device)
        last = self.filled_at.clamp(max=shape[2] - 1)
        offset = episodes.noise[:, :, last, self.filled_from][:, :, None] * (step[:, None] > self.filled_at)
        latent = used[0] + torch.exp(-0.5 * used[1]) * offset[:, :, :-1]
        length = episodes.valid[:, -1].sum(-1)
        robots = torch.arange(len(length), device=memory.device)
        final = [values[:, -1, -1] for values in belief]
        final += [offset[robots, -1, length], length[:, None].to(mean.dtype), observation[robots, -1, length - 1]]
        return latent, torch.cat(final + [values[:, -1, -1] for values in used] * rollout, dim=-1)

    @torch.no_grad()
    def learn(self) -> list[Tensor]:
        settings, device, keys = self.settings, self.limit.device, self.replay.partitions
        updates, tasks = settings.updates, settings.tasks
        chosen = [keys[index] for index in torch.randint(len(keys), (updates * tasks,)).tolist()]
        samples = self.batch(self.replay.sample_of(chosen, settings.batch).to(device))
        samples = Batch(*(values.flatten(0, 1) for values in samples))
        lived, counts = self.replay.sample_lived(chosen, settings.context)
        lived, counts = lived.to(device), counts.to(device)
        seen = self.transition(lived.observation, lived.action / self.limit, lived.next_observation)
        noise = torch.randn(updates, 2 * tasks * settings.batch, self.action_size).to(device)
        offset = torch.randn(updates, tasks, settings.latent).to(device)
        metrics = []
        columns = (values.split(tasks * settings.batch) for values in samples)
        contexts = seen.split(tasks), counts.split(tasks)
        for *parts, context, count, now, off in zip(*columns, *contexts, noise, offset, strict=True):
            metrics.append(self._step(Batch(*parts), context, count, now, off))
        return metrics

    def _step(self, batch: Batch, context: Tensor, counts: Tensor, noise: Tensor, offset: Tensor) -> Tensor:
        """One gradient step on samples (P N, ·) and contexts (P, C, ·), of which `counts` (P, C) are seen; metrics."""
        with torch.enable_grad():
            mean, precision = self.belief(context, counts)
            latent = mean + torch.rsqrt(precision) * offset
            kl = 0.5 * (1 / precision + mean**2 - 1 + torch.log(precision)).sum(-1).mean()
        spread = latent.detach().repeat_interleave(self.settings.batch, 0)
        reads, next_reads = (torch.cat([inputs, spread], dim=-1) for inputs in (batch.inputs, batch.next_inputs))
        _, report, pull = self.set_gradients_of(batch, reads, next_reads, noise)
        columns = self.critic.layers(self.critics)[0][0][..., self.input_size : reads.shape[1]]
        by_latent = (pull @ columns).sum(0).view(len(latent), -1, latent.shape[1]).sum(1)
        self.encoder.zero_grad()
        torch.autograd.backward([latent, kl], [by_latent, torch.full_like(kl, self.settings.kl)])
        self.optimiser.step()
        self.targets.lerp_(self.critics, self.settings.target_rate)
        return torch.cat([report, kl.detach()[None]])

    def belief(self, context: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and precision (P, L) after transitions (P, C, ·), of which those with `counts` (P, C) are seen."""
        told, weight = self.factors(context, train=True)
        weight = weight * counts[..., None]
        precision = 1 + weight.sum(1)
        return (weight * told).sum(1) / precision, precision
