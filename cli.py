"""`acclimate COMMAND ...`: a lazy table, so that a command loads only the room it lives in.

The robot's controller runs `acclimate run` with the base installation: nothing here may import more than the
standard library.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

# name → (module, function taking the arguments and returning an exit status, what it does)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("export.demo", "main", "meta-train, export, adapt and run a pendulum, with a report"),
    "train": ("adapt.train", "main", "meta-train a policy on randomized robots"),
    "evaluate": ("adapt.evaluate", "main", "return and success against rollouts on held-out dynamics"),
    "export": ("export.exporter", "main", "write a trained policy as one ONNX file"),
    "verify": ("export.verify", "main", "check a file: digest, parity with PyTorch, latency"),
    "twin": ("sim.twin", "main", "play a robot on a bus: a stand-in with hidden dynamics"),
    "run": ("hardware_io.run", "main", "run an exported file on a robot at a fixed rate"),
    "adapt": ("adapt.online", "main", "adapt an exported file to one robot from a few rollouts"),
    "identify": ("adapt.identify", "main", "calibrate a robot's simulation from logs of the real one"),
    "predict": ("adapt.predict", "main", "score how well a calibration foresees a log"),
    "monitor": ("hardware_io.operate", "monitor_main", "show a robot's state, read-only"),
    "jog": ("hardware_io.operate", "jog_main", "move one joint a little to check sign, zero and limits"),
    "check": ("sim.check", "main", "judge a robot's specification and URDF"),
    "report": ("adapt.report", "main", "draw a run as one HTML page"),
}

ROOMS = ("adapt", "export", "hardware_io", "policies", "sim")

# import name → the extra that installs it
EXTRAS = {
    **dict.fromkeys(
        ("cma", "gymnasium", "matplotlib", "onnx", "onnxscript", "pybullet", "rich", "scipy", "tensorboard", "torch"),
        "train",
    ),
    "mujoco": "twin",
}

FAILED, INTERRUPTED = 2, 130


def usage() -> str:
    """The table of commands, as `acclimate --help` prints it."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: acclimate COMMAND ...",
            "",
            "Robots that adapt to their own hardware.",
            "",
            *lines,
            "",
            "acclimate COMMAND --help shows the options of a command, with units and defaults.",
            "acclimate --version shows the version.",
        ]
    )


def load(command: str) -> Callable[[list[str]], int]:
    """The function behind a command. Raises ModuleNotFoundError when an extra is not installed."""
    module, function, _ = COMMANDS[command]
    main: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return main


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns its exit status: 2 after a mistake that the project can name (printed as one line), 130 after Ctrl-C.
    Anything else that goes wrong is ours and keeps its traceback.
    """
    arguments = sys.argv[1:] if argv is None else argv
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else FAILED
    if command == "--version":
        from importlib.metadata import version

        print(version("acclimate"))
        return 0
    if command not in COMMANDS:
        return _fail(f"{command!r} is not a command; allowed: {', '.join(COMMANDS)}")
    try:
        return load(command)(arguments[1:])
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        return _fail(_missing(command, package))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ROOMS:
            raise
        return _fail(str(error))  # an error that the project defines is written for the person who reads it


def _missing(command: str, package: str) -> str:
    extra = EXTRAS[package]
    python = " with Python 3.11" if extra == "train" else ""
    return f"acclimate {command} needs {package}, which is not installed: pip install 'acclimate[{extra}]'{python}"


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
