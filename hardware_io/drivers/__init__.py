"""Drivers: one file each, by name. A vendor's library is imported only when its driver is opened."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hardware_io.clock import Clock
from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from hardware_io.state import RobotIO

DRIVERS: dict[str, tuple[str, str]] = {  # name → (module, class)
    "can_mit": ("hardware_io.drivers.can_mit", "CanMit"),
}


def make_driver(name: str, spec: RobotSpec, clock: Clock, **options: Any) -> RobotIO:
    """The driver `name`, not yet open; `options` as its class documents them. Raises ConfigError, DriverError."""
    if name not in DRIVERS:
        raise ConfigError("driver", "name", name, f"one of {', '.join(DRIVERS)}")
    module, cls = DRIVERS[name]
    driver: RobotIO = getattr(import_module(module), cls)(spec, clock, **options)
    return driver
