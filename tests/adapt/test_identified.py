"""An oracle adapts by identification: what its rollouts on a twin tell of it comes into its fast state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapt.beside import pupil_of
from adapt.identified import FINE, Identifier, Lived, delay_errors, rollouts_of
from adapt.methods import AdaptationError, Beside, method_of
from adapt.session import Plan
from hardware_io.bundle import write_bundle
from hardware_io.motion_log import MotionLog
from hardware_io.recorder import RecordingError
from sim.dynamics import DynamicsRange
from tests.adapt.on_twin import SPEC, Machine, exported

pytest.importorskip("mujoco")
LONG = {"name": "swing_up", "duration": 4.0, "hold": 1.0}  # 100 steps
HIDDEN = {"payload": 1.6, "coulomb_friction": 0.12, "viscous_friction": 0.03, "latency": 0.03}
RANGES = DynamicsRange.of(SPEC)


def test_an_oracle_learns_what_its_robot_is_from_rollouts_on_a_twin(tmp_path: Path) -> None:
    bundle, file = replace(exported("oracle"), task=LONG), tmp_path / "policy.onnx"
    write_bundle(file, bundle)
    session = Machine(bundle, **HIDDEN).session(tmp_path / "policy.adapt", Plan())
    with session, session.loop.session():
        support = [session.rollout("teaching 1", bundle.fast, explore=True) for _ in range(2)]
    with method_of(bundle, file) as method:
        assert isinstance(method, Beside) and not method.explores
        fast = method.adapt(support, session.logs, "teaching 1")
        with pytest.raises(AdaptationError, match="0 whole rollouts of 'teaching 2'; needed: 2"):
            method.adapt(support, session.logs, "teaching 2")
    told = dict(zip(RANGES.names, fast, strict=False))
    truth = dict(zip(RANGES.names, RANGES.normalise(np.array([HIDDEN.get(n, 0.0) for n in RANGES.names])), strict=True))
    before = dict(zip(RANGES.names, bundle.fast, strict=False))
    for name in ("coulomb_friction", "latency"):
        assert abs(told[name] - truth[name]) < 0.5 * abs(before[name] - truth[name]), name
    assert np.abs(fast[: len(RANGES)]).max() <= 1
    assert np.array_equal(fast[len(RANGES) :], bundle.fast[len(RANGES) :])
    for name, parameter in RANGES.parameters.items():
        if parameter.apply == "sensor_noise":
            assert told[name] == pytest.approx(before[name], abs=1e-6)


def test_delay_and_lag_are_those_with_which_torque_follows_what_was_sent() -> None:
    rng, delay, lag = np.random.default_rng(0), 0.003, 0.006
    sent_at = np.arange(0.0, 2.0, 0.002)
    sent = np.repeat(rng.uniform(-2, 2, 200), 5)[:, None]
    time = np.arange(0.0, 2.0, FINE)
    wanted = np.where(time < delay, 0.0, sent[np.clip(((time - delay + 1e-9) / 0.002).astype(int), 0, None), 0])
    acting = np.zeros_like(time)
    for k in range(1, len(time)):
        acting[k] = wanted[k - 1] + (acting[k - 1] - wanted[k - 1]) * np.exp(-FINE / lag)
    still = np.zeros((len(sent_at), 1))
    measured = np.interp(sent_at, time, acting)[:, None] + rng.normal(0, 0.02, still.shape)
    lived = Lived(MotionLog("made", sent_at, still, still, measured, None), sent_at, sent)
    delays, lags = np.linspace(0, 0.006, 7), np.linspace(0.002, 0.01, 9)
    errors = delay_errors(lived, 0, delays, lags)
    assert np.unravel_index(errors.argmin(), errors.shape) == (3, 4)


def test_rollouts_of_another_role_teach_nothing(tmp_path: Path) -> None:
    bundle = exported("oracle")
    session = Machine(bundle).session(tmp_path / "policy.adapt", Plan())
    with session, session.loop.session():
        session.rollout("teaching 1", bundle.fast)
        session.rollout("un-adapted", bundle.fast)
    log = session.logs[-1]
    (lived,) = rollouts_of(log, "teaching 1")
    assert len(lived.sent) == len(lived.motion.time) and lived.motion.position.shape == lived.sent.shape
    pupil = pupil_of(bundle)
    assert isinstance(pupil, Identifier)
    with pytest.raises(RecordingError, match="1 whole rollouts of 'un-adapted'; needed: 2"):
        pupil.learn([log], "un-adapted", 2)
