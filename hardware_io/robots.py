"""The robots that ship, by name: one folder each in `sim/robots`, with YAML and URDF, which are data and no code."""

from __future__ import annotations

from pathlib import Path

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec, load_spec

ROOT = Path(__file__).resolve().parent.parent / "sim" / "robots"


def robot_names() -> list[str]:
    """Every robot that ships: `folder`, or `folder/variant` where a folder holds several."""
    names = []
    for path in sorted(ROOT.glob("*/*.yaml")):
        if path.stem == "robot":
            names.append(path.parent.name)
        elif not path.stem.startswith("_"):  # _common.yaml is what variants share
            names.append(f"{path.parent.name}/{path.stem}")
    return names


def find_robot(name: str) -> Path:
    """The YAML file of a shipped robot, by its name or its variant's alone, or `name` itself when it is a path.

    Raises ConfigError for a name that is neither; whether a path leads anywhere shows when it is read.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    found = [known for known in robot_names() if name in (known, known.rpartition("/")[2])]
    if len(found) != 1:
        raise ConfigError("robot", "name", name, f"a YAML file or one of {', '.join(robot_names())}")
    variant = ROOT / f"{found[0]}.yaml"
    return variant if variant.is_file() else ROOT / found[0] / "robot.yaml"


def load_robot(name: str) -> RobotSpec:
    """The spec of a shipped robot or of a YAML file. Raises ConfigError."""
    return load_spec(find_robot(name))
