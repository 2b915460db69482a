"""Evaluation: intervals and shares by hand, and two small trainings from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cli
from adapt.evaluate import ROLLOUTS, Score, evaluate, gap_closed, interval, plot, score, table
from adapt.run_folder import TrainConfig, load_run
from adapt.train import Trainer
from hardware_io.config import build
from sim.vector_env import VectorEnv
from tests.adapt.test_train import TINY


def test_an_interval_holds_its_mean_and_shrinks_with_more_robots() -> None:
    draw, rng = np.random.default_rng(1), np.random.default_rng(0)
    widths = []
    for count in (20, 80, 320, 1280):
        values = draw.normal(5.0, 2.0, count)
        mean, low, high = interval(values, rng)
        assert mean == pytest.approx(values.mean()) and low < mean < high
        assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(count), rel=0.15)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    held = [interval(draw.normal(5.0, 2.0, 50), rng)[1:] for _ in range(100)]
    assert 86 <= sum(low <= 5.0 <= high for low, high in held) <= 100


def test_an_interval_of_what_never_varies_has_no_width() -> None:
    assert interval(np.full(10, True), np.random.default_rng(0)) == (1.0, 1.0, 1.0)


def succeeding(*shares: float, robots: int = 1000) -> Score:
    """A learner that succeeds on the first `share` of the robots, rollout by rollout."""
    success = np.stack([np.arange(robots) < share * robots for share in shares], axis=1)
    return Score(success.astype(np.float64), success)


def test_the_gap_that_is_closed() -> None:
    rng = np.random.default_rng(0)
    learner, baseline, oracle = succeeding(0.4, 0.8), succeeding(0.4, 0.4), succeeding(0.9, 0.9)
    assert gap_closed(learner, baseline, oracle, 0, rng)[0] == 0.0
    share, low, high = gap_closed(learner, baseline, oracle, 1, rng)
    assert share == pytest.approx((0.8 - 0.4) / (0.9 - 0.4)) and low < share < high and high - low < 0.15
    assert gap_closed(oracle, baseline, oracle, 0, rng) == (1.0, 1.0, 1.0)
    assert gap_closed(succeeding(0.2), baseline, oracle, 0, rng)[0] == pytest.approx(-0.4)  # worse than the baseline


def test_the_table() -> None:
    learners = {"rl2": {"success": [(0.5, 0.4, 0.625), (1.0, 1.0, 1.0)], "return": [(-1.0, -2.0, 0.0), (9.9, 9, 10)]}}
    split = {"learners": learners, "gap_closed": {"rl2": [(0.1, -0.05, 0.2), (0.97, 0.9, 1.0)]}}
    result = {
        "robot": "toaster",
        "task": {"name": "pop"},
        "robots": 8,
        "rollouts": (0, 1),
        "rollouts_an_adaptation": {"rl2": 1},
        "splits": {"train": split, "outside": split},
    }
    lines = table(result).splitlines()
    assert lines[0] == "toaster, pop: 8 robots never seen, mean [95 % interval]"
    assert lines.count("| learner | after 0 | after 1 |") == 4 and lines.count("|---|---|---|") == 4
    assert lines.count("| rl2 | 50.0 [40.0, 62.5] | 100.0 [100.0, 100.0] |") == 2
    assert lines.count("| rl2 | -1.0 [-2.0, 0.0] | 9.9 [9.0, 10.0] |") == 2
    assert lines.count("| gap closed by rl2 | 10% [-5%, 20%] | 97% [90%, 100%] |") == 2
    assert "success %, outside the training range" in lines and "return, inside the training range" in lines


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three learners after one iteration each."""
    folder, made = tmp_path_factory.mktemp("runs"), []
    small = {"hidden": [8], "critic_hidden": [8], "ppo": {"epochs": 1}}
    for name, settings in (("rl2", {"memory": 8, **small}), ("domain_randomised", small), ("oracle", small)):
        changes = {"learner": {"name": name, "settings": settings}, "steps": 80, "evaluate_every": 0}
        config = build(TrainConfig, {**TINY, **changes}, "test")
        assert Trainer(config, folder / name).run()
        made.append(folder / name)
    return made


def test_trainings_are_evaluated_side_by_side(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", *map(str, runs), "--robots", "4", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    result = json.loads((runs[0] / "evaluation.json").read_text())
    assert result["robot"] == "simple_pendulum" and result["robots"] == 4 and result["task"]["duration"] == 0.4
    for split in ("train", "outside"):
        summary = result["splits"][split]
        assert list(summary["learners"]) == ["rl2", "domain_randomised", "oracle"] and list(summary["gap_closed"]) == [
            "rl2"
        ]
        for values in summary["learners"].values():
            assert len(values["return"]) == len(values["success"]) == len(ROLLOUTS)
            assert all(low <= mean <= high for mean, low, high in values["return"])
    assert (runs[0] / "evaluation.md").read_text() == said == table(result) + "\n"
    assert (runs[0] / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_all_learners_meet_the_same_robots_and_starts(runs: list[Path]) -> None:
    run = load_run(runs[1])
    with VectorEnv(run.family, 4, 1) as envs:
        first, second = score(run, envs, "outside"), score(run, envs, "outside")
        other = score(run, envs, "outside", seed=7)
    assert first.returns.shape == first.success.shape == (4, max(ROLLOUTS) + 1)
    assert (first.returns == second.returns).all() and (first.returns != other.returns).any()


def test_trainings_that_cannot_be_compared_are_refused(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"task": {"name": "swing_up", "settings": {"duration": 0.2}}, "steps": 40, "evaluate_every": 0}
    Trainer(build(TrainConfig, {**TINY, **changes}, "test"), tmp_path).run()
    assert cli.main(["evaluate", str(runs[0]), str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path}: robot, task: got") and f"as in {runs[0]}" in message
    assert cli.main(["evaluate", str(tmp_path / "nothing")]) == 2
    assert "nothing/checkpoint.pt" in capsys.readouterr().err


def test_tasks_without_success_and_without_an_outside_are_scored_by_their_return(tmp_path: Path) -> None:
    changes = {"robot": None, "task": None, "family": {"name": "bandits", "settings": {"pulls": 6}}, "workers": 0}
    Trainer(build(TrainConfig, {**TINY, **changes, "steps": 48, "evaluate_every": 0}, "test"), tmp_path).run()
    result = evaluate([load_run(tmp_path)], robots=4, workers=0, explore=True)
    assert list(result["splits"]) == ["train"] and result["task"]["settings"] == {"pulls": 6}
    (values,) = result["splits"]["train"]["learners"].values()
    assert list(values) == ["return"] and all(0 <= mean <= 6 for mean, _, _ in values["return"])
    assert "success" not in table(result)
    plot(result, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
