"""Identification: it finds what made a log, says what it cannot tell, and scores as the published protocol does."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

import cli
from adapt.calibration import calibrated, read_calibration
from adapt.identify import identify
from adapt.robot_model import RobotModel
from adapt.windows import Batch, Window, windows
from hardware_io.clock import VirtualClock
from hardware_io.config import ConfigError
from hardware_io.motion_log import MotionLog, read_logs
from hardware_io.recorder import Recorder
from hardware_io.spec import RobotSpec
from hardware_io.state import JointState
from sim.dynamics import DynamicsRange
from sim.robots import load_robot

REAL_LOGS = os.environ.get("ACCLIMATE_REAL_LOGS", "")  # a folder of real logs, with score_logs.py beside it
real = pytest.mark.skipif(not REAL_LOGS, reason="ACCLIMATE_REAL_LOGS names no folder of real logs")

HIDDEN = {"payload": 1.5, "viscous_friction": 0.02, "coulomb_friction": 0.1, "torque_gain.shoulder": 0.9}


def simulated(
    model: RobotModel, values: np.ndarray, seconds: float = 6.0, push: float = 1.5, seed: int = 0
) -> MotionLog:
    """A log of the robot as the model has it, every 5 ms, with the noise of an encoder."""
    rng, joints = np.random.default_rng(seed), len(model.spec.joints)
    time = np.arange(0.0, seconds, 0.005)
    waves = [np.sin(2 * np.pi * f * time + p) for f, p in zip((0.5, 0.83, 1.3), rng.uniform(0, 6, 3), strict=True)]
    torque = push * np.stack([np.roll(sum(waves), 150 * j) / 2 for j in range(joints)], axis=-1)
    still = np.zeros(joints)
    whole = Batch(
        [Window("made", still, still, time, np.vstack([torque[1:], torque[-1:]]), np.zeros((len(time), joints)))]
    )
    position = np.vstack([still, model.predict(values[None], whole)[:, :, 0, 0]])
    position += rng.normal(0, 2e-4, position.shape)
    velocity = np.gradient(position, time, axis=0)
    return MotionLog("made", time, position, velocity, torque, None)


def hidden(model: RobotModel, **changes: float) -> np.ndarray:
    values = model.mean.copy()
    for name, value in changes.items():
        values[model.names.index(name)] = value
    return values


def as_csv(log: MotionLog, path: Path, header: str = "time,position,velocity,torque") -> Path:
    rows = np.column_stack([log.time, log.position, log.velocity, log.torque])
    np.savetxt(path, rows, delimiter=",", header=header, comments="", fmt="%.9g")
    return path


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return RobotModel(load_robot("simple_pendulum"))


@pytest.fixture(scope="module")
def log(model: RobotModel) -> MotionLog:
    return simulated(model, hidden(model, **HIDDEN))


def test_it_finds_what_made_the_log_and_its_posterior_covers_it(model: RobotModel, log: MotionLog) -> None:
    calibration, posterior, _ = identify(model, [log])
    assert calibration.error < 0.1 * calibration.error_before
    for name, value in HIDDEN.items():
        estimate = calibration.parameters[name]
        assert abs(estimate.mean - value) < 2 * estimate.sd, name
        assert abs(estimate.mean - value) < abs(estimate.prior_mean - value), name
    assert posterior.history[-1].cost < posterior.history[0].cost


def test_a_double_pendulum_is_foreseen_after_it_is_found(model: RobotModel) -> None:
    double = RobotModel(load_robot("pendubot"))
    truth = hidden(double, lower_mass=1.15, elbow_coulomb=0.17, shoulder_coulomb=0.2, **{"torque_gain.elbow": 0.9})
    calibration, _, _ = identify(double, [simulated(double, truth, seconds=4.0, push=0.8)])
    other = Batch(list(windows(simulated(double, truth, seconds=4.0, push=0.8, seed=5))))
    shipped, found = (
        np.median(other.errors(double.predict(v[None], other))) for v in (double.mean, calibration.values)
    )
    assert found < 0.4 * shipped


def test_one_short_rollout_of_another_session_is_enough_after_a_calibration(model: RobotModel, log: MotionLog) -> None:
    known, _, _ = identify(model, [log])
    drifted = hidden(model, **{**HIDDEN, "torque_gain.shoulder": 0.65, "coulomb_friction": 0.05})
    rollout = simulated(model, drifted, seconds=2.5, push=1.8, seed=3)
    found, _, _ = identify(model, [rollout], earlier=known)
    other = Batch(list(windows(simulated(model, drifted, push=1.8, seed=4))))
    before, after = (np.median(other.errors(model.predict(c.values[None], other))) for c in (known, found))
    assert after < 0.3 * before
    assert found.parameters["torque_gain.shoulder"].mean == pytest.approx(0.65, abs=0.08)
    mass = found.parameters["payload"]
    assert abs(mass.mean - HIDDEN["payload"]) < 2 * mass.sd
    assert mass.sd <= known.parameters["payload"].sd * 1.001
    assert [source.file for source in found.made_from] == ["made", "made"]


def test_a_payload_that_is_said_to_have_changed_is_found_and_the_rest_stays(model: RobotModel, log: MotionLog) -> None:
    known, _, _ = identify(model, [log])
    heavier = simulated(model, hidden(model, **{**HIDDEN, "payload": 2.2}), seconds=2.5, push=1.8, seed=3)
    found, _, _ = identify(model, [heavier], earlier=known, changed=["payload"])
    change = found.parameters["payload"].mean - known.parameters["payload"].mean
    assert change == pytest.approx(0.7, abs=0.1)
    gain = "torque_gain.shoulder"
    assert abs(found.parameters[gain].mean - known.parameters[gain].mean) < known.parameters[gain].sd
    with pytest.raises(ConfigError, match=r"--changed.*pay.*among payload"):
        identify(model, [heavier], earlier=known, changed=["pay"])


def test_a_slow_log_starts_from_its_own_velocity_which_has_its_own_age(model: RobotModel, log: MotionLog) -> None:
    slow = replace(log, **{k: getattr(log, k)[::6] for k in ("time", "position", "velocity", "torque")})
    moved = {}
    for name, some in (("fast", log), ("slow", slow)):
        batch = Batch(list(windows(some)))
        assert (batch.sloped == (name == "fast")).all()
        for age in ("start_age", "velocity_age"):
            other = hidden(model, **{age: 0.02})
            moved[name, age] = np.abs(batch_difference(model, other, batch)).max()
    assert moved["fast", "velocity_age"] == moved["slow", "start_age"] == 0
    assert min(moved["fast", "start_age"], moved["slow", "velocity_age"]) > 1e-3


def batch_difference(model: RobotModel, values: np.ndarray, batch: Batch) -> np.ndarray:
    return model.predict(values[None], batch) - model.predict(model.mean[None], batch)


def test_what_the_log_does_not_tell_is_named_and_keeps_its_range(model: RobotModel) -> None:
    calibration, _, _ = identify(model, [simulated(model, model.mean, seconds=1.5, push=0.7)])
    untold = {name for name, estimate in calibration.parameters.items() if not estimate.told}
    assert "load_friction.shoulder" in untold
    assert untold & set(calibration.dynamics)
    for name in untold & set(calibration.dynamics):
        for split in ("train", "test"):
            own, kept = getattr(model.ranges.parameters[name], split), calibration.dynamics[name][split]
            assert kept[0] <= own[0]
            assert kept[1] >= own[1]


def test_more_motion_tells_more(model: RobotModel, log: MotionLog) -> None:
    short, _, _ = identify(model, [simulated(model, hidden(model, **HIDDEN), seconds=1.5)])
    long, _, _ = identify(model, [log])
    assert long.parameters["payload"].sd < short.parameters["payload"].sd


def test_a_log_without_motion_is_refused(model: RobotModel) -> None:
    with pytest.raises(ConfigError, match=r"moves by more than 0\.5 rad"):
        identify(model, [simulated(model, model.mean, push=0.01)])


def test_a_robot_that_is_not_planar_is_refused(tmp_path: Path) -> None:
    source = Path(load_robot("pendubot").source).parent
    urdf = (source / "double_pendulum.urdf").read_text()
    head, tail = urdf.rsplit('<axis xyz="0 1 0"/>', 1)
    (tmp_path / "double_pendulum.urdf").write_text(f'{head}<axis xyz="1 0 0"/>{tail}')
    for name in ("_common.yaml", "pendubot.yaml"):
        (tmp_path / name).write_text((source / name).read_text())
    with pytest.raises(ConfigError, match=r"elbow.*parallel"):
        RobotModel(load_robot(str(tmp_path / "pendubot.yaml")))


def test_commands_from_csv_to_calibration_report_and_score(
    model: RobotModel, log: MotionLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv, out = as_csv(log, tmp_path / "log.csv"), tmp_path / "calibration.yaml"
    assert cli.main(["identify", "simple_pendulum", "--logs", str(csv), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "iteration  0" in told.out
    assert told.err == ""
    page = (tmp_path / "calibration.html").read_text()
    assert "coulomb_friction" in page
    assert page.count("<svg class") >= 6
    calibration = read_calibration(out, model)
    assert cli.main(["predict", "simple_pendulum", "--calibration", str(out), "--log", str(csv), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["median"] == pytest.approx(calibration.error, abs=1e-6)
    assert answer["windows"] == calibration.made_from[0].windows
    assert answer["p90"] >= answer["median"]


def test_training_draws_from_the_calibrated_ranges(model: RobotModel, log: MotionLog, tmp_path: Path) -> None:
    calibration, _, _ = identify(model, [log])
    calibration.write(tmp_path / "c.yaml")
    ranges = DynamicsRange.of(calibrated(model.spec, tmp_path / "c.yaml"))
    before, after = model.ranges.parameters["payload"], ranges.parameters["payload"]
    assert after.nominal == pytest.approx(calibration.parameters["payload"].mean, rel=1e-5)
    assert after.train[1] - after.train[0] < before.train[1] - before.train[0]
    assert ranges.names == model.ranges.names
    assert ranges.parameters["latency"] == model.ranges.parameters["latency"]
    with pytest.raises(ConfigError, match="pendubot"):
        calibrated(load_robot("pendubot"), tmp_path / "c.yaml")


def test_a_broken_calibration_is_named(model: RobotModel, log: MotionLog, tmp_path: Path) -> None:
    calibration, _, _ = identify(model, [log])
    calibration.write(tmp_path / "c.yaml")
    data = yaml.safe_load((tmp_path / "c.yaml").read_text())
    del data["parameters"]["payload"]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"c\.yaml: parameters"):
        read_calibration(tmp_path / "c.yaml", model)


def reference() -> ModuleType:
    path = Path(REAL_LOGS).parent / "score_logs.py"
    spec = importlib.util.spec_from_file_location("score_logs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@real
@pytest.mark.parametrize(
    "name", ["excitation/run03.csv.gz", "acrobot/mcpilco/run01.csv.gz", "pendubot/tvlqr/run02.csv.gz"]
)
def test_windows_and_errors_are_those_of_the_reference(name: str) -> None:
    scorer, path = reference(), Path(REAL_LOGS) / "double_pendulum" / name
    simulate = scorer.rigid(scorer.MODELS["model_1.0"])
    theirs = list(scorer.windows(scorer.read_log(path)))
    ours = [w for log in read_logs([path], load_robot("pendubot")).logs for w in windows(log)]
    assert len(ours) == len(theirs)
    batch = Batch(ours)
    predicted = np.zeros_like(batch.measured)[:, :, None]
    for k, (w, their) in enumerate(zip(ours, theirs, strict=True)):
        for key in ("position", "velocity", "time", "torque", "measured"):
            np.testing.assert_array_equal(getattr(w, key), their[key])
        rows = simulate(w.position, w.velocity, w.time, w.torque)[1:]
        predicted[: len(rows), :, 0, k] = rows
    expected = [scorer.score(their, simulate) for their in theirs]
    np.testing.assert_allclose(batch.errors(predicted)[0], expected, rtol=1e-12)


@real
def test_real_excitation_is_foreseen_far_better_after_calibration() -> None:
    spec: RobotSpec = load_robot("pendubot")
    double = RobotModel(spec)
    folder = Path(REAL_LOGS) / "double_pendulum" / "excitation"
    calibration, _, _ = identify(double, read_logs([folder / "run01.csv.gz"], spec).logs)
    other = Batch([w for log in read_logs([folder / "run02.csv.gz"], spec).logs for w in windows(log)])
    shipped, found = (
        np.median(other.errors(double.predict(v[None], other))) for v in (double.mean, calibration.values)
    )
    assert found < 0.75 * shipped


class TestBadLogs:
    """What is wrong is said with file, column and row; what is right is kept."""

    @pytest.fixture
    def spec(self, model: RobotModel) -> RobotSpec:
        return model.spec

    def test_a_missing_column_is_named_with_those_there(self, spec: RobotSpec, log: MotionLog, tmp_path: Path) -> None:
        path = as_csv(log, tmp_path / "a.csv", "time,position,velocity,current")
        with pytest.raises(ConfigError, match=r"a\.csv: column torque.*none called tau_meas.*current.*--columns"):
            read_logs([path], spec)
        as_csv(log, path, "t,position,velocity,torque")
        with pytest.raises(ConfigError, match=r"a\.csv: column time.*none called time.*one of position.*--columns"):
            read_logs([path], spec)

    def test_a_mapping_renames_columns(self, spec: RobotSpec, log: MotionLog, tmp_path: Path) -> None:
        path = as_csv(log, tmp_path / "a.csv", "t,angle,speed,current")
        (tmp_path / "m.yaml").write_text("time: t\nposition: [angle]\nvelocity: [speed]\ntorque: [current]\n")
        out = tmp_path / "c.yaml"
        words = ["identify", "simple_pendulum", "--logs", str(path), "--columns", str(tmp_path / "m.yaml")]
        assert cli.main([*words, "--out", str(out)]) == 0
        assert out.exists()

    def test_bad_rows_split_the_log(self, spec: RobotSpec, log: MotionLog, tmp_path: Path) -> None:
        path = as_csv(log, tmp_path / "a.csv")
        lines = path.read_text().splitlines()
        lines[301], lines[302] = "1.5,nan,0,0", "1.505,oops,0,0"
        path.write_text("\n".join(lines))
        readings = read_logs([path], spec)
        assert [len(piece.time) for piece in readings.logs] == [300, len(log.time) - 302]
        assert any("2 rows" in text and "row 301" in text for text in readings.notes)

    def test_a_clock_that_goes_back_splits_the_log(self, spec: RobotSpec, log: MotionLog, tmp_path: Path) -> None:
        path = as_csv(log, tmp_path / "a.csv")
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines, *lines[1:]]))
        readings = read_logs([path], spec)
        assert [len(piece.time) for piece in readings.logs] == [len(log.time)] * 2
        assert any("backwards" in text and f"row {len(log.time) + 1}" in text for text in readings.notes)

    def test_a_cut_gzip_is_read_up_to_the_cut(self, spec: RobotSpec, log: MotionLog, tmp_path: Path) -> None:
        whole = gzip.compress(as_csv(log, tmp_path / "a.csv").read_bytes())
        (tmp_path / "b.csv.gz").write_bytes(whole[: len(whole) // 2])
        readings = read_logs([tmp_path / "b.csv.gz"], spec)
        assert 0.2 < len(readings.logs[0].time) / len(log.time) < 0.8
        assert any("cut after" in text for text in readings.notes)
        (tmp_path / "c.csv.gz").write_bytes(whole[:12])
        with pytest.raises(ConfigError, match=r"c\.csv\.gz"):
            read_logs([tmp_path / "c.csv.gz"], spec)

    def test_a_recording_of_ours_is_a_log(self, spec: RobotSpec, log: MotionLog, tmp_path: Path) -> None:
        path = tmp_path / "a.mcap"
        with Recorder(path, spec, VirtualClock()) as recorder:
            for k, time in enumerate(log.time):
                velocity = np.array([np.nan]) if k == 400 else log.velocity[k]
                recorder.state(JointState(float(time), log.position[k], velocity, log.torque[k]))
        readings = read_logs([path], spec)
        assert [len(piece.time) for piece in readings.logs] == [400, len(log.time) - 401]
        assert any("row 401" in text for text in readings.notes)
        for name in ("time", "position", "velocity", "torque"):
            np.testing.assert_array_equal(getattr(readings.logs[0], name), getattr(log, name)[:400])
        with pytest.raises(ConfigError, match=r"a\.mcap: /state.*2 joints"):
            read_logs([path], load_robot("pendubot"))

    def test_a_recording_that_was_cut_is_read_up_to_the_cut(
        self, spec: RobotSpec, log: MotionLog, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.mcap"
        with Recorder(path, spec, VirtualClock()) as recorder:
            for k, time in enumerate(log.time[:200]):
                recorder.state(JointState(float(time), log.position[k], log.velocity[k], log.torque[k]))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        readings = read_logs([path], spec)
        assert 50 < len(readings.logs[0].time) < 200
        assert readings.notes != ()

    @pytest.mark.parametrize("both", [True, False])
    def test_degrees_are_noticed(self, spec: RobotSpec, log: MotionLog, tmp_path: Path, both: bool) -> None:
        velocity = np.rad2deg(log.velocity) if both else log.velocity
        wrong = MotionLog("", log.time, np.rad2deg(log.position), velocity, log.torque, None)
        assert any("degrees" in text for text in read_logs([as_csv(wrong, tmp_path / "a.csv")], spec).notes)
        assert read_logs([as_csv(log, tmp_path / "b.csv")], spec).notes == ()

    def test_a_fit_that_foresees_nothing_is_not_written(
        self, log: MotionLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As degrees do that are taken for radians."""
        wrong = MotionLog("", log.time, np.rad2deg(log.position), np.rad2deg(log.velocity), log.torque, None)
        path, out = as_csv(wrong, tmp_path / "a.csv"), tmp_path / "c.yaml"
        assert cli.main(["identify", "simple_pendulum", "--logs", str(path), "--out", str(out)]) == cli.FAILED
        told = capsys.readouterr().err
        assert "are these degrees?" in told and "a.csv: median error after the fit" in told
        assert not out.exists()

    def test_an_empty_file_is_named(self, spec: RobotSpec, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("time,position,velocity,torque\n")
        with pytest.raises(ConfigError, match=r"a\.csv.*no rows"):
            read_logs([tmp_path / "a.csv"], spec)

    def test_commands_say_what_was_left_out_and_go_on(
        self, log: MotionLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = as_csv(log, tmp_path / "a.csv")
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:301], "1.5,nan,0,0", *lines[302:], *lines[1:400]]))
        assert cli.main(["predict", "simple_pendulum", "--log", str(path)]) == 0
        told = capsys.readouterr()
        assert "windows" in told.out
        assert "warning" in told.err and "row 301" in told.err and "backwards" in told.err
        words = ["identify", "simple_pendulum", "--logs", str(path), "--out", str(tmp_path / "c.yaml")]
        assert cli.main(words) == 0
        assert capsys.readouterr().err == told.err
        for note in told.err.splitlines():
            assert note.removeprefix("warning: ") in (tmp_path / "c.html").read_text()

    def test_a_bad_log_leaves_the_old_calibration(self, log: MotionLog, tmp_path: Path) -> None:
        path, out = as_csv(log, tmp_path / "a.csv", "time,position,velocity,current"), tmp_path / "c.yaml"
        out.write_text("robot: simple_pendulum\n")
        assert cli.main(["identify", "simple_pendulum", "--logs", str(path), "--out", str(out)]) == cli.FAILED
        assert out.read_text() == "robot: simple_pendulum\n"
