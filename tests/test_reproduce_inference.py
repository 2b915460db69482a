"""Reproductions of VariBAD and RMA: what is measured of a belief and of robots that are told who they are."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from adapt.episodes import Episodes
from adapt.run_folder import load_run, read_config
from benchmarks.reproduce import belief
from benchmarks.reproduce.__main__ import main
from benchmarks.reproduce.belief import Beliefs
from benchmarks.reproduce.rma import told
from benchmarks.reproduce.session import CONFIGS, Session, train
from benchmarks.reproduce.variants import GRID_WORLD, RMA_ARM, RMA_QUICK
from sim.families.grid_world import GridWorld

STAY, UP, RIGHT = 0, 1, 2


def test_every_budget_fits_its_file(tmp_path: Path) -> None:
    for variant in [*GRID_WORLD.values(), *RMA_ARM.values()]:
        settings = variant.settings(Session(tmp_path), seed=1)
        config = read_config(CONFIGS / variant.config, [f"{key}={value}" for key, value in settings.items()])
        assert config.seed == 1


def test_cells_are_visited_by_moves_even_where_an_episode_ends() -> None:
    family = GridWorld.of({"size": 3, "steps": 3, "episodes": 2}, "test")
    observation = torch.zeros(1, 1, 7, 11)
    observation[0, 0, torch.arange(7), torch.tensor([0, 1, 2, 0, 3, 6, 0])] = 1.0
    asked = torch.eye(5)[[RIGHT, RIGHT, UP, UP, UP, STAY]][None, None]
    reward = torch.tensor([-0.1, -0.1, -0.1, -0.1, 1.0, 1.0])[None, None]
    unused = torch.zeros(1, 1, 6)
    lived = Episodes(
        observation, asked, asked, asked, reward, unused > -1, unused > 0, unused, unused[:, 0], torch.zeros(1, 2)
    )
    visited, others, found = belief._history(lived, family)
    assert [set(step.nonzero()[0]) for step in visited[0]] == [set(), set(), {2}, {2, 5}, {2, 5}, {2, 5, 6}]
    assert np.array_equal(visited[0] | others[0], np.isin(np.arange(9), [2, 5, 6, 7, 8])[None].repeat(6, 0))
    assert found[0].tolist() == [False] * 5 + [True]


def test_a_drawing_shows_each_cell_of_each_step_of_the_longest_search() -> None:
    expected, cells = np.full((2, 4, 9), 0.25), np.zeros((2, 4, 9), bool)
    found = np.array([[False, True, True, True], [False, False, False, True]])
    cells[1, 2, [5, 8]] = True
    shapes = list(ElementTree.fromstring(belief.drawing(Beliefs(expected, cells, ~cells, found))))
    frames = [shape.get("stroke") for shape in shapes if shape.get("stroke")]
    assert len(frames) == 3 * 9 and frames.count("#c00") == 2
    assert [shape.text for shape in shapes if shape.text] == ["step 0", "step 1", "step 2"]


def test_a_belief_is_measured_beside_players(tmp_path: Path) -> None:
    assert main(["varibad", "--quick", "--steps", "3000", "--robots", "32", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "reproduce.json").read_text())["experiments"]["varibad"]
    means = {row["what"].split(": four")[0]: row["measured"]["mean"] for row in rows}
    assert means["posterior sampling"] < means["best search"] < means["told the goal"]
    assert list(means)[:2] == ["varibad", "rl2"] and len(means) == 8
    assert all(abs(mean) < 0.5 for what, mean in means.items() if "cell" in what), (
        "nothing is learned of rewards so soon"
    )
    run = load_run(tmp_path / "grid-world-varibad-s0")
    expected = belief.beliefs(run, 8).expected
    assert expected.shape == (8, 60, 25) and expected.std() > 0


def test_the_expert_is_told_the_robots_and_the_unadapted_that_they_are_nominal(tmp_path: Path) -> None:
    session = Session(tmp_path, quick=True, steps=RMA_QUICK["lanes"])
    begun = RMA_ARM["RMA"].after
    assert begun is not None
    run = train(session, begun.on(RMA_QUICK), seed=0).run
    robots = run.family.sample(2, np.random.default_rng(0), "test")
    fast, nominal = told(run, robots), told(run, np.tile(run.family.interface.nominal, (2, 1)))
    assert not torch.allclose(fast[0], fast[1]) and torch.allclose(nominal[0], nominal[1])
    flag = run.learner.parts[0]
    assert torch.all(fast[:, flag] == 1) and torch.all(nominal[:, flag] == 1)


@pytest.mark.slow
def test_rivals_of_rma_are_measured_on_the_same_robots(tmp_path: Path) -> None:
    assert main(["rma", "--quick", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "reproduce.json").read_text())["experiments"]["rma"]
    names = ["RMA", "expert", "no adaptation", "system identification", "robust"]
    assert [row["what"].split(":")[0] for row in rows] == names
