"""Options that the commands of a robot share: over which driver."""

from __future__ import annotations

import argparse

from hardware_io.clock import Clock
from hardware_io.drivers import DRIVERS, make_driver
from hardware_io.spec import RobotSpec
from hardware_io.state import RobotIO


def add_driver_options(parser: argparse.ArgumentParser) -> None:
    """`--driver`, `--interface`, `--channel` and `--bitrate`."""
    parser.add_argument("--driver", default="can_mit", choices=sorted(DRIVERS), help="how to talk to it (can_mit)")
    parser.add_argument("--interface", help="python-can's name of the adapter (slcan)")
    parser.add_argument("--channel", help="of the adapter: /dev/ttyACM0, can0, 239.74.163.2, …")
    parser.add_argument("--bitrate", type=int, help="of the bus, bit/s (1000000)")


def driver_of(options: argparse.Namespace, spec: RobotSpec, clock: Clock) -> RobotIO:
    """The driver that the options name, not yet open. Raises ConfigError, DriverError."""
    given = {name: getattr(options, name) for name in ("interface", "channel", "bitrate")}
    return make_driver(
        options.driver, spec, clock, **{name: value for name, value in given.items() if value is not None}
    )
