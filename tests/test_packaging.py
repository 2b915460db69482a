"""The built wheel, the pinned locks, and the base installation that goes on a robot."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIP = ["-m", "pip", "--disable-pip-version-check", "--quiet"]


def lock(name: str) -> list[Requirement]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def run(*command: str | Path, where: Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=where, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", where, ROOT, where=where)
    assert done.returncode == 0, done.stderr
    (path,) = where.glob("acclimate-*.whl")
    return path


def test_the_wheel_holds_every_file_of_every_room_and_nothing_else(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    source = {
        path.relative_to(ROOT).as_posix()
        for room in cli.ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".yaml", ".urdf")
    }
    robots = [name for name in source if name.startswith("sim/robots/") and name.endswith((".yaml", ".urdf"))]
    assert {"sim/robots/simple_pendulum/robot.yaml", "sim/robots/simple_pendulum/simple_pendulum.urdf"} <= set(robots)
    assert source <= held
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {*cli.ROOMS, "cli.py"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)


@pytest.mark.parametrize(
    ("name", "extras"), [("robot.txt", ()), ("train.txt", ("train", "twin", "bench", "dev"))], ids=["robot", "train"]
)
def test_a_lock_pins_what_the_project_asks_for(name: str, extras: tuple[str, ...]) -> None:
    pins: dict[str, list[Requirement]] = {}
    for pin in lock(name):
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert "+" not in specifier.version, f"{pin}: a local version forces one build"
        assert pin.url is None
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    asked = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    for line in asked:
        requirement = Requirement(line)
        for pin in pins[canonicalize_name(requirement.name)]:
            (specifier,) = pin.specifier
            assert requirement.specifier.contains(specifier.version), f"{pin} against {requirement}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_base_installation_is_a_robot(wheel: Path, tmp_path: Path) -> None:
    """The wheel on the robot's lock in an empty environment: no library of the desk, and the command works."""
    assert run(sys.executable, "-m", "venv", tmp_path / "venv", where=tmp_path).returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    install = (python, *PIP, "install", "--no-compile")
    done = run(*install, "-r", ROOT / "requirements" / "robot.txt", where=tmp_path)
    if done.returncode != 0:
        probe = run(python, *PIP, "download", "--no-deps", "-d", tmp_path / "probe", "packaging", where=tmp_path)
        if probe.returncode != 0:
            pytest.skip(f"no package index can be reached: {probe.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    done = run(*install, "--no-deps", wheel, where=tmp_path)
    assert done.returncode == 0, done.stderr

    assert run(python, *PIP, "check", where=tmp_path).returncode == 0
    code = f"from importlib.util import find_spec; print([name for name in {list(cli.EXTRAS)} if find_spec(name)])"
    assert run(python, "-c", code, where=tmp_path).stdout.strip() == "[]"
    code = "from sim.robots import load_robot, robot_names; print([load_robot(name).name for name in robot_names()])"
    done = run(python, "-c", code, where=tmp_path)
    assert "simple_pendulum" in done.stdout, done.stderr
    done = run(tmp_path / "venv" / "bin" / "acclimate", "run", "--help", where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage: acclimate run" in done.stdout
