"""The comparison of all learners: what is measured of them, and what the page makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare import __main__ as program
from benchmarks.compare.page import PANELS, page, table
from benchmarks.compare.robot import Demand, demands
from benchmarks.compare.scores import AFTER, Result, add_result, curve, measure, read_results
from benchmarks.reproduce.locomotion import BASELINE, ORACLE, in_order
from benchmarks.reproduce.session import Session
from benchmarks.reproduce.variants import COMPARED, LOCOMOTION_QUICK
from hardware_io.config import ConfigError

TASK = "pendubot swing-up"


def result(learner: str, seed: int, success: float, task: str = TASK) -> Result:
    """Two robots, one of which is as good as said from the beginning and the other learns."""
    rows = [[success] * len(AFTER), list(np.linspace(0, success, len(AFTER)))]
    return Result(task, learner, seed, rows, rows, 400_000, 90.0, 1)


def test_the_page_holds_what_was_measured(tmp_path: Path) -> None:
    results = [result(*one) for one in (("domain_randomised", 0, 0.2), ("oracle", 0, 1.0), ("rl2", 0, 0.6))]
    asked = {"rl2": Demand(20.0, 66, 64, 40_000, False), "maml": Demand(10.0, 3000, 3000, 20_000, True)}
    text = page(results, asked, tmp_path / "images")
    (row,) = (line for line in text.splitlines() if line.startswith("| rl2 |") and "rollout" in line)
    assert row.count(" ± ") == len(AFTER) + 2 and row.startswith("| rl2 | 30 ± ")
    assert " | 60 ± 51 | 0.300 ± " in row and row.endswith(
        "| 0.600 ± 0.000 | 50% [50%, 50%] | 1 | 400,000 | 2 min | 1 rollout |"
    )
    assert "| 20 µs | 2.0 | 66 | 64 | 39 kB | the graph only |" in text and "torch beside the loop" in text
    assert (tmp_path / "images" / "compare-pendubot-swing-up.png").stat().st_size > 5000
    assert "images/compare-pendubot-swing-up.png" in text and "half-cheetah velocity" not in text


def test_no_gap_is_closed_between_what_is_alike() -> None:
    rows = [[0.0] * len(AFTER), [1.0] * len(AFTER)]
    baseline = Result(TASK, "domain_randomised", 0, rows, rows, 400_000, 90.0, 1)
    text = table(
        {"domain_randomised": [baseline], "oracle": [result("oracle", 0, 0.6)], "rl2": [result("rl2", 0, 0.5)]}
    )
    assert "%" not in text[2:][-1] and "% [" not in "".join(text)


def test_no_gap_is_closed_between_trainings_that_differ_more() -> None:
    def rows(oracle: tuple[float, ...]) -> str:
        found = {"domain_randomised": (0.3, 0.3, 0.3), "rl2": (0.5, 0.5, 0.5), "oracle": oracle}
        seeds = {name: [result(name, seed, mean) for seed, mean in enumerate(means)] for name, means in found.items()}
        return "".join(table(seeds))

    assert "% [" in rows((0.8, 0.7, 0.9)) and "% [" not in rows((0.9, 0.2, 0.8))


def test_several_seeds_are_as_sure_as_their_means() -> None:
    seeds = [result("rl2", seed, success) for seed, success in enumerate((0.4, 0.5, 0.6))]
    last = curve(seeds, "returns")[-1]
    assert last.mean == pytest.approx(0.5) and last.seeds == 3 and last.half == pytest.approx(4.30265 * 0.1 / 3**0.5)


def test_no_share_of_robots_is_surer_than_their_number() -> None:
    never = curve([result("rl2", seed, 0.0) for seed in range(3)], "success")[-1]  # 0 of 6 robots
    assert never.mean == 0 and never.half == pytest.approx(1.959964**2 / (6 + 1.959964**2))  # Wilson 1927
    apart = curve([result("rl2", seed, float(seed)) for seed in range(2)], "success")[-1]  # none and all
    assert apart.half == pytest.approx(12.7062 * 0.5)


def test_every_learner_that_drives_motors_has_a_place_in_a_plot() -> None:
    assert sorted(name for names in PANELS.values() for name in names) == sorted(set(in_order()) - {BASELINE, ORACLE})


def test_a_training_that_was_measured_again_takes_its_own_place(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "compare.json"
    for one in (result("rl2", 0, 0.1), result("rl2", 1, 0.2), result("rl2", 0, 0.3)):
        add_result(file, one)
    assert read_results(file) == [result("rl2", 1, 0.2), result("rl2", 0, 0.3)]
    file.write_text('{"results": [{"task": 1}]}')
    with pytest.raises(ConfigError, match=r"results: got .*allowed: a file that `make compare` wrote"):
        read_results(file)


def test_a_training_is_made_and_scored_after_each_number_of_adaptations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = COMPARED[TASK].on({key: LOCOMOTION_QUICK[key] for key in ("steps", "lanes", "workers")})
    monkeypatch.setitem(COMPARED, TASK, short.on({"task.settings.duration": 0.5, "task.settings.hold": 0.1}))
    session = Session(tmp_path, robots=8)
    (found,) = measure(session, (TASK,), ["rl2"])
    returns, success = np.array(found.returns), np.array(found.success)
    assert returns.shape == success.shape == (8, len(AFTER)) and np.ptp(returns) > 0
    assert found.steps >= 480 and found.rollouts == 1
    assert not list(measure(session, (TASK,), ["rl2"], [found]))  # it is known
    for other in (replace(found, seconds=0.0), replace(found, seed=1), replace(found, returns=found.returns[:4])):
        assert len(list(measure(session, (TASK,), ["rl2"], [other]))) == 1


def test_demands_follow_from_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.compare.robot.META_LEARNERS", ["rl2", "maml"])
    found = demands(calls=3, turns=1)
    assert not found["rl2"].beside and found["maml"].beside
    assert found["rl2"].kept == 64 < found["rl2"].fast < found["maml"].fast and found["maml"].tick > 0


def test_unknown_learners_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["rl3"])
    assert "LEARNER: got 'rl3'; allowed: domain_randomised, oracle" in capsys.readouterr().err
