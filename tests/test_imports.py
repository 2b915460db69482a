"""The direction of imports: every contract between the rooms can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cli

ROOT = Path(__file__).resolve().parents[1]

VIOLATIONS = {  # file → a line that must not be there, and the contract that says so
    "hardware_io/spec.py": ("import torch", "The robot side is installed alone"),
    "sim/dynamics.py": ("import torch", "The simulator knows no torch"),
    "sim/world.py": ("import mujoco", "MuJoCo lives in the twin alone"),
    "policies/__init__.py": ("import gymnasium", "Policies know no simulator"),
    "policies/features.py": ("import sim.world", "Imports go one way"),
    "adapt/ppo.py": ("import pybullet", "Learners and exporters reach Bullet only through the simulator"),
}


def test_every_contract_of_the_rooms_notices_a_violation(tmp_path: Path) -> None:
    for room in cli.ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, (line, _) in VIOLATIONS.items():
        with (tmp_path / name).open("a") as file:
            file.write(f"\n{line}\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    for _, contract in VIOLATIONS.values():
        assert f"{contract} BROKEN" in done.stdout
    assert " KEPT" not in done.stdout  # every contract is in VIOLATIONS
