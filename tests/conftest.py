"""What several rooms' tests share: the pendulum's spec and a small policy for it, built without training."""

from __future__ import annotations

import os

# One thread for the small products of tests, before anything reads it: on a busy machine two that wait for each other
# take ten times as long. Processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware_io.bundle import Bundle, write_bundle
from hardware_io.spec import RobotSpec, load_spec

ROOT = Path(__file__).parent.parent
ROBOTS = ROOT / "sim" / "robots"

# A robot does not wait: a test that runs against the clock fails when its machine pauses, whatever it tests. It is run
# again, which pytest tells. A defect fails every time. What can be tested on a virtual clock is, and has no need of it.
in_real_time = pytest.mark.flaky(reruns=3, reruns_delay=1)
PATIENCE = 60  # s, for another process to get somewhere


@pytest.fixture(scope="session")
def pendulum() -> RobotSpec:
    return load_spec(ROBOTS / "simple_pendulum" / "robot.yaml")


def pump_graph(observation: int = 3, action: int = 1, learning: float = 0.0, bias: float = 0.0) -> bytes:
    """An energy pump as ONNX: command = fast[2] · tanh(2 · velocity + bias) + 0.1 · noise, clipped to ± 2 N·m.

    Fast state (3,): previous command, steps since the rollout's start, gain in N·m, which grows by `learning` a step.
    With a great `bias` it pumps nothing and leans to one side with the torque of its gain.
    """
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper

    def constant(name: str, value: object, kind: type = np.float32) -> object:
        return numpy_helper.from_array(np.array(value, dtype=kind), name)

    def tensor(name: str, size: int) -> object:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])

    constants = [
        constant("one", [1.0]),
        constant("two", [2.0]),
        constant("tenth", [0.1]),
        constant("learning", [learning]),
        constant("bias", [bias]),
        constant("low", -2.0),
        constant("high", 2.0),
        constant("column1", [1], np.int64),
        constant("column2", [2], np.int64),
    ]
    nodes = [
        helper.make_node("Gather", ["observation", "column1"], ["velocity"], axis=1),
        helper.make_node("Gather", ["fast", "column1"], ["count"], axis=1),
        helper.make_node("Gather", ["fast", "column2"], ["gain"], axis=1),
        helper.make_node("Mul", ["velocity", "two"], ["steep"]),
        helper.make_node("Add", ["steep", "bias"], ["biased"]),
        helper.make_node("Tanh", ["biased"], ["direction"]),
        helper.make_node("Mul", ["gain", "direction"], ["pump"]),
        helper.make_node("Mul", ["noise", "tenth"], ["exploration"]),
        helper.make_node("Add", ["pump", "exploration"], ["wanted"]),
        helper.make_node("Clip", ["wanted", "low", "high"], ["command"]),
        helper.make_node("Add", ["count", "one"], ["next_count"]),
        helper.make_node("Add", ["gain", "learning"], ["next_gain"]),
        helper.make_node("Concat", ["command", "next_count", "next_gain"], ["next_fast"], axis=1),
    ]
    inputs = [tensor("observation", observation), tensor("fast", 3), tensor("noise", action)]
    outputs = [tensor("command", action), tensor("next_fast", 3)]
    graph = helper.make_graph(nodes, "pump", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="author", value="tests")
    return model.SerializeToString()


@pytest.fixture(scope="session")
def pump(pendulum: RobotSpec) -> Bundle:
    """A bundle that pumps the pendulum at 1 N·m; its gain is the kept part of the fast state."""
    return Bundle(
        graph=pump_graph(),
        spec=pendulum,
        task={"name": "swing_up", "duration": 5.0},
        learner="pump",
        fast=np.array([0.0, 0.0, 1.0], np.float32),
        kept=np.array([False, False, True]),
        provenance={"seed": 0},
    )


@pytest.fixture
def pump_file(pump: Bundle, tmp_path: Path) -> Path:
    write_bundle(tmp_path / "pump.onnx", pump)
    return tmp_path / "pump.onnx"


def forgiving(spec: RobotSpec) -> RobotSpec:
    """The same robot with watchdogs that forgive a shared machine its pauses, and little time to be still."""
    safety = replace(spec.safety, missed_deadlines=3000, still_time=0.1, still_velocity=1.0, stale_after=30.0)
    return replace(spec, safety=safety)


@pytest.fixture
def twin() -> Iterator[tuple[subprocess.Popen, str]]:
    """A twin of the pendulum at rest, in a process of its own, and the channel on which it listens."""
    command = [sys.executable, "-m", "sim.twin", "--robot", "simple_pendulum", "--seed", "1", "--duration", "280"]
    for still in ("base_tilt=0", "payload=1", "torque_constant=1", "latency=0.01"):
        command += ["--set", still]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        ready = process.stdout.readline().split()
        assert ready[:2] == ["ready", "slcan"]
        yield process, ready[2]
        process.kill()


def wait_for_steps(log: Path, count: int, writer: subprocess.Popen) -> None:
    """Until the log that `writer` is writing holds more than `count` policy steps."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended = writer.poll() is not None
        if log.exists() and log.read_bytes().count(b'"noise"') > count:  # once in the schema
            return
        if ended:
            break
        time.sleep(0.05)
    raise AssertionError(f"{log} never held {count} steps")
