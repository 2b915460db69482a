"""Questions to the person beside the robot."""

from __future__ import annotations

import select
import sys


def ask_operator(message: str) -> bool:
    """Ask at the terminal, yes or no; no where there is none. Holds no lock while it waits, so a thread may do it."""
    if not sys.stdin.isatty():
        return False
    print(f"{message} [y/N] ", end="", flush=True)
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    return sys.stdin.readline().strip().lower() in ("y", "yes")
