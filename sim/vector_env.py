"""Many robots in several worker processes, with shared memory between workers and learner.

The lanes are split in groups that are in flight in turn: while the learner computes commands for one group, the
workers simulate the other. Nothing is pickled on the step path: a step is one byte each way on a pipe.
`N` lanes, `O` observation, `A` action, `P` hidden parameters.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.batch_env import BatchEnv
from sim.dynamics import DynamicsRange
from sim.tasks import make_task

STEP, CALL, DONE, FAILED = b"s", b"c", b"d", b"f"


class WorkerError(RuntimeError):
    """A simulation worker failed or died; carries its traceback."""


@dataclass(frozen=True)
class Layout:
    """What a worker needs to make its part of the environment."""

    spec: RobotSpec
    task: str
    parameters: dict[str, Any]
    substeps: int | None
    lanes: int
    blocks: tuple[tuple[int, int], ...]  # first and last+1 lane of each group


class Shared:
    """The arrays that workers and learner share."""

    FIELDS = ("command", "observation", "reward", "terminated")

    def __init__(self, spec: RobotSpec, lanes: int, buffers: dict[str, Any]) -> None:
        def view(name: str, dtype: Any, *shape: int) -> NDArray[Any]:
            return np.frombuffer(buffers[name], dtype).reshape(lanes, *shape)

        self.command: NDArray[np.float32] = view("command", np.float32, spec.action_size)
        self.observation: NDArray[np.float32] = view("observation", np.float32, spec.observation_size)
        self.reward: NDArray[np.float32] = view("reward", np.float32)
        self.terminated: NDArray[np.bool_] = view("terminated", np.bool_)

    @staticmethod
    def allocate(context: Any, spec: RobotSpec, lanes: int) -> dict[str, Any]:
        sizes = {"command": 4 * spec.action_size, "observation": 4 * spec.observation_size, "reward": 4}
        return {name: context.RawArray("b", lanes * sizes.get(name, 1)) for name in Shared.FIELDS}


class VectorEnv:
    """`lanes` robots in `workers` processes, in `groups` that take turns."""

    def __init__(
        self,
        spec: RobotSpec,
        task: str,
        lanes: int,
        workers: int,
        groups: int = 2,
        substeps: int | None = None,
        **parameters: Any,
    ) -> None:
        if lanes % (workers * groups):
            raise ConfigError("vector_env", "lanes", lanes, f"a multiple of workers x groups = {workers * groups}")
        self.spec, self.lanes, self.workers, self.groups = spec, lanes, workers, groups
        self.task, self.ranges = make_task(task, spec, **parameters), DynamicsRange.of(spec)
        self.dynamics = np.tile(self.ranges.nominal, (lanes, 1))  # (N, P)
        context = multiprocessing.get_context("spawn")
        buffers = Shared.allocate(context, spec, lanes)
        self.shared = Shared(spec, lanes, buffers)
        self.waited = context.RawArray("d", workers)  # s that each worker has waited for the learner
        size, block = lanes // groups, lanes // (groups * workers)
        self.slices = [slice(g * size, (g + 1) * size) for g in range(groups)]
        self._pipes: list[Connection] = []
        self._processes = []
        for worker in range(workers):
            blocks = tuple((g * size + worker * block, g * size + (worker + 1) * block) for g in range(groups))
            layout = Layout(spec, task, parameters, substeps, lanes, blocks)
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
        """New robots with hidden parameters (N, P)."""
        self.dynamics = dynamics
        self._call("set_dynamics", [dynamics[slice(*block)] for block in self._blocks()])

    def begin_rollout(self, seed: tuple[int, ...], anywhere: float = 0.0) -> NDArray[np.float32]:
        """Reset all robots; returns the observation (N, O). The same seed and layout give the same rollout."""
        self._call("reset", [((*seed, first), anywhere) for first, _ in self._blocks()])
        return self.shared.observation

    def send(self, group: int, command: NDArray[np.float32]) -> None:
        """Start one policy period of a group under commands (N/groups, A)."""
        self.shared.command[self.slices[group]] = command
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

    def _blocks(self) -> list[tuple[int, int]]:
        """First and last+1 lane of every (worker, group), in the order of calls."""
        size = self.lanes // (self.groups * self.workers)
        firsts = [(g * self.workers + w) * size for w in range(self.workers) for g in range(self.groups)]
        return [(first, first + size) for first in firsts]

    def _call(self, method: str, arguments: list[Any] | None = None) -> None:
        """A rare call with one argument a block; pickled."""
        for worker in range(self.workers):
            own = [] if arguments is None else arguments[worker * self.groups : (worker + 1) * self.groups]
            self._post(worker, CALL + pickle.dumps((method, own)))
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
                raise WorkerError(f"simulation worker {worker} failed:\n{answer[1:].decode()}")

    def _dead(self, worker: int) -> WorkerError:
        process = self._processes[worker]
        process.join(timeout=1)
        self.close()
        return WorkerError(f"simulation worker {worker} died (exit code {process.exitcode})")


def _work(pipe: Connection, layout: Layout, buffers: dict[str, Any], waited: Any, worker: int) -> None:
    """The loop of a worker process: ends when the learner closes its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner decides when to end
    try:
        shared = Shared(layout.spec, layout.lanes, buffers)
        task = make_task(layout.task, layout.spec, **layout.parameters)
        envs = [BatchEnv(layout.spec, task, last - first, layout.substeps) for first, last in layout.blocks]
        where = [slice(*block) for block in layout.blocks]
        while True:
            begun = time.perf_counter()
            message = pipe.recv_bytes()
            if message[:1] == STEP:
                waited[worker] += time.perf_counter() - begun
                group = message[1]
                env, lanes = envs[group], where[group]
                shared.observation[lanes] = env.step(shared.command[lanes].astype(np.float64))
                shared.reward[lanes], shared.terminated[lanes] = env.reward, env.terminated
            else:
                method, arguments = pickle.loads(message[1:])
                for env, lanes, argument in zip(envs, where, arguments, strict=False):
                    if method == "set_dynamics":
                        env.set_dynamics(argument)
                    else:
                        seed, anywhere = argument
                        shared.observation[lanes] = env.reset(np.random.default_rng(seed), anywhere)
                        shared.terminated[lanes] = False
            pipe.send_bytes(DONE)
    except (EOFError, BrokenPipeError):
        return
    except Exception:
        pipe.send_bytes(FAILED + traceback.format_exc().encode())
