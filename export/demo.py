"""`acclimate demo`: the whole way once, in minutes: meta-train, export, adapt to a robot nobody described, report.

The robot is a twin: a process with another physics engine and hidden parameters, reached over its motor protocol.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapt.methods import InGraph
from adapt.online import Adaptation, adapt_on_robot, deploy
from adapt.persistent import PersistentLoop
from adapt.report import write_report
from adapt.run_folder import load_run, read_config
from adapt.scored import ADAPTED, TEACHING, Scored, scored, task_of
from adapt.session import Plan, Session
from adapt.train import Trainer, train_with_bar
from adapt.twins import TwinProcess, lockstep, start_fast, summarise, twin_process
from export.exporter import main as export_main
from hardware_io.bundle import Bundle, file_digest, read_bundle
from hardware_io.clock import MonotonicClock
from hardware_io.config import ConfigError, write_atomically
from hardware_io.recorder import Recorder
from sim.dynamics import DynamicsRange
from sim.twin import draw_dynamics

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "demo.yaml"
ZOO = {name: ROOT / "zoo" / f"simple_pendulum_{name}.onnx" for name in ("domain_randomised", "oracle")}
ROLLOUTS = 3  # on the robot that teach
JUDGE = 4  # of each policy that judge: the fewest that can tell two apart
LOCKSTEP_ROBOTS = 16


@dataclass
class Stopwatch:
    """How long each stage took, s."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, title: str) -> Any:
        print(f"\n\033[1m{title}\033[0m", flush=True)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 1)


def main(argv: list[str]) -> int:
    """Returns 0 when the whole way was gone, whatever the robot made of it."""
    parser = argparse.ArgumentParser(prog="acclimate demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", default="runs/demo", help="folder (default runs/demo)")
    parser.add_argument("--seed", type=int, help="of the hidden robot (default: a new one each time)")
    parser.add_argument("--steps", type=int, help="of training, policy steps (default: those of configs/demo.yaml)")
    options = parser.parse_args(argv)
    folder, watch = Path(options.out), Stopwatch()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    for name, path in ZOO.items():
        if not path.exists():
            raise ConfigError(str(path), name, "missing", "the trained file that ships with the source")
    with watch.stage("train", "1/4 meta-train RL² on randomised pendulums in PyBullet"):
        train(folder, options.steps)
    with watch.stage("export", "2/4 export to one ONNX file, and verify it"):
        bundle = export(folder)
    with watch.stage("robot", f"3/4 adapt on a robot with hidden parameters (MuJoCo twin {seed}, over slcan)"):
        document = on_the_robot(bundle, folder, seed)
    with watch.stage("lockstep", f"4/4 the same on {LOCKSTEP_ROBOTS} more hidden robots, in lockstep"):
        document["lockstep"] = many_robots(bundle, seed + 1)
    document["seconds"] = watch.seconds
    write_atomically(folder / "demo.json", json.dumps(document, indent=1))
    print_table(document)
    print(f"\nreport: {write_report(folder)}   ({sum(watch.seconds.values()):.0f} s in all)")
    return 0


def train(folder: Path, steps: int | None) -> None:
    """A training, or the rest of one that was interrupted; one that ended with the same configuration is used again."""
    config = read_config(CONFIG)
    config = replace(config, steps=steps or config.steps)
    target = folder / "rl2"
    if (target / "checkpoint.pt").exists() and load_run(target).config != config:
        shutil.rmtree(target)
    if not train_with_bar(Trainer(config, target, str(CONFIG))):
        raise KeyboardInterrupt


def export(folder: Path) -> Bundle:
    """The policy as a file, which export leaves only if it verifies."""
    target = folder / "policy.onnx"
    if export_main([str(folder / "rl2"), "--out", str(target)]) != 0:
        raise ConfigError(str(target), "export", "failed", "a file that verifies")
    return read_bundle(target)


def on_the_robot(bundle: Bundle, folder: Path, seed: int) -> dict[str, Any]:
    """Baseline, oracle, then adaptation, in real time on one twin; what a busy machine stopped is repeated."""
    spec, task = bundle.spec, task_of(bundle)
    hidden = draw_dynamics(spec, seed)
    rollouts: dict[str, list[Scored]] = {}
    stops: dict[str, list[str]] = {}
    with twin_process(spec.name, seed) as twin:
        for name, path in ZOO.items():
            rollouts[name], stops[name] = one_rollout(path, spec.name, twin, folder / f"{name}.mcap", seed)
            print(f"{name}: {describe(rollouts[name][0])}", flush=True)
        result, stops["rl2"] = adapt_here(bundle, twin, folder / "rl2.adapt", folder / "policy.onnx")
    rollouts["rl2"] = [*result.of(TEACHING), *result.of(ADAPTED)[-1:]]
    if result.accepted:
        deploy(bundle, result, folder / "policy.adapted.onnx")
    late = np.concatenate([one.rollout.late for one in result.rollouts]) * 1e6
    latency = np.concatenate([one.rollout.latency for one in result.rollouts]) * 1e6
    return {
        "robot": spec.name,
        "task": bundle.task,
        "seed": seed,
        "hidden": DynamicsRange.of(spec).describe(hidden),
        "rollouts": {name: [plain(one) for one in scores] for name, scores in rollouts.items()},
        "stops": [f"{name}: {reason}" for name, reasons in stops.items() for reason in reasons],
        "gate": {"accepted": result.accepted, "reason": result.reason},
        "latency_us": percentiles(latency),
        "lateness_us": percentiles(late) | {"max": round(float(late.max()), 1)},
        "missed": sum(one.rollout.missed for one in result.rollouts),
        "ticks": len(late),
        "duration": task.steps * spec.period.policy,
    }


@contextmanager
def recorded(bundle: Bundle, file: Path, twin: TwinProcess, log: Path) -> Iterator[PersistentLoop]:
    """An open session on the twin with a fresh log."""
    log.unlink(missing_ok=True)
    recorder = Recorder(log, bundle.spec, MonotonicClock(), task=bundle.task, bundle=file_digest(file))
    with recorder:
        loop = twin.loop(bundle, recorder)
        with loop.session():
            yield loop


def adapt_here(bundle: Bundle, twin: TwinProcess, folder: Path, file: Path) -> tuple[Adaptation, list[str]]:
    """Rollouts that teach and some that judge, in a new session; and why the robot was stopped in between, if so."""
    shutil.rmtree(folder, ignore_errors=True)
    plan = Plan(rollouts=ROLLOUTS, judge=JUDGE)
    with Session(folder, bundle, file_digest(file), plan, MonotonicClock()) as session:
        session.report = lambda one, _: print(f"rl2, {one.rollout.role}: {describe(one)}", flush=True)
        session.loop = loop = twin.loop(bundle, session.recorder)
        with loop.session(), InGraph() as method:
            return adapt_on_robot(session, method, bundle.fast), loop.stops


def one_rollout(file: Path, robot: str, twin: TwinProcess, log: Path, seed: int) -> tuple[list[Scored], list[str]]:
    """One rollout of a file from the zoo, and stops; the oracle is told the hidden parameters."""
    bundle = read_bundle(file, robot)
    task = task_of(bundle)
    with recorded(bundle, file, twin, log) as loop:
        loop.settle()
        one = scored(task, loop.rollout(start_fast(loop.policy, seed, "train"), task.steps))
        return [one], loop.stops


def many_robots(bundle: Bundle, first_seed: int) -> dict[str, Any]:
    """Return and success against rollouts on other hidden robots."""
    files = {"rl2": bundle, **{name: read_bundle(path) for name, path in ZOO.items()}}
    learners = {}
    for name, file in files.items():
        scores = [lockstep(file, first_seed + i, ROLLOUTS + 1, file.spec.name) for i in range(LOCKSTEP_ROBOTS)]
        summary = summarise(scores, ROLLOUTS + 1)
        learners[name] = {measure: summary[measure] for measure in ("return", "success")}
    return {"robots": LOCKSTEP_ROBOTS, "rollouts": list(range(ROLLOUTS + 1)), "learners": learners}


def plain(one: Scored) -> dict[str, Any]:
    return {"return": round(one.value, 2), "success": one.success, "outcome": one.rollout.outcome}


def describe(one: Scored) -> str:
    verdict = "success" if one.success else "failed" if one.rollout.outcome == "done" else one.rollout.reason
    return f"return {one.value:.1f}, {verdict}"


def percentiles(values: np.ndarray) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def print_table(document: dict[str, Any]) -> None:
    """The result in a few lines."""
    robots, many = document["rollouts"], document["lockstep"]["learners"]
    lines = [("", "return", "success", f"success on {document['lockstep']['robots']} twins")]
    rows: tuple[tuple[str, str, int], ...] = (
        ("RL² before adaptation", "rl2", 0),
        ("RL² after adaptation", "rl2", -1),
        ("no memory (baseline)", "domain_randomised", 0),
        ("oracle", "oracle", 0),
    )
    for title, name, k in rows:
        one = robots[name][k]
        share = f"{many[name]['success'][k][0]:.0%}"
        lines.append((title, f"{one['return']:.1f}", "yes" if one["success"] else "no", share))
    print()
    for line in lines:
        print(f"{line[0]:<24}{line[1]:>8}{line[2]:>9}{line[3]:>24}")
    gate = document["gate"]
    print(f"gate: {'deployed' if gate['accepted'] else 'rolled back'} ({gate['reason']})")
    latency, late = document["latency_us"], document["lateness_us"]
    print(
        f"inference {latency['p50']:.0f} µs (p99 {latency['p99']:.0f}); ticks late by {late['p50']:.0f} µs"
        f" (p99 {late['p99']:.0f}, max {late['max']:.0f}), {document['missed']} of {document['ticks']} missed"
    )
    if document["stops"]:
        print("stopped by the loop's watchdogs and begun again:", *document["stops"], sep="\n  ")
