"""URDFs as arrays: merged bodies against numbers worked out by hand, and what a bad file is answered."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec, load_spec
from sim.model import Bodies, RigidModel, read_urdf, rotation_about
from sim.robots import ROOT, load_robot


def bodies(spec: RobotSpec, **values: float) -> Bodies:
    model = RigidModel(spec)
    dynamics = model.ranges.nominal[None].copy()
    for name, value in values.items():
        dynamics[:, model.ranges.names.index(name)] = value
    return model.bodies(dynamics)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The pendulum's folder, to be broken."""
    return Path(shutil.copytree(ROOT / "simple_pendulum", tmp_path / "robot"))


def edit(folder: Path, old: str, new: str) -> Path:
    """Replace text in the URDF; returns the spec's path."""
    urdf = folder / "simple_pendulum.urdf"
    text = urdf.read_text()
    assert old in text
    urdf.write_text(text.replace(old, new, 1))
    return folder / "robot.yaml"


def test_fixed_links_are_merged_into_the_joint_that_moves_them(pendulum: RobotSpec) -> None:
    merged = bodies(pendulum)
    assert merged.mass[0, 0] == pytest.approx(0.32 + 0.25)
    middle = (0.32 * 0.3 + 0.25 * 0.5) / 0.57
    assert merged.centre[0, 0] == pytest.approx([0, 0, -middle])
    about_axis = 0.006 + 0.32 * (0.3 - middle) ** 2 + 0.0001 + 0.25 * (0.5 - middle) ** 2
    assert np.diag(merged.inertia[0, 0]) == pytest.approx([about_axis, about_axis, 0.0002])
    assert merged.parent == (-1,) and merged.axis[0] == pytest.approx([0, 1, 0])


def test_mass_scale_scales_mass_and_inertia_of_its_link_alone(pendulum: RobotSpec) -> None:
    merged = bodies(pendulum, payload=2.0)
    middle = (0.32 * 0.3 + 0.5 * 0.5) / 0.82
    about_axis = 0.006 + 0.32 * (0.3 - middle) ** 2 + 0.0002 + 0.5 * (0.5 - middle) ** 2
    assert merged.mass[0, 0] == pytest.approx(0.82) and merged.inertia[0, 0, 1, 1] == pytest.approx(about_axis)


def test_com_shift_moves_the_centre_of_its_link_along_the_axis(pendulum: RobotSpec) -> None:
    moved = bodies(pendulum, centre_of_mass=0.03)
    middle = (0.32 * 0.33 + 0.25 * 0.5) / 0.57
    assert moved.centre[0, 0] == pytest.approx([0, 0, -middle])
    about_axis = 0.006 + 0.32 * (0.33 - middle) ** 2 + 0.0001 + 0.25 * (0.5 - middle) ** 2
    assert moved.inertia[0, 0, 1, 1] == pytest.approx(about_axis)


def test_inertia_and_rotor_add_up_about_the_joint() -> None:
    spec = load_robot("double_pendulum/acrobot")
    merged = bodies(spec, lower_inertia=1.1, elbow_rotor=0.003)
    assert merged.inertia[0, 1, 1, 1] == pytest.approx(0.009972 * 1.1 + 0.003)
    assert merged.inertia[0, 1, 0, 0] == pytest.approx(0.009972 * 1.1)  # a rotor turns about its own axis only
    assert merged.inertia[0, 0, 1, 1] == pytest.approx(0.0109486 + 0.00226)


def test_the_double_pendulum_has_the_identified_inertias_about_its_joints() -> None:
    merged = bodies(load_robot("double_pendulum/pendubot"), shoulder_rotor=0.001, elbow_rotor=0.001)
    about_joint = merged.inertia[0, :, 1, 1] - 0.001 + merged.mass[0] * merged.centre[0, :, 2] ** 2
    assert about_joint == pytest.approx([0.031887, 0.050870], abs=1e-6)
    assert merged.position.tolist() == [[0, 0, 0], [0, 0, -0.2]] and merged.parent == (-1, 0)


def test_base_tilt_turns_the_base(pendulum: RobotSpec) -> None:
    turned = bodies(pendulum, base_tilt=0.2).base_rotation[0]
    assert turned == pytest.approx(rotation_about(np.array([0.0, 1, 0]), np.array([0.2]))[0])


def test_frames_with_rpy_are_merged_in_the_frame_of_the_joint(copy: Path) -> None:
    path = edit(copy, '<origin xyz="0 0 -0.5"/>', '<origin xyz="0 0 -0.5" rpy="1.5707963267948966 0 0"/>')
    edit(copy, '<mass value="0.25"/>', '<origin xyz="0 0.1 0"/><mass value="0.25"/>')
    edit(copy, 'ixx="0.0001" ixy="0" ixz="0" iyy="0.0001"', 'ixx="0.0001" ixy="0" ixz="0" iyy="0.0002"')
    merged = bodies(load_spec(path))
    # The weight's y points along the arm's z: its centre is 0.1 m up from the mount, its iyy is about the arm's z.
    middle = (0.32 * 0.3 + 0.25 * 0.4) / 0.57
    assert merged.centre[0, 0] == pytest.approx([0, 0, -middle])
    assert merged.inertia[0, 0, 2, 2] == pytest.approx(0.0001 + 0.0002)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</robot>", "", ["simple_pendulum.urdf", "line", "well-formed XML"]),
        ("<robot name", "<model><robot name", ["well-formed XML"]),
        ('<joint name="shoulder"', '<joint name="hip"', ["joints.shoulder", "a joint of", "hip"]),
        ('type="continuous"', 'type="prismatic"', ["joint shoulder", "prismatic", "revolute, continuous"]),
        ('type="continuous"', 'type="fixed"', ["joint shoulder", "fixed", "revolute, continuous"]),
        ('<mass value="0.32"/>', '<mass value="-1"/>', ["link arm", "-1.0", "mass >= 0"]),
        ('<mass value="0.32"/>', '<mass value="heavy"/>', ["mass value", "heavy", "1 numbers"]),
        ('<mass value="0.32"/>', '<mass value="nan"/>', ["mass value", "nan", "finite"]),
        ('<mass value="0.32"/>', "", ["'value'"]),
        ('iyy="0.0060"', 'iyy="-0.0060"', ["link arm", "positive inertia"]),
        ('<axis xyz="0 1 0"/>', '<axis xyz="0 0 0"/>', ["joint shoulder", "not zero"]),
        ('<origin xyz="0 0 -0.5"/>', '<origin xyz="0 0"/>', ["origin xyz", "3 finite numbers"]),
        ('<child link="arm"/>', '<child link="leg"/>', ["joint shoulder", "leg", "base, arm, weight"]),
        ('<link name="base"/>', '<link name="base"/><link name="lost"/>', ["exactly one root link"]),
        ('<parent link="base"/>', '<parent link="weight"/>', ["shoulder", "weight_mount", "never reach the root"]),
    ],
)
def test_a_bad_urdf_is_named(copy: Path, old: str, new: str, words: list[str]) -> None:
    path = edit(copy, old, new)
    with pytest.raises(ConfigError) as caught:
        RigidModel(load_spec(path))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_joint_must_move_some_mass(copy: Path) -> None:
    path = edit(copy, '<mass value="0.32"/>', '<mass value="0"/>')
    edit(copy, '<mass value="0.25"/>', '<mass value="0"/>')
    with pytest.raises(ConfigError, match=r"joint shoulder.*moving mass > 0 kg"):
        RigidModel(load_spec(path))


def test_a_moving_joint_must_be_in_the_spec(copy: Path) -> None:
    path = edit(copy, 'name="weight_mount" type="fixed"', 'name="weight_mount" type="revolute"')
    with pytest.raises(ConfigError, match="'weight_mount' as well"):
        RigidModel(load_spec(path))


def test_links_in_a_ring_are_named(copy: Path) -> None:
    ring = '<link name="a"/><link name="b"/>' + "".join(
        f'<joint name="{p}{c}" type="fixed"><parent link="{p}"/><child link="{c}"/></joint>' for p, c in ("ab", "ba")
    )
    path = edit(copy, "</robot>", ring + "</robot>")
    with pytest.raises(ConfigError, match=r"tree"):
        RigidModel(load_spec(path))


def test_a_hidden_parameter_must_name_a_link_of_the_urdf(copy: Path) -> None:
    path = copy / "robot.yaml"
    path.write_text(path.read_text().replace("link: weight", "link: anvil"))
    with pytest.raises(ConfigError, match=r"dynamics\.payload\.link.*'anvil'.*base, arm, weight"):
        RigidModel(load_spec(path))


def test_reading_gives_links_and_joints_by_name() -> None:
    links, joints = read_urdf(str(ROOT / "simple_pendulum" / "simple_pendulum.urdf"))
    assert links["base"].mass == 0 and links["weight"].mass == 0.25
    assert joints["weight_mount"].parent == "arm" and joints["weight_mount"].position.tolist() == [0, 0, -0.5]
