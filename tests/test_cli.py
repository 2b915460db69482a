"""The command line: its table, its messages, and what it does without the desk's libraries."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import cli

ROOT = Path(__file__).resolve().parents[1]
ON_THE_ROBOT = [name for name, (module, _, _) in cli.COMMANDS.items() if module.startswith("hardware_io.")]


def acclimate_without(missing: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new process in which some packages cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import cli; sys.exit(cli.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = re.findall(r"^  (\w+)  ", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(cli.COMMANDS)


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.FAILED
    assert "usage: acclimate COMMAND" in capsys.readouterr().out


def test_version_is_the_one_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == project["version"]


def test_an_unknown_command_is_named_with_those_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == cli.FAILED
    message = capsys.readouterr().err
    assert message.startswith("error: 'trian' is not a command; allowed: ")
    assert "train" in message


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: acclimate {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ON_THE_ROBOT)
def test_the_robot_needs_no_library_of_the_desk(command: str) -> None:
    done = acclimate_without(list(cli.EXTRAS), command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: acclimate {command}" in done.stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [("torch", ("train", "--help"), "train"), ("mujoco", ("twin", "--robot", "simple_pendulum"), "twin")],
)
def test_a_missing_library_is_one_line_that_names_the_extra(
    missing: str, arguments: tuple[str, ...], extra: str
) -> None:
    done = acclimate_without([missing], *arguments)
    assert done.returncode == cli.FAILED
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert missing in done.stderr
    assert f"pip install 'acclimate[{extra}]'" in done.stderr


def test_every_library_of_an_extra_is_known_by_its_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[=<>;]", line)[0]: extra for extra in ("train", "twin") for line in extras[extra]}
    assert names == cli.EXTRAS


def fake_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "load", lambda command: fail)


def test_an_error_of_the_project_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hardware_io.config import ConfigError

    fake_command(monkeypatch, ConfigError("a.yaml", "period.io", 2.0, "at most 0.02 s"))
    assert cli.main(["run"]) == cli.FAILED
    assert capsys.readouterr().err == "error: a.yaml: period.io: got 2.0; allowed: at most 0.02 s\n"


def test_any_other_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main(["run"])


def test_a_missing_module_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, ModuleNotFoundError("No module named 'sim.nowhere'", name="sim.nowhere"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["run"])


def test_an_interruption_is_not_a_crash(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_command(monkeypatch, KeyboardInterrupt())
    assert cli.main(["train"]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "nowhere.onnx"), "nowhere.onnx"),
        (("verify", "nowhere.onnx"), "nowhere.onnx"),
        (("train", "nowhere.yaml"), "nowhere.yaml"),
        (("check", "nowhere.yaml"), "nowhere.yaml"),
        (("check", "no_such_robot"), "no_such_robot"),
        (("twin", "--robot", "no_such_robot"), "no_such_robot"),
    ],
)
def test_a_file_that_is_not_there_is_named(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(list(arguments)) == cli.FAILED
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.strip().count("\n") == 0
    assert named in message
