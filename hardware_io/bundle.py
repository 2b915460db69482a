"""One `.onnx` file is the whole deployment: graph, robot, task, initial fast state, provenance and digest.

Everything but the graph lies in the model's metadata (`ModelProto.metadata_props`, field 14 of the protobuf message,
see onnx.proto), which this file reads and rewrites by hand: a robot needs neither `onnx` nor `protobuf`, and an
adapted file is the same graph bytes with another initial fast state. Our entries follow everything else:

    acclimate   JSON: format, robot, spec, task, learner, provenance, teaching
    fast        base64 of the initial fast state, float32 little-endian, (F,)
    kept        base64 of a uint8 mask, (F,): what is carried from rollout to rollout
    slow        base64 of the weights that `adapt` works with, only where adaptation is not inside the graph
    sha256      hex digest of every byte before this entry; always the last bytes of the file
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError, write_atomically
from hardware_io.spec import RobotSpec

FORMAT = 1
OURS = ("acclimate", "fast", "kept", "slow", "sha256")
METADATA_PROPS = 14  # field number in onnx.proto
LENGTH_DELIMITED = 2  # wire types of the protobuf encoding
FIXED_WIDTH = {1: 8, 5: 4}


class BundleError(ValueError):
    """A file that cannot be used: names the file and says whether it is truncated, altered, foreign or too new."""


class _EndsEarly(ValueError):
    """The wire format promises more bytes than there are."""


class _NotProtobuf(ValueError):
    """The wire format breaks its own rules."""


@dataclass(frozen=True)
class Bundle:
    """A deployable policy. `F` is the size of the fast state."""

    graph: bytes  # the ModelProto without our entries
    spec: RobotSpec
    task: dict[str, Any]  # name and parameters
    learner: str
    fast: NDArray[np.float32]  # (F,) initial fast state
    kept: NDArray[np.bool_]  # (F,) what is carried from rollout to rollout
    provenance: dict[str, Any] = field(default_factory=dict)  # config, seed, commit, metrics, …
    slow: bytes = field(default=b"", repr=False)  # what adapt/slow.py packs for learners that adapt between rollouts
    teaching: dict[str, int] = field(default_factory=dict)  # rollouts and adaptations of one trial in training

    def __post_init__(self) -> None:
        if self.fast.ndim != 1 or self.fast.dtype != np.float32:
            raise BundleError(f"fast: got {self.fast.dtype} {self.fast.shape}; allowed: float32 (F,)")
        if self.kept.shape != self.fast.shape or self.kept.dtype != np.bool_:
            raise BundleError(f"kept: got {self.kept.dtype} {self.kept.shape}; allowed: bool {self.fast.shape}")
        bad = np.flatnonzero(~np.isfinite(self.fast))
        if bad.size:
            raise BundleError(f"fast[{bad[0]}]: got {self.fast[bad[0]]}; allowed: finite numbers")

    def with_fast(self, fast: NDArray[np.float32], provenance_update: dict[str, Any] | None = None) -> Bundle:
        """The same graph with another initial fast state, (F,). Raises BundleError on another shape or NaN."""
        fast = np.array(fast, dtype=np.float32)
        if fast.shape != self.fast.shape:
            raise BundleError(f"fast: got shape {fast.shape}; allowed: {self.fast.shape}, as the graph takes it")
        return replace(self, fast=fast, provenance={**self.provenance, **(provenance_update or {})})

    def to_bytes(self) -> bytes:
        """The whole file."""
        document = {
            "format": FORMAT,
            "robot": self.spec.name,
            "spec": self.spec.to_dict(),
            "task": self.task,
            "learner": self.learner,
            "provenance": self.provenance,
            **({"teaching": self.teaching} if self.teaching else {}),
        }
        body = b"".join(
            (
                self.graph,
                _entry("acclimate", json.dumps(document, ensure_ascii=False).encode()),
                _entry("fast", base64.b64encode(self.fast.astype("<f4").tobytes())),
                _entry("kept", base64.b64encode(self.kept.astype(np.uint8).tobytes())),
                _entry("slow", base64.b64encode(self.slow)) if self.slow else b"",
            )
        )
        return body + _entry("sha256", _digest(body))


def write_bundle(path: str | Path, bundle: Bundle) -> None:
    """Write the file in one step: a crash leaves the old one whole."""
    write_atomically(path, bundle.to_bytes())


def file_digest(path: str | Path) -> str:
    """The digest that a file carries at its end, hex: its short name in logs and reports."""
    return Path(path).read_bytes()[-64:].decode("ascii", "replace")


def read_bundle(path: str | Path, robot: str | None = None) -> Bundle:
    """The deployment in a file, its digest checked.

    Raises BundleError that says which: unreadable, not an acclimate file, truncated, altered, written by a newer
    version, or made for another robot than `robot`.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    _check_digest(path, data)
    graph, entries = _split(data)
    try:
        document = json.loads(entries["acclimate"])
        version = document["format"]
        if version > FORMAT:
            raise BundleError(f"{path}: format {version} is newer than this version reads ({FORMAT}); update acclimate")
        if robot is not None and document["robot"] != robot:
            raise BundleError(f"{path}: made for robot {document['robot']!r}, not for {robot!r}")
        fast = np.frombuffer(base64.b64decode(entries["fast"], validate=True), dtype="<f4").astype(np.float32)
        kept = np.frombuffer(base64.b64decode(entries["kept"], validate=True), dtype=np.uint8).astype(np.bool_)
        slow = base64.b64decode(entries.get("slow", b""), validate=True)
        spec = RobotSpec.from_dict(document["spec"], f"{path} (spec)")
        task, learner, provenance = document["task"], document["learner"], document["provenance"]
        return Bundle(graph, spec, task, learner, fast, kept, provenance, slow, document.get("teaching", {}))
    except BundleError as error:
        raise error if str(path) in str(error) else BundleError(f"{path}: {error}") from error
    except ConfigError as error:
        raise BundleError(str(error)) from error
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise BundleError(f"{path}: its acclimate metadata cannot be read: {error!r}") from error


def _check_digest(path: Path, data: bytes) -> None:
    """Raises BundleError unless the file ends in the digest of all that precedes it."""
    size = len(_entry("sha256", bytes(64)))
    body, tail = data[:-size], data[-size:]
    if len(data) > size and tail[:-64] == _entry("sha256", bytes(64))[:-64]:
        if tail[-64:] == _digest(body):
            return
        raise BundleError(f"{path}: altered: its bytes do not match the digest at its end")
    seen: list[str] = []
    try:
        for _, _, name, _ in _fields(data):
            seen.append(name)
    except _EndsEarly as error:
        raise BundleError(f"{path}: truncated: {error}") from error
    except _NotProtobuf as error:
        kind = "altered" if "acclimate" in seen else "not an acclimate file"
        raise BundleError(f"{path}: {kind}: {error}") from error
    if "acclimate" not in seen:
        hint = "an ONNX model without acclimate metadata; `acclimate export` writes it" if data else "it is empty"
        raise BundleError(f"{path}: not an acclimate file: {hint}")
    if "sha256" in seen or seen[-1] not in OURS:
        raise BundleError(f"{path}: altered: there is something else after its metadata")
    raise BundleError(f"{path}: truncated: no digest at its end")


def _split(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The model without our metadata, and our metadata."""
    graph, entries = [], {}
    for start, end, name, value in _fields(data):
        if name in OURS:
            entries[name] = value
        else:
            graph.append(data[start:end])
    return b"".join(graph), entries


def _fields(data: bytes) -> Iterator[tuple[int, int, str, bytes]]:
    """Each top-level field of a ModelProto: where it starts and ends and, of a metadata entry, name and value."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        content, position = _content(data, position, number, wire)
        name, value = "", b""
        if number == METADATA_PROPS and wire == LENGTH_DELIMITED:
            name, value = _key_value(content)
        yield start, position, name, value


def _content(data: bytes, position: int, number: int, wire: int) -> tuple[bytes, int]:
    """The bytes of one field and the position after it."""
    if wire == 0:
        _, position = _varint(data, position)
        return b"", position
    if wire == LENGTH_DELIMITED:
        length, position = _varint(data, position)
    elif wire in FIXED_WIDTH and number > 0:
        length = FIXED_WIDTH[wire]
    else:
        raise _NotProtobuf(f"byte {position - 1} is no part of an ONNX model")
    if position + length > len(data):
        raise _EndsEarly(f"{position + length} bytes are announced, the file has {len(data)}")
    return data[position : position + length], position + length


def _key_value(content: bytes) -> tuple[str, bytes]:
    """Name and value of a StringStringEntryProto: key is field 1, value is field 2."""
    parts, position = {1: b"", 2: b""}, 0
    while position < len(content):
        tag, position = _varint(content, position)
        part, position = _content(content, position, tag >> 3, tag & 7)
        parts[tag >> 3] = part
    return parts[1].decode("utf-8", "replace"), parts[2]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A base-128 number, seven bits a byte, least first."""
    value = shift = 0
    while True:
        if position >= len(data):
            raise _EndsEarly(f"it ends inside a number at byte {position}")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise _NotProtobuf(f"byte {position - 1} is no part of an ONNX model")


def _entry(name: str, value: bytes) -> bytes:
    """One metadata entry as a field of the ModelProto."""
    key = name.encode()
    content = b"\x0a" + _encode_varint(len(key)) + key + b"\x12" + _encode_varint(len(value)) + value
    return _encode_varint(METADATA_PROPS << 3 | LENGTH_DELIMITED) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
