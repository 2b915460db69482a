"""The policy as a function: one ONNX Runtime session, one thread, finite numbers in and out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware_io.bundle import Bundle, BundleError
from hardware_io.observation import channel_of
from hardware_io.spec import RobotSpec

Float32 = NDArray[np.float32]
INPUTS = ("observation", "fast", "noise")
OUTPUTS = ("command", "next_fast")


class NonFinite(RuntimeError):
    """NaN or infinity would have entered or left the policy: names the value and its channel."""


class Policy:
    """A bundle ready to run. `O` observation, `F` fast state, `A` action; the batch is 1.

    Raises BundleError when the graph's inputs and outputs are not those of the robot it is made for.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.spec: RobotSpec = bundle.spec
        self.fast0: Float32 = bundle.fast
        self._session = open_session(bundle.graph)
        sizes = (self.spec.observation_size, bundle.fast.size, self.spec.action_size)
        _check_signature("input", self._session.get_inputs(), dict(zip(INPUTS, sizes, strict=True)))
        _check_signature("output", self._session.get_outputs(), dict(zip(OUTPUTS, (sizes[2], sizes[1]), strict=True)))
        self._action_names = [list(self.spec.joints)[i] for i in self.spec.acting]
        self._binding = self._session.io_binding()
        self._in, self._inputs = _buffers(dict(zip(INPUTS, sizes, strict=True)), self._binding.bind_ortvalue_input)
        out_sizes = dict(zip(OUTPUTS, (sizes[2], sizes[1]), strict=True))
        self._out, self._outputs = _buffers(out_sizes, self._binding.bind_ortvalue_output)
        for _ in range(10):  # the first runs allocate; they must not be the first ticks of a robot
            self._session.run_with_iobinding(self._binding)

    def step(self, observation: Float32, fast: Float32, noise: Float32) -> tuple[Float32, Float32]:
        """One inference: (O,), (F,), (A,) to the command (A,) in SI units and the next fast state (F,).

        Raises NonFinite before the inference when an input is not finite (an infinite velocity can give a finite
        command), and after it when an output is not.
        """
        inputs, outputs = self._inputs, self._outputs
        inputs["observation"][0] = observation
        inputs["fast"][0] = fast
        inputs["noise"][0] = noise
        if not np.isfinite(self._in).all():
            raise NonFinite(self._describe("input", inputs))
        self._session.run_with_iobinding(self._binding)
        if not np.isfinite(self._out).all():
            raise NonFinite(self._describe("output", outputs))
        return outputs["command"][0].copy(), outputs["next_fast"][0].copy()

    def start_fast(self, fast: Float32) -> Float32:
        """The fast state a rollout starts with, (F,): everything not kept returns to its initial value."""
        return np.where(self.bundle.kept, fast, self.fast0).astype(np.float32)

    def _describe(self, side: str, values: dict[str, Float32]) -> str:
        name, value = next((name, value[0]) for name, value in values.items() if not np.isfinite(value).all())
        index = int(np.flatnonzero(~np.isfinite(value))[0])
        if name == "observation":
            place = channel_of(self.spec, index)
        elif name in ("command", "noise"):
            place = f"joint {self._action_names[index]}"
        else:
            place = f"[{index}]"
        return f"policy {side} {name}, {place}: got {value[index]}; allowed: finite numbers"


def _buffers(sizes: dict[str, int], bind: Callable[..., None]) -> tuple[Float32, dict[str, Float32]]:
    """One flat buffer and its (1, size) parts, which the session reads or writes in place.

    Half the time of a plain run, and one check for finite numbers covers all parts.
    """
    flat = np.zeros(sum(sizes.values()), np.float32)
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = flat[start : start + size].reshape(1, size)
        bind(name, onnxruntime.OrtValue.ortvalue_from_numpy(parts[name]))
        start += size
    return flat, parts


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread that never spins. Raises BundleError when ONNX Runtime refuses the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: warnings about the host would hide the loop's own lines
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} refuses the graph: {error}") from error


def _check_signature(side: str, items: list[onnxruntime.NodeArg], sizes: dict[str, int]) -> None:
    found = {item.name: item for item in items}
    if set(found) != set(sizes):
        raise BundleError(f"graph {side}s: got {', '.join(found)}; allowed: {', '.join(sizes)}")
    for name, size in sizes.items():
        item = found[name]
        if item.type != "tensor(float)" or len(item.shape) != 2 or item.shape[1] != size:
            raise BundleError(f"graph {side} {name}: got {item.type} {item.shape}; allowed: float32 (B, {size})")
        if isinstance(item.shape[0], int) and item.shape[0] != 1:
            raise BundleError(f"graph {side} {name}: got a batch of {item.shape[0]}; allowed: a dynamic one, or 1")
