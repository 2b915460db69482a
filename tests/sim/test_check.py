"""`acclimate check`: robots that ship are fine, and what is wrong with a broken one is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from hardware_io.config import ConfigError
from sim.check import main
from sim.robots import ROOT, robot_names


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """The pendulum's YAML file in a folder of its own, to be broken."""
    return Path(shutil.copytree(ROOT / "simple_pendulum", tmp_path / "robot")) / "robot.yaml"


def change(path: Path, key: str, value: object) -> None:
    """Set a dotted key of a YAML file; None takes it out."""
    document = yaml.safe_load(path.read_text())
    section = document
    *parents, last = (int(word) if word.isdigit() else word for word in key.split("."))
    for word in parents:
        section = section.setdefault(word, {}) if isinstance(section, dict) else section[word]
    if value is None:
        del section[last]
    else:
        section[last] = value
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def check(robot: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main([str(robot)])
    return status, capsys.readouterr().out


def lines(output: str, mark: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("name", robot_names())
def test_robots_that_ship_are_fine(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, output = check(name, capsys)
    assert status == 0 and not lines(output, "✗") and not lines(output, "!"), output
    assert "N·m" in output and "energy drifts by" in output


def test_a_robot_that_must_pump_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot hold every pose, must pump" in check("simple_pendulum", capsys)[1]
    output = check("double_pendulum/acrobot", capsys)[1]
    assert "1.57 N·m (3.82): can hold any pose" in output and "nothing drives shoulder" in output


SHOULDER, VISCOUS = "joints.shoulder", "dynamics.viscous_friction"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (f"{SHOULDER}.velocity_limit", 25.0, [f"{SHOULDER}.velocity_limit", "25", "22.5 rad/s"]),
        (f"{SHOULDER}.torque_limit", 20.0, [f"{SHOULDER}.torque_limit", "20.0", "at most 12.0 N·m"]),
        (f"{SHOULDER}.torque_limit", 12.0, [f"{SHOULDER}.torque_limit", "11.9", "AK80-6"]),
        (f"{SHOULDER}.torque_limit", 0.0, [f"{SHOULDER}.torque_limit", "above 0"]),
        (f"{SHOULDER}.stop_damping", 30.0, [f"{SHOULDER}.stop_damping", "5 N·m·s/rad"]),
        (f"{SHOULDER}.position_limit", [-16.5, 6.5], [f"{SHOULDER}.position_limit", "±12.5 rad"]),
        (f"{SHOULDER}.position_limit", [-2.5, 2.5], ["poses.upright", "3.14", "position limits"]),
        (f"{VISCOUS}.unit", "N·m/s", [f"{VISCOUS}.unit", "'N·m/s'", "N·m·s/rad"]),
        (f"{VISCOUS}.train", [0.03, 0.0], [f"{VISCOUS}.train", "low <= high"]),
        ("dynamics.payload.link", "anvil", ["dynamics.payload.link", "anvil", "weight"]),
        ("period.io", 0.03, ["period.io", "0.03", "0.02 s"]),
        ("period.policy", 0.045, ["period.policy", "0.045", "multiple"]),
        ("safety.stale_after", 0.005, ["safety.stale_after", "0.005", "0.01 s"]),
        ("channels.1.source", "joint_speed", ["channels[1].source", "joint_speed", "joint_velocity"]),
        ("channels.1.name", "position", ["channels[1].name", "'position'", "differs"]),
        ("physics.substeps", 0, ["physics.substeps", "at least 1"]),
        ("tasks.swing_up.duration", "long", ["tasks.swing_up.duration", "'long'"]),
        ("tasks.juggle", {}, ["task", "'juggle'", "swing_up"]),
        ("urdf", "toaster.urdf", ["urdf", "'toaster.urdf'"]),
        (f"{SHOULDER}.torque_limits", 2.0, [f"{SHOULDER}.torque_limits", "2.0", "one of the keys", "torque_limit,"]),
        (f"{SHOULDER}.velocity_limit", float("nan"), [f"{SHOULDER}.velocity_limit", "nan", "a finite number"]),
        (f"{SHOULDER}.motor", None, [f"{SHOULDER}.motor", "required"]),
    ],
)
def test_what_is_wrong_in_a_specification_is_named(
    robot: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, words: list[str]
) -> None:
    change(robot, key, value)
    status, output = check(robot, capsys)
    wrong = "\n".join(lines(output, "✗"))
    assert status == 1 and all(word in wrong for word in words), output


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</robot>", "", ["simple_pendulum.urdf", "line", "well-formed XML"]),
        ('<joint name="shoulder"', '<joint name="hip"', ["robot.yaml", "joints.shoulder", "hip"]),
        ('<mass value="0.32"/>', '<mass value="-0.32"/>', ["simple_pendulum.urdf", "link arm", "-0.32", "mass >= 0"]),
        ('iyy="0.0060"', 'iyy="0.0300"', ["link arm", "0.0001, 0.006, 0.03 kg·m²", "sum of the others"]),
    ],
)
def test_what_is_wrong_in_a_urdf_is_named(
    robot: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: list[str]
) -> None:
    edit(robot.parent / "simple_pendulum.urdf", old, new)
    status, output = check(robot, capsys)
    wrong = "\n".join(lines(output, "✗"))
    assert status == 1 and all(word in wrong for word in words), output


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (f"{SHOULDER}.torque_rate_limit", 10.0, ["shoulder", "torque_rate_limit", "simulated torques are not slowed"]),
        (f"{SHOULDER}.stop_damping", 0.0, ["shoulder", "leaves the joint free"]),
        ("channels.2", None, ["no rollout_start channel"]),
        ("command", "position", ["torque commands only"]),
        ("tasks", None, ["no tasks"]),
    ],
)
def test_what_looks_odd_in_a_specification_is_pointed_at(
    robot: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, words: list[str]
) -> None:
    change(robot, key, value)
    status, output = check(robot, capsys)
    assert status == 0 and all(word in "\n".join(lines(output, "!")) for word in words), output


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('<mass value="0.32"/>', '<mass value="320"/>', ["link arm", "320 kg", "kg·m²?"]),
        ('izz="0.0001"', 'izz="0.0060"', []),
        ('ixx="0.0060" ixy="0" ixz="0" iyy="0.0060"', 'ixx="6000" iyy="6000"', ["link arm", "6e+03", "kg·m²?"]),
    ],
)
def test_numbers_in_another_unit_are_pointed_at(
    robot: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: list[str]
) -> None:
    edit(robot.parent / "simple_pendulum.urdf", old, new)
    _, output = check(robot, capsys)
    assert bool(lines(output, "!")) == bool(words) and all(word in output for word in words), output


def test_coarse_substeps_are_pointed_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(ROOT / "double_pendulum", tmp_path / "double"))
    change(folder / "_common.yaml", "physics.substeps", 1)
    _, output = check(folder / "acrobot.yaml", capsys)
    assert any("20 ms a substep" in line and "raise physics.substeps" in line for line in lines(output, "!")), output


def test_ranges_that_take_all_mass_away_are_found(robot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(robot.parent / "simple_pendulum.urdf", '<mass value="0.32"/>', '<mass value="0"/>')
    change(robot, "dynamics.payload", {**yaml.safe_load(robot.read_text())["dynamics"]["payload"], "test": [0.0, 3.0]})
    status, output = check(robot, capsys)
    assert status == 1 and "without mass" in "\n".join(lines(output, "✗")), output
    assert "not simulated" in output


def test_two_motors_with_one_address_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(ROOT / "double_pendulum", tmp_path / "double"))
    change(folder / "_common.yaml", "joints.elbow.motor.id", 257)
    status, output = check(folder / "acrobot.yaml", capsys)
    assert status == 1 and "[1, 1]" in output and "differ in their low byte" in output


def test_a_file_that_is_no_yaml_is_named_with_the_line(robot: Path) -> None:
    edit(robot, "joints:", "joints: [")
    with pytest.raises(ConfigError, match=r"robot\.yaml: line \d+, column \d+: .*well-formed YAML"):
        main([str(robot)])


@pytest.mark.parametrize("name", ["toaster", "toaster.yaml"])
def test_a_robot_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=r"toaster.*allowed: a .*YAML file"):
        main([name])
