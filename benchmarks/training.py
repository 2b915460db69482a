"""How busy the simulator is while a learner trains: RL² on half-cheetahs, whole iterations with their updates."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from adapt.run_folder import read_config
from adapt.train import Progress, Trainer
from benchmarks.measure import Figure, summary

CONFIG = Path(__file__).parent.parent / "configs" / "half_cheetah_direction.yaml"
SECTION = "meta-training on half-cheetahs"
ITERATIONS = 4  # the first of them warms up


def measure(quick: bool, workers: int) -> list[Figure]:
    """Share of an iteration in which workers simulate, over iterations; environment steps/s beside it."""
    iterations = 2 if quick else ITERATIONS
    changes = [f"workers={workers}", "evaluate_every=0", "checkpoint_every=1000"]
    if quick:
        changes += ["family.settings.horizon=10", f"lanes={4 * workers}"]
    config = read_config(CONFIG, [*changes, "steps=1000000000"])
    shares, speeds = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, folder)
        waited = [0.0]
        times = [time.perf_counter()]

        def note(progress: Progress, _: dict[str, float]) -> None:
            waited.append(sum(trainer.envs.waited))
            times.append(time.perf_counter())
            if progress.iteration > 1:
                elapsed = times[-1] - times[-2]
                shares.append(1 - (waited[-1] - waited[-2]) / (workers * elapsed))
                speeds.append(trainer.steps_per_iteration / elapsed)
            if progress.iteration == iterations:
                trainer.interrupt()

        trainer.run(note)
    aim = 0.9
    return [
        summary(SECTION, "share of wall-clock in which workers simulate", shares, "ratio", aim),
        summary(SECTION, f"{config.lanes} lanes, {config.rollouts} rollouts a trial", speeds, "steps/s"),
    ]
