"""YAML into frozen dataclasses, with errors that name the file, the key, the value and what is allowed.

A dataclass field may carry `metadata`: `unit`, `help`, `min`, `max`, `choices`. They are checked here and shown
by `--help`, so a bound is written once.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that cannot be used: says where it stands, what it is and what is allowed."""

    def __init__(self, source: str, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{source}: {key or 'document'}: got {value!r}; allowed: {allowed}")
        self.source, self.key, self.value, self.allowed = source, key, value, allowed

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str, object, str]]:
        """So that it reaches the parent of a worker process whole."""
        return ConfigError, (self.source, self.key, self.value, self.allowed)


def option(default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A dataclass field with `unit`, `help`, `min`, `max` or `choices` beside its default."""
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError when it is missing, malformed or not a mapping."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), "", error.strerror, "a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "", error.reason, "UTF-8 text") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(str(path), place, getattr(error, "problem", str(error)), "well-formed YAML") from error
    if not isinstance(data, dict):
        raise ConfigError(str(path), "", data, "a mapping of keys to values")
    return data


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` laid on top, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def build(cls: type[T], data: Any, source: str, key: str = "") -> T:
    """An instance of the dataclass `cls` from a mapping. Raises ConfigError naming `source` and the dotted key."""
    if not isinstance(data, dict):
        raise ConfigError(source, key, data, f"a mapping with keys {', '.join(_names(cls))}")
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values = {}
    for name, value in data.items():
        if name not in known:
            raise ConfigError(source, _join(key, name), value, f"one of the keys {', '.join(known)}")
        values[name] = _convert(hints[name], value, source, _join(key, name))
        _check_bounds(known[name].metadata, values[name], source, _join(key, name))
    for name, field in known.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(source, _join(key, name), None, "a value: this key is required")
    try:
        return cls(**values)
    except ConfigError as error:  # __post_init__ knows its own keys only
        raise ConfigError(source, _join(key, error.key), error.value, error.allowed) from error


def dump(value: Any) -> Any:
    """Plain dicts, lists and scalars of a dataclass instance: what `build` reads back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: dump(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: dump(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [dump(item) for item in value]
    return value


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Replace a file in one step, so that a crash or a full disk leaves the old one whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key and name != "" else f"{key}{name}"


def _convert(hint: Any, value: Any, source: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, source, key)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, source, key)
    if origin is tuple:
        return _convert_tuple(arguments, value, source, key)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(source, key, value, "a mapping")
        return {str(name): _convert(arguments[1], item, source, _join(key, name)) for name, item in value.items()}
    return _convert_scalar(hint, value, source, key)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, source: str, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(source, key, value, "a list")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise ConfigError(source, key, value, f"a list of {len(arguments)} values")
    return tuple(_convert(a, v, source, f"{key}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))


def _convert_scalar(hint: Any, value: Any, source: str, key: str) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise ConfigError(source, key, value, "a finite number")
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return _convert_scalar(float, float(value), source, key)
        except ValueError as error:
            raise ConfigError(source, key, value, "a number") from error
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    raise ConfigError(source, key, value, names.get(hint, str(hint)))


def _check_bounds(metadata: Any, value: Any, source: str, key: str) -> None:
    if value is None:
        return
    unit = f" {metadata['unit']}" if metadata.get("unit") else ""
    choices = metadata.get("choices")
    for item in value if isinstance(value, tuple) else (value,):
        if choices is not None and item not in choices:
            raise ConfigError(source, key, item, f"one of {', '.join(map(str, choices))}")
        if "min" in metadata and item < metadata["min"]:
            raise ConfigError(source, key, item, f"at least {metadata['min']}{unit}")
        if "max" in metadata and item > metadata["max"]:
            raise ConfigError(source, key, item, f"at most {metadata['max']}{unit}")
