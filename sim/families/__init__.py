"""What can be learned beside robots: families of tasks, one file each, and the way to anybody's own.

A family is chosen by a name of `FAMILIES` or as `module:attribute` of code that can be imported: a `Family` class, or
a function that makes a Gymnasium environment from a task (`sim/families/factory.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from hardware_io.config import ConfigError
from sim.family import Family

FAMILIES = {  # name → (module, class)
    "navigation": ("sim.families.navigation", "Navigation"),
    "point_robot": ("sim.families.point_robot", "PointRobot"),
    "bandits": ("sim.families.bandits", "Bandits"),
    "tabular": ("sim.families.tabular", "Tabular"),
    "grid_world": ("sim.families.grid_world", "GridWorld"),
    "cartpole": ("sim.families.cartpole", "Cartpole"),
    "cartpole_swing": ("sim.families.cartpole_swing", "CartpoleSwing"),
    "half_cheetah": ("sim.families.half_cheetah", "HalfCheetah"),
    "ant": ("sim.families.ant", "Ant"),
}


def make_family(name: str, settings: dict[str, Any], source: str, tasks: dict[str, Any] | None = None) -> Family:
    """The family `name` with the `settings` that `source` gives; `tasks` are the ranges of a factory's tasks.

    Raises ConfigError naming `source` and the key below `family`.
    """
    attribute = find(name, source)
    if not (isinstance(attribute, type) and issubclass(attribute, Family)):
        from sim.families.factory import FactoryFamily

        return FactoryFamily(name, settings, source, tasks)
    if tasks is not None:
        raise ConfigError(source, "family.tasks", tasks, f"nothing: {name} draws its own tasks")
    return attribute.of(settings, source)


def find(name: str, source: str) -> Callable[..., Any]:
    """The class or function that `name` stands for. Raises ConfigError for the key `family.name`."""
    module, _, attribute = ":".join(FAMILIES[name]).partition(":") if name in FAMILIES else name.partition(":")
    if not module or not attribute:
        raise ConfigError(source, "family.name", name, f"one of {', '.join(FAMILIES)}, or module:attribute")
    if os.getcwd() not in sys.path:  # a console script does not look there, where anybody's code is
        sys.path.append(os.getcwd())
    try:
        found = getattr(import_module(module), attribute, None)
    except Exception as error:  # anybody's code may fail in any way when it is imported
        allowed = f"a module that can be imported, but {module} raised {type(error).__name__}: {error}"
        raise ConfigError(source, "family.name", name, allowed) from error
    if not callable(found):
        kind = "has no such attribute" if found is None else f"holds {type(found).__name__} there"
        raise ConfigError(source, "family.name", name, f"a Family class or a function, but {module} {kind}")
    return cast(Callable[..., Any], found)
