"""The whole way of a lesson: what a robot recorded teaches a learner what it would have learned in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.beside import taught
from adapt.episodes import Episodes
from adapt.learner import MetaLearner
from adapt.methods import AdaptationError, Beside, HelperLost
from adapt.recorded import episodes_of
from adapt.rollout import rollout
from adapt.scored import scored, task_of
from adapt.session import Plan
from adapt.slow import pack, unpack
from hardware_io.bundle import Bundle, BundleError, read_bundle, write_bundle
from hardware_io.clock import VirtualClock
from hardware_io.recorder import Recorder, RecordingError
from hardware_io.recording import Rollout, read_recording
from sim.family import RobotFamily
from sim.vector_env import VectorEnv
from tests.adapt.on_twin import BETWEEN, SHORT, SPEC, Machine, exported, untrained

pytest.importorskip("mujoco")
COPIES = 8
LIMIT = "joint shoulder: too fast"


def packed(name: str) -> Bundle:
    """A learner's file as far as adaptation reads it."""
    learner = untrained(name)
    fast, kept = learner.fast0(1)[0].numpy(), learner.kept.numpy()
    return Bundle(b"", SPEC, SHORT, name, fast, kept, slow=pack(learner))


def simulated(learner: MetaLearner) -> Episodes:
    """Rollouts of one robot that start anywhere, some end early: copies side by side, as in training, if it can."""
    slower = replace(SPEC.joints["shoulder"], velocity_limit=9.0)
    family = RobotFamily(replace(SPEC, joints={"shoulder": slower}), "swing_up", duration=0.8, hold=0.2)
    lanes = 1 if learner.searches else COPIES
    with VectorEnv(family, lanes, workers=0, groups=1) as envs:
        envs.begin_trial(np.repeat(family.sample(1, np.random.default_rng(3)), lanes, axis=0))
        return rollout(envs, learner, learner.fast0(1), COPIES // lanes, (7,), anywhere=1.0)


def recorded(episodes: Episodes, bundle: Bundle, log: Path) -> Path:
    """The same rollouts as a robot's control loop would have left them on disk."""
    with Recorder(log, bundle.spec, VirtualClock(), task=bundle.task) as recorder:
        for k in range(episodes.rollouts):
            steps, fast = int(episodes.valid[0, k].sum()), episodes.fast[0, k].numpy()
            observation = episodes.observation[0, k].numpy()
            recorder.event("rollout_start", rollout=k, fast=fast, role="teaching 1")
            for t in range(steps):
                noise, asked = (getattr(episodes, name)[0, k, t].numpy() for name in ("noise", "asked"))
                recorder.policy(0.0, k, t, observation[t], noise, asked, asked, 0.0)
            ended = bool(episodes.terminated[0, k].any())
            told = {"outcome": "limit", "reason": LIMIT} if ended else {"outcome": "done", "reason": ""}
            recorder.event("rollout_end", rollout=k, fast=fast, observation=observation[steps], **told)
    return log


@pytest.mark.parametrize("name", BETWEEN)
def test_recorded_rollouts_teach_what_simulated_ones_do(name: str, tmp_path: Path) -> None:
    bundle = packed(name)
    learner = unpack(bundle)
    episodes = simulated(learner)
    assert episodes.terminated.any() and not episodes.terminated.any(-1).all(), "both ends of a rollout occur"
    with torch.no_grad():
        trained = learner.adapt(learner.fast0(1), episodes)[0]
    rollouts = taught([recorded(episodes, bundle, tmp_path / "0001.mcap")], "teaching 1", COPIES)
    back = episodes_of(rollouts, task_of(bundle))
    lived = episodes.valid[..., None]
    assert torch.equal(back.valid, episodes.valid) and torch.equal(back.terminated, episodes.terminated)
    for value in ("asked", "noise"):
        assert torch.equal(getattr(back, value) * lived, getattr(episodes, value) * lived), value
    assert torch.allclose(back.reward * episodes.valid, episodes.reward * episodes.valid, atol=1e-6)
    with torch.no_grad():
        adapted = learner.adapt(back.fast[:, 0], back)[0]
    scale = float(trained.abs().max())
    assert scale > 0 and torch.allclose(adapted, trained, atol=1e-4 * scale)


def test_exploration_has_a_likelihood_that_the_log_keeps(tmp_path: Path) -> None:
    bundle = packed("maml")
    learner = unpack(bundle)
    episodes = simulated(learner)
    rollouts = taught([recorded(episodes, bundle, tmp_path / "0001.mcap")], "teaching 1", COPIES)
    back = episodes_of(rollouts, task_of(bundle))
    there, here = (learner.samples(each, learner.fast0(1)) for each in (episodes, back))
    assert torch.allclose(here.log_prob, there.log_prob, atol=1e-4) and here.log_prob.std() > 0.1


def test_a_twin_teaches_the_process_beside_the_loop_what_it_teaches_the_trainer(tmp_path: Path) -> None:
    bundle, file = exported("maml"), tmp_path / "policy.onnx"
    write_bundle(file, bundle)
    session = Machine(bundle).session(tmp_path / "policy.adapt", Plan())
    with session, session.loop.session():
        support = [session.rollout("teaching 1", bundle.fast, explore=True) for _ in range(2)]
    assert all(np.abs(one.rollout.noise).max() > 0.5 for one in support)
    with Beside(file) as beside:
        adapted = beside.adapt(support, session.logs, "teaching 1")
        beside.process.kill()  # whoever does it
        again = beside.adapt(support, session.logs, "teaching 1")
        with pytest.raises(AdaptationError, match="0 whole rollouts of 'teaching 2'; needed: 2"):
            beside.adapt(support, session.logs, "teaching 2")
    learner, episodes = unpack(bundle), episodes_of([one.rollout for one in support], task_of(bundle))
    with torch.no_grad():
        expected = learner.adapt(learner.fast0(1), episodes)[0].numpy()
    assert np.array_equal(adapted, again) and np.allclose(adapted, expected, atol=1e-6)
    assert np.abs(adapted[:-1]).max() > 1e-4 and adapted[-1] == expected[-1]


def test_weights_travel_in_the_file_and_a_file_without_them_is_refused(tmp_path: Path) -> None:
    bundle = replace(packed("meta_sgd"), teaching={"rollouts": 2})
    write_bundle(tmp_path / "policy.onnx", bundle)
    read = read_bundle(tmp_path / "policy.onnx")
    assert read.slow == bundle.slow and read.teaching == {"rollouts": 2}
    learner = unpack(read)
    assert pack(learner) == bundle.slow and learner.settings.hidden == (5,) and learner.settings.inner_rate == 0.3
    trained = untrained("meta_sgd")
    assert learner.interface == trained.interface
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in learner.state_dict().items())
    with pytest.raises(BundleError, match="no weights to adapt in this file"):
        unpack(replace(bundle, slow=b""))
    with pytest.raises(BundleError, match="its weights cannot be read"):
        unpack(replace(bundle, slow=bundle.slow[: len(bundle.slow) // 2]))
    (tmp_path / "broken.onnx").write_bytes(b"")
    with pytest.raises(HelperLost, match=r"broken.onnx: nothing can adapt it: .*not an acclimate file"):
        Beside(tmp_path / "broken.onnx")


def test_what_ended_early_is_filled_up_and_counts_for_nothing() -> None:
    task = task_of(packed("maml"))
    times, fast = np.zeros(3), np.zeros(2, np.float32)

    def of(steps: int, outcome: str) -> Rollout:
        rows = np.arange(steps, dtype=np.float32)[:, None]
        seen = np.tile(np.array([[3.0, 1.0, 0.0]], np.float32), (steps + 1, 1))
        return Rollout(seen, rows, rows, rows, fast, fast, outcome, "", times, times, 0)

    episodes = episodes_of([of(20, "done"), of(7, "limit"), of(0, "limit")], task)
    assert episodes.observation.shape == (1, 2, 21, 3) and episodes.valid.sum(-1).tolist() == [[20, 7]]
    assert episodes.terminated.nonzero().tolist() == [[0, 1, 6]]
    assert episodes.returns[0, 1].item() == pytest.approx(scored(task, of(7, "limit")).value, rel=1e-5)
    with pytest.raises(ValueError, match="no whole step"):
        episodes_of([of(0, "limit")], task)


def test_the_number_of_lessons_must_be_the_one_that_was_announced(tmp_path: Path) -> None:
    bundle = packed("maml")
    log = recorded(simulated(unpack(bundle)), bundle, tmp_path / "0001.mcap")
    with pytest.raises(RecordingError, match="8 whole rollouts of 'teaching 1'; needed: 9"):
        taught([log], "teaching 1", COPIES + 1)
    assert len(read_recording(log).rollouts()) == COPIES
