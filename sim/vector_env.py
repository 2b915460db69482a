"""Many tasks in several worker processes, with shared memory between workers and learner.

The lanes are split in groups that are in flight in turn: while the learner computes commands for one group, the
workers simulate the other. Nothing is pickled on the step path: a step is one byte each way on a pipe.
Without workers the lanes are simulated in the learner's own process, which pays where a step costs microseconds.
`N` lanes, `O` observation, `A` action, `P` hidden parameters.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError
from hardware_io.interface import Interface
from hardware_io.state import Array
from sim.family import Block, Family

STEP, CALL, DONE, FAILED = b"s", b"c", b"d", b"f"


class WorkerError(RuntimeError):
    """A simulation worker failed or died; carries its traceback."""


@dataclass(frozen=True)
class Layout:
    """What a worker needs to make its part of the environment."""

    family: Family
    lanes: int
    blocks: tuple[tuple[int, int], ...]  # first and last+1 lane of each group


class Shared:
    """The arrays that workers and learner share."""

    FIELDS = ("command", "observation", "reward", "terminated")

    def __init__(self, interface: Interface, lanes: int, buffers: dict[str, Any]) -> None:
        def view(name: str, dtype: Any, *shape: int) -> NDArray[Any]:
            return np.frombuffer(buffers[name], dtype).reshape(lanes, *shape)

        self.command: NDArray[np.float32] = view("command", np.float32, interface.actions)
        self.observation: NDArray[np.float32] = view("observation", np.float32, interface.observation)
        self.reward: NDArray[np.float32] = view("reward", np.float32)
        self.terminated: NDArray[np.bool_] = view("terminated", np.bool_)

    @staticmethod
    def allocate(context: Any, interface: Interface, lanes: int) -> dict[str, Any]:
        sizes = {"command": 4 * interface.actions, "observation": 4 * interface.observation, "reward": 4}
        return {name: context.RawArray("b", lanes * sizes.get(name, 1)) for name in Shared.FIELDS}


class VectorEnv:
    """`lanes` tasks of a family in `workers` processes, in `groups` that take turns."""

    def __init__(self, family: Family, lanes: int, workers: int, groups: int = 2) -> None:
        if lanes % (max(workers, 1) * groups):
            raise ConfigError("vector_env", "lanes", lanes, f"a multiple of workers x groups = {workers * groups}")
        self.family, self.lanes, self.workers, self.groups = family, lanes, workers, groups
        self.dynamics = np.tile(np.array(family.interface.nominal), (lanes, 1))  # (N, P)
        context = multiprocessing.get_context("spawn")
        buffers = Shared.allocate(context, family.interface, lanes)
        self.shared = Shared(family.interface, lanes, buffers)
        self.waited = context.RawArray("d", max(workers, 1))  # s that each worker has waited for the learner
        size = lanes // groups
        self.slices = [slice(g * size, (g + 1) * size) for g in range(groups)]
        self._pipes: list[Connection] = []
        self._processes = []
        self._local = None if workers else Worker(Layout(family, lanes, self._blocks_of(0)), self.shared)
        for worker in range(workers):
            layout = Layout(family, lanes, self._blocks_of(worker))
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, layout, buffers, self.waited, worker), daemon=True, name=f"sim-{worker}"
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._call("noop")

    def begin_trial(self, dynamics: Array) -> None:
        """New tasks with hidden parameters (N, P)."""
        self.dynamics = dynamics
        self._call("set_dynamics", lambda first, last: dynamics[first:last])

    def begin_rollout(self, seed: tuple[int, ...], anywhere: float = 0.0) -> NDArray[np.float32]:
        """Reset all lanes; returns the observation (N, O). The same seed and layout give the same rollout."""
        self._call("reset", lambda first, last: ((*seed, first), anywhere))
        return self.shared.observation

    def send(self, group: int, command: NDArray[np.float32]) -> None:
        """Start one policy period of a group under commands (N/groups, A)."""
        self.shared.command[self.slices[group]] = command
        if self._local is not None:
            self._local.step(group)
        for worker in range(self.workers):
            self._post(worker, STEP + bytes([group]))

    def wait(self, group: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Observation (N/groups, O), reward and terminated (N/groups,) of a group in flight: views until sent."""
        self._gather()
        where = self.slices[group]
        return self.shared.observation[where], self.shared.reward[where], self.shared.terminated[where]

    def step(self, command: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """One policy period of all lanes under commands (N, A): observation (N, O), reward and terminated (N,)."""
        for group, where in enumerate(self.slices):
            self.send(group, command[where])
        for group in range(self.groups):
            self.wait(group)
        return self.shared.observation, self.shared.reward, self.shared.terminated

    def close(self) -> None:
        """End the workers. Idempotent."""
        if self._local is not None:
            self._local.close()
        while self._pipes:
            self._pipes.pop().close()
        while self._processes:
            process = self._processes.pop()
            process.join(timeout=2)
            if process.is_alive():
                process.kill()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _blocks_of(self, worker: int) -> tuple[tuple[int, int], ...]:
        """First and last+1 lane of each group of a worker."""
        share = max(self.workers, 1)
        size = self.lanes // (self.groups * share)
        firsts = [(group * share + worker) * size for group in range(self.groups)]
        return tuple((first, first + size) for first in firsts)

    def _call(self, method: str, argument: Callable[[int, int], Any] | None = None) -> None:
        """A rare call, with one argument a block made from its first and last+1 lane; pickled."""
        arguments = [[argument(*block) for block in self._blocks_of(worker)] if argument else []
                     for worker in range(max(self.workers, 1))]  # fmt: skip
        if self._local is not None:
            self._local.call(method, arguments[0])
        for worker in range(self.workers):
            self._post(worker, CALL + pickle.dumps((method, arguments[worker])))
        self._gather()

    def _post(self, worker: int, message: bytes) -> None:
        if not self._pipes:
            raise WorkerError("the simulation is closed: make a new VectorEnv")
        try:
            self._pipes[worker].send_bytes(message)
        except OSError as error:  # its end of the pipe is gone
            raise self._dead(worker) from error

    def _gather(self) -> None:
        for worker, pipe in enumerate(self._pipes):
            try:
                answer = pipe.recv_bytes()
            except (EOFError, OSError) as error:
                raise self._dead(worker) from error
            if answer[:1] == FAILED:
                self.close()
                named, text = pickle.loads(answer[1:])
                raise named or WorkerError(f"simulation worker {worker} failed:\n{text}")

    def _dead(self, worker: int) -> WorkerError:
        process = self._processes[worker]
        process.join(timeout=1)
        self.close()
        return WorkerError(f"simulation worker {worker} died (exit code {process.exitcode})")


class Worker:
    """The blocks of one process."""

    def __init__(self, layout: Layout, shared: Shared) -> None:
        self.shared = shared
        self.blocks: list[Block] = [layout.family.block(last - first) for first, last in layout.blocks]
        self.where = [slice(*block) for block in layout.blocks]

    def step(self, group: int) -> None:
        """One step of a group, from the shared commands to the shared observations."""
        block, lanes, shared = self.blocks[group], self.where[group], self.shared
        shared.observation[lanes] = block.step(shared.command[lanes].astype(np.float64))
        shared.reward[lanes], shared.terminated[lanes] = block.reward, block.terminated

    def call(self, method: str, arguments: list[Any]) -> None:
        """`set_dynamics` or `reset` of every block with its argument; nothing without arguments."""
        for block, lanes, argument in zip(self.blocks, self.where, arguments, strict=False):
            if method == "set_dynamics":
                block.set_dynamics(argument)
            else:
                seed, anywhere = argument
                self.shared.observation[lanes] = block.reset(np.random.default_rng(seed), anywhere)
                self.shared.terminated[lanes] = False

    def close(self) -> None:
        """Free the blocks. Idempotent."""
        for block in self.blocks:
            block.close()


def _work(pipe: Connection, layout: Layout, buffers: dict[str, Any], waited: Any, worker: int) -> None:
    """The loop of a worker process: ends when the learner closes its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner decides when to end
    try:
        own = Worker(layout, Shared(layout.family.interface, layout.lanes, buffers))
        while True:
            begun = time.perf_counter()
            message = pipe.recv_bytes()
            waited[worker] += time.perf_counter() - begun
            if message[:1] == STEP:
                own.step(message[1])
            else:
                own.call(*pickle.loads(message[1:]))
            pipe.send_bytes(DONE)
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        # What the simulator itself has to say of a task is written for the person who reads it.
        named = error if type(error).__module__.partition(".")[0] in ("hardware_io", "sim") else None
        with contextlib.suppress(BrokenPipeError):  # the learner has gone already, after another worker's failure
            pipe.send_bytes(FAILED + pickle.dumps((named, traceback.format_exc())))
