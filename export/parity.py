"""Whether a file does what the learner does: PyTorch and ONNX Runtime side by side over whole simulated trials.

The ONNX graph closes the loop with the simulator and both keep a fast state of their own, so that an error would
add up as it would on a robot. A policy that amplifies what it reads amplifies the rounding of single precision too:
where the two differ by more than the tolerance, the learner in double precision goes along as a third, and what the
learner's own single precision departs from it says how much of the difference is rounding.
`n` robots, `O` observation, `F` fast state, `A` action.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from adapt.learner import MetaLearner
from hardware_io.bundle import Bundle
from hardware_io.runtime import INPUTS, OUTPUTS, Policy
from hardware_io.spec import RobotSpec
from sim.batch_env import BatchEnv
from sim.tasks import make_task

Float32 = NDArray[np.float32]

TOLERANCE = 1e-5  # absolute, on commands as shares of their limits and on the fast state
ROUNDINGS = 4.0  # as often as the learner's own rounding a difference may be, beyond the tolerance
MOST = 1e-3  # that no rounding excuses
ROLLOUTS = 3
LONG = 2000  # steps without a reset
BATCH = 3  # robots in one call, beside one robot alone through the runtime


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference over so many steps."""

    steps: int
    command: float  # share of its limit
    fast: float
    rounding: float = 0.0  # of the learner against itself in double precision, where it was worked out

    @property
    def allowed(self) -> float:
        """Of command and fast state."""
        return max(TOLERANCE, min(ROUNDINGS * self.rounding, MOST))

    @property
    def ok(self) -> bool:
        return self.command <= self.allowed and self.fast <= self.allowed  # false for NaN


@dataclass(frozen=True)
class Parity:
    """A trial in which each goes its own way, then a long run in which both start every step from one fast state.

    Left alone for long, two memories drift apart by rounding where a robot's motion is chaotic; that is no fault of
    the graph, and a deviation of the graph shows in one step.
    """

    trial: Difference
    long: Difference
    batches: tuple[int, ...]


def parity(policy: Policy, session: onnxruntime.InferenceSession, learner: MetaLearner, spec: RobotSpec) -> Parity:
    """Compare over `ROLLOUTS` rollouts and over `LONG` steps, on robots drawn from the test range.

    `spec` has a source, so that its URDF is found beside it. One robot goes through `policy` as on hardware, `BATCH`
    robots at once through `session` over the same graph. All rollouts explore but the last and the long one.
    """
    found = _compare(policy, session, learner, spec, None)
    if found.trial.ok and found.long.ok:
        return found
    return _compare(policy, session, learner, spec, copy.deepcopy(learner).double().eval())


def _compare(
    policy: Policy,
    session: onnxruntime.InferenceSession,
    learner: MetaLearner,
    spec: RobotSpec,
    exact: MetaLearner | None,
) -> Parity:
    """`exact` is the learner in double precision, to tell rounding by."""
    bundle = policy.bundle
    task = make_task(spec=spec, **bundle.task)
    env = BatchEnv(spec, task, 1 + BATCH)
    rng = np.random.default_rng(0)
    training = learner.training
    learner.eval()
    try:
        env.set_dynamics(env.ranges.sample(env.lanes, rng, "test"))
        pair = _Pair(policy, session, learner, bundle, env, exact)
        lengths = [task.steps] * ROLLOUTS
        trial = [pair.rollout(steps, rng, explore=k < ROLLOUTS - 1) for k, steps in enumerate(lengths)]
        pair.new_trial()
        return Parity(_worst(trial), pair.rollout(LONG, rng, explore=False, together=True), (1, BATCH))
    finally:
        learner.train(training)
        env.close()


class _Pair:
    """The learner and the graph, each with the fast state that it made itself."""

    def __init__(
        self,
        policy: Policy,
        session: onnxruntime.InferenceSession,
        learner: MetaLearner,
        bundle: Bundle,
        env: BatchEnv,
        exact: MetaLearner | None,
    ) -> None:
        self.policy, self.session, self.learner, self.bundle, self.env = policy, session, learner, bundle, env
        self.exact = exact
        self.device = learner.kept.device
        self.new_trial()

    def new_trial(self) -> None:
        """Both return to the initial fast state of the file."""
        self.fast: Float32 = np.tile(self.bundle.fast, (self.env.lanes, 1))
        self.wanted: Float32 = self.fast.copy()
        self.ideal = self.fast.astype(np.float64)

    @torch.inference_mode()
    def rollout(self, steps: int, rng: np.random.Generator, explore: bool, together: bool = False) -> Difference:
        """One rollout from where the last one left the fast states; `together`, each step starts from one of them.

        A robot that leaves its limits is done with the rollout, here as anywhere.
        """
        env = self.env
        self.fast = np.stack([self.policy.start_fast(row) for row in self.fast])
        self.wanted = self.learner.start_rollout(torch.from_numpy(self.wanted).to(self.device)).cpu().numpy()
        if self.exact is not None:
            self.ideal = self.exact.start_rollout(torch.from_numpy(self.ideal).to(self.device)).cpu().numpy()
        parts = [Difference(0, 0.0, _distance(self.fast, self.wanted))]
        observation = env.reset(rng)
        for _ in range(steps):
            noise = rng.standard_normal((env.lanes, env.spec.action_size)).astype(np.float32) * explore
            going = ~env.terminated[:, None]
            command, fast = self._graph(observation, self.fast, noise)
            before = self.fast if together else self.wanted
            wanted, wanted_fast = self._torch(self.learner, observation, before, noise)
            share = (going / env.spec.action_limit).astype(np.float32)
            rounding = self._rounding(observation, noise, going, wanted, wanted_fast, together)
            self.fast, self.wanted = np.where(going, fast, self.fast), np.where(going, wanted_fast, self.wanted)
            apart = _distance(command * share, wanted * share), _distance(fast * going, wanted_fast * going)
            parts.append(Difference(1, *apart, rounding))
            observation = env.step(command.astype(np.float64))
        return _worst(parts)

    def _rounding(
        self,
        observation: Float32,
        noise: Float32,
        going: NDArray[np.bool_],
        wanted: Float32,
        wanted_fast: Float32,
        together: bool,
    ) -> float:
        """What single precision makes of this step, where it is to be told; else 0."""
        if self.exact is None:
            return 0.0
        before = self.fast.astype(np.float64) if together else self.ideal
        ideal, ideal_fast = self._torch(self.exact, observation, before, noise)
        self.ideal = np.where(going, ideal_fast, self.ideal)
        share = going / self.env.spec.action_limit
        return max(_distance(wanted * share, ideal * share), _distance(wanted_fast * going, ideal_fast * going))

    def _graph(self, observation: Float32, fast: Float32, noise: Float32) -> tuple[Float32, Float32]:
        """The first robot through the runtime, the others in a batch of their own."""
        command, after = self.policy.step(observation[0], fast[0], noise[0])
        feed = dict(zip(INPUTS, (observation[1:], fast[1:], noise[1:]), strict=True))
        commands, afters = self.session.run(list(OUTPUTS), feed)
        return np.vstack([command, commands]), np.vstack([after, afters])

    def _torch(
        self, learner: MetaLearner, observation: Float32, fast: NDArray[Any], noise: Float32
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """In the precision of `fast`."""
        tensors = (torch.from_numpy(values.astype(fast.dtype)).to(self.device) for values in (observation, fast, noise))
        command, after, _ = learner.act(*tensors)
        return command.cpu().numpy(), after.cpu().numpy()


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest absolute difference, 0 for empty arrays, NaN if there is one."""
    return float(np.abs(one - other).max(initial=0.0))


def _worst(parts: list[Difference]) -> Difference:
    return Difference(
        sum(part.steps for part in parts),
        float(np.max([part.command for part in parts])),
        float(np.max([part.fast for part in parts])),
        max(part.rounding for part in parts),
    )
