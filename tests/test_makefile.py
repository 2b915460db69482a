"""The Makefile: what it offers, what it calls, and how it finds an interpreter on a fresh machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOOR = ["demo", "test", "check", "train", "evaluate", "adapt", "export", "run", "twin", "report", "bench", "reproduce"]
DOOR += ["double-pendulum", "double-pendulum-train"]

# Stands in for an interpreter: says it is suitable, makes a .venv of itself, notes what it is asked.
INTERPRETER = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
    "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


def make(*arguments: str, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make as from a terminal, not as a child of the make that runs the tests, which hands its variables down."""
    inherited = ("MAKE", "MFLAGS", "ARGS", "CONFIG", "FILE", "PYTHON", "ROBOT", "RUN")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout on a machine without .venv, holding what the set-up looks at, and three interpreters."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    scripts = {
        "lying": "#!/bin/sh\necho 'command not found' >&2\nexit 127\n",
        "old": "#!/bin/sh\nexit 1\n",
        "good": INTERPRETER.format(log=tmp_path / "log"),
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_help_is_the_default_and_lists_the_door() -> None:
    done = make()
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert set(DOOR) <= set(listed)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("train", "CONFIG=configs/x.yaml", "ARGS=--seed 3"), "acclimate train configs/x.yaml --seed 3"),
        (("evaluate", "RUN=runs/x"), "acclimate evaluate runs/x"),
        (("export", "RUN=runs/x"), "acclimate export runs/x"),
        (("adapt", "FILE=x.onnx", "ARGS=--rollouts 3"), "acclimate adapt x.onnx --rollouts 3"),
        (("run", "FILE=x.onnx"), "acclimate run x.onnx"),
        (("run", "ARGS=--help"), "acclimate run  --help"),
        (("twin", "ROBOT=double_pendulum", "ARGS=--seed 1"), "acclimate twin --robot double_pendulum --seed 1"),
        (("report", "RUN=runs/x"), "acclimate report runs/x"),
        (("demo",), "acclimate demo"),
        (("bench",), "python -m benchmarks.run"),
        (("double-pendulum",), "python -m benchmarks.double_pendulum page"),
        (("reproduce", "ARGS=bandits --quick"), "python -m benchmarks.reproduce bandits --quick"),
        (("test", "ARGS=-k name"), "python -m pytest -k name"),
    ],
)
def test_a_target_is_a_command(arguments: tuple[str, ...], command: str) -> None:
    done = make("--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == f".venv/bin/{command}"


@pytest.mark.parametrize(("target", "variable"), [("run", "FILE"), ("adapt", "FILE"), ("export", "RUN")])
def test_a_forgotten_variable_is_asked_for(target: str, variable: str) -> None:
    done = make("--dry-run", target)
    assert done.returncode != 0
    assert f"make {target} {variable}=" in done.stderr


def test_set_up_tries_interpreters_by_running_them_and_happens_once(fresh: Path) -> None:
    search = "PYTHONS=./lying ./absent ./old ./good"
    done = make("setup", search, where=fresh)
    assert done.returncode == 0, done.stderr
    assert "with ./good" in done.stdout
    log = (fresh / "log").read_text()
    assert "-r requirements/train.txt" in log
    assert "--editable ." in log

    assert make("setup", search, where=fresh).returncode == 0
    assert (fresh / "log").read_text() == log

    (fresh / "requirements" / "train.txt").touch()
    os.utime(fresh / ".venv" / ".done", (0, 0))
    done = make("setup", search, where=fresh)
    assert "creating" not in done.stdout
    assert len((fresh / "log").read_text()) > len(log)


def test_a_set_up_that_failed_is_tried_again(fresh: Path) -> None:
    script = (fresh / "good").read_text()
    (fresh / "good").write_text(script.replace("esac", '    *"pip install"*) exit 1 ;;\nesac'))
    assert make("setup", "PYTHONS=./good", where=fresh).returncode != 0
    (fresh / "log").unlink()
    assert make("setup", "PYTHONS=./good", where=fresh).returncode != 0
    assert "pip install" in (fresh / "log").read_text()


def test_without_an_interpreter_it_says_what_to_install(fresh: Path) -> None:
    done = make("demo", "PYTHONS=./lying ./old", where=fresh)
    assert done.returncode != 0
    assert "no Python 3.11" in done.stdout + done.stderr
    assert "apt install python3.11 python3.11-venv" in done.stdout + done.stderr
    assert "make demo PYTHON=" in done.stdout + done.stderr
    assert not (fresh / ".venv").exists()
