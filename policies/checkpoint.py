"""Checkpoints: tensors and plain data in one file, replaced in one step so that a crash leaves the old one whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from hardware_io.config import ConfigError, write_atomically


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, text, lists and dicts."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it. Raises ConfigError when it is missing or damaged."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(str(path), "", "no such file", "a checkpoint that `acclimate train` wrote") from error
    except Exception as error:  # torch raises many kinds for one truncated file
        raise ConfigError(str(path), "", f"unreadable: {error}".splitlines()[0], "a whole checkpoint") from error
    return content
