"""Reproductions: estimates and verdicts, the table, trainings that are made once, and small ones that learn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.reproduce import EXPERIMENTS
from benchmarks.reproduce.__main__ import main, read_remarks
from benchmarks.reproduce.dqn import WAYS, episodes_to
from benchmarks.reproduce.locomotion import of_learner
from benchmarks.reproduce.memory import MEMORIES
from benchmarks.reproduce.pearl import EXPLORED
from benchmarks.reproduce.result import Aim, Estimate, Row, estimate, interval
from benchmarks.reproduce.session import CONFIGS, Session, Variant, made_once, train
from benchmarks.reproduce.sinusoid import NETWORK, Sinusoids, inner_step, squared_error
from benchmarks.reproduce.table import add_rows, duration, markdown, number, read_results
from benchmarks.reproduce.variants import (
    BANDITS,
    BUDGET,
    CURRICULA,
    DQN,
    DQN_MAPPING,
    LOCOMOTION,
    MODEL_BASED,
    NAVIGATION,
    POINT_ROBOT,
    SHARED_REPLAY,
    TABULAR,
)
from hardware_io.config import ConfigError

TINY = Variant(
    "tiny",
    "bandits_rl2.yaml",
    {"lanes": 8, "steps": 160, "learner.settings.memory": 4, "learner.settings.ppo.minibatches": 2},
)


@pytest.mark.parametrize(
    ("aim", "means"),
    [
        (Aim.within(100, 0.01), {100.5: "better", 100: "met", 99: "met", 98.9: "missed"}),
        (Aim(-11.7, 2.2), {-11: "better", -13.9: "met", -14: "missed"}),
        (Aim(0.5, 0.1, "lower"), {0.4: "better", 0.6: "met", 0.7: "missed"}),
        (Aim.within(50, 0.01, "same"), {50.5: "met", 49.5: "met", 51: "missed", 49: "missed"}),
    ],
)
def test_verdicts(aim: Aim, means: dict[float, str]) -> None:
    assert {mean: aim.verdict(mean) for mean in means} == means


def test_one_training_is_as_sure_as_its_tasks_and_several_as_their_means() -> None:
    one = estimate([np.array([1.0, 3.0] * 200)])
    assert one.mean == 2 and one.half == pytest.approx(1.96 / 20, rel=0.01) and one.seeds == 1
    several = estimate([np.full(50, 1.0), np.full(50, 2.0), np.full(50, 3.0)])
    assert several.mean == 2 and several.half == pytest.approx(4.30265 / math.sqrt(3)) and several.seeds == 3
    assert math.isinf(estimate([[4.0]]).half)


def test_a_share_is_never_surer_than_its_count() -> None:
    assert interval(45, 50) == pytest.approx((0.786, 0.957), abs=1e-3)  # Wilson 1927
    low, high = interval(0, 50)
    assert low == pytest.approx(0.0, abs=1e-12) and 0 < high < 0.1


def test_rows_are_merged_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "reproduce.json"
    paper = Row("n=10, k=5: RL²", Estimate(6.69, 0.05, 1), Aim.within(6.7, 0.01), "a paper", 3_000_000, 754, "drawn")
    add_rows(file, "bandits", [paper, Row("old", Estimate(1, math.inf, 1))], complete=False)
    add_rows(file, "tabular", [Row("other", Estimate(-2, 0.5, 1))], complete=True)
    add_rows(file, "bandits", [paper], complete=False)
    assert {row["what"] for row in read_results(file)["bandits"]} == {"old", "n=10, k=5: RL²"}
    results = add_rows(file, "bandits", [paper], complete=True)
    assert results == read_results(file) and [row["what"] for row in results["bandits"]] == ["n=10, k=5: RL²"]
    assert results["tabular"][0]["verdict"] == "" and results["bandits"][0]["verdict"] == "met"
    text = markdown(results, {"bandits": {"n=10, k=5: RL²": "by hand", "": "Below."}})
    assert (
        "| n=10, k=5: RL² | 6.69 ± 0.05 | 1 | 6.70 (a paper) | −0.07 | **met** | 3,000,000 | 13 min | drawn; by hand |"
        in text.splitlines()
    )
    assert "| other | −2.00 ± 0.50 |  |  |  |  |  |  |  |" in text.splitlines()
    assert text.index("## bandits") < text.index("Below.") < text.index("## tabular")


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "reproduce.json").write_text("[]")
    with pytest.raises(ConfigError, match="experiments: got"):
        read_results(tmp_path / "reproduce.json")


def test_numbers_and_times_read_well() -> None:
    assert [number(v) for v in (405.83, -12.34, 0.0456)] == ["405.8", "−12.34", "0.046"]
    assert number(0.5, like=405.8) == "0.5"
    assert [duration(s) for s in (34.2, 754, 3900, 3599)] == ["34 s", "13 min", "1 h 05 min", "1 h 00 min"]


def test_a_finished_training_is_not_repeated_and_another_budget_goes_on(tmp_path: Path) -> None:
    session = Session(tmp_path, quick=True)
    first = train(session, TINY, seed=0)
    assert first.steps == 160 and first.run.folder == tmp_path / "tiny-s0" and first.seconds > 0
    lines = (first.run.folder / "metrics.jsonl").read_text()
    assert train(session, TINY, seed=0).seconds == first.seconds
    assert (first.run.folder / "metrics.jsonl").read_text() == lines
    longer = train(Session(tmp_path, quick=True, steps=240), TINY, seed=0)
    assert longer.steps == 240 and longer.run.config.steps == 240
    assert (first.run.folder / "metrics.jsonl").read_text().startswith(lines)
    with pytest.raises(ConfigError, match="lanes: got 4"):
        train(session, TINY.on({"lanes": 4}), seed=0)


def test_a_short_training_is_made_once_and_its_settings_are_held_to(tmp_path: Path) -> None:
    made, _ = made_once(tmp_path / "short", TINY, lambda: {"weights": torch.ones(2)})
    again, _ = made_once(tmp_path / "short", TINY, lambda: {"weights": torch.zeros(2)})
    assert torch.equal(made["weights"], again["weights"])
    with pytest.raises(ConfigError, match="settings: got"):
        made_once(tmp_path / "short", TINY.on({"lanes": 4}), lambda: {"weights": torch.zeros(2)})


def test_every_budget_fits_its_file(tmp_path: Path) -> None:
    from adapt.run_folder import read_config

    of_dqn = [*DQN.values(), *(variant for variant, _ in DQN_MAPPING.values())]
    for variant in [
        *BANDITS.values(),
        *TABULAR.values(),
        *NAVIGATION.values(),
        *LOCOMOTION.values(),
        *MODEL_BASED.values(),
        POINT_ROBOT,
        of_learner(LOCOMOTION["half-cheetah velocity"], "pearl"),
        *CURRICULA.values(),
        *SHARED_REPLAY.values(),
        *of_dqn,
    ]:
        settings = variant.settings(Session(tmp_path), seed=1)
        config = read_config(CONFIGS / variant.config, [f"{key}={value}" for key, value in settings.items()])
        assert config.seed == 1


def test_an_unknown_experiment_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["juggling"])
    assert "NAME: got 'juggling'; allowed: bandits" in capsys.readouterr().err


def test_the_list_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in EXPERIMENTS)


def test_remarks_belong_to_experiments() -> None:
    assert set(read_remarks()) <= set(EXPERIMENTS)


def quick(name: str, folder: Path) -> dict[str, float]:
    """Means by row of an experiment with tiny budgets."""
    assert main([name, "--quick", "--out", str(folder)]) == 0
    rows = json.loads((folder / "reproduce.json").read_text())["experiments"][name]
    return {row["what"]: row["measured"]["mean"] for row in rows}


def test_a_memory_learns_to_play_bandits(tmp_path: Path) -> None:
    means = quick("bandits", tmp_path)
    assert means["n=10, k=2: RL²"] > means["n=10, k=2: random"] + 0.5
    assert means["n=10, k=2: gittins"] > means["n=10, k=2: random"] + 0.5


def test_random_mdps_are_played(tmp_path: Path) -> None:
    means = quick("tabular", tmp_path)
    assert means["n=2: optimal"] > means["n=2: psrl"] and means["n=2: linear transformer"] > 15


def test_a_gradient_step_brings_maml_nearer_to_its_goal(tmp_path: Path) -> None:
    means = quick("navigation", tmp_path)
    assert means["maml, after 1 step"] > means["maml, after 0 steps"] + 2
    assert -2.3 < means["straight to the goal"] < 0


def test_tasks_begin_with_mapped_networks_and_without(tmp_path: Path) -> None:
    means = quick("dqn", tmp_path)
    assert {f"cartpoles: {name}, episodes to 90.00" for name in WAYS} < set(means)
    assert means["cartpoles: mapped, episodes to 90.00"] == 3  # rollouts of 20 steps never pay 90
    assert 5 < means["cartpoles: DQN whole, return over the training"] <= 20


def test_episodes_to_a_threshold_are_those_before_it_is_first_reached() -> None:
    scores = np.array([[9.0, 1, 2], [1, 5, 2], [1, 2, 3]])
    assert episodes_to(5, scores).tolist() == [0, 1, 3]


def test_pearl_looks_for_a_goal_between_nothing_and_what_can_be_had(tmp_path: Path) -> None:
    means = quick("pearl", tmp_path)
    best = means.pop("point robot: straight to the goal")
    assert 10 < best < 14 and set(means) == {f"point robot: after {n} rollout{'s' * (n != 1)}" for n in EXPLORED}
    assert all(0 <= value < best for value in means.values())


def test_parts_of_training_are_taken_away(tmp_path: Path) -> None:
    means = quick("ablations", tmp_path)
    carts = {f"carts, {kind}: return" for kind in CURRICULA}
    replays = {f"replay of {name}: after 5 rollouts" for name in SHARED_REPLAY}
    assert carts | {f"{label} of the weakest quarter" for label in carts} | replays < set(means)
    assert len({means[label] for label in carts}) == 3  # each was trained on tasks of its own


def test_few_points_show_a_sinusoid(tmp_path: Path) -> None:
    means = quick("sinusoid", tmp_path)
    for method in ("MAML", "Reptile"):
        assert means[f"K=10: {method}, after 10 steps"] < 0.85 * means[f"K=10: {method}, after 0 steps"]
    assert means["K=10: MAML, after 1 step"] < means["K=10: pre-trained, after 1 step"]


def test_an_inner_step_is_gradient_descent_on_each_task() -> None:
    sinusoids = Sinusoids(3, torch.Generator().manual_seed(0))
    inputs, targets = sinusoids.points(7)
    assert targets.abs().amax() <= 5 and inputs.abs().amax() <= 5 and inputs.shape == (3, 7, 1)
    weights = torch.randn(3, NETWORK.size, requires_grad=True)
    error = squared_error(NETWORK(inputs, weights), targets)
    (gradient,) = torch.autograd.grad(error.sum(), weights)
    torch.testing.assert_close(inner_step(weights, (inputs, targets), 0.1), weights - 0.1 * gradient)


def test_memories_are_of_equal_size_and_tested_beyond_training(tmp_path: Path) -> None:
    ntm, gru = (sum(p.numel() for p in MEMORIES[name](20, 7).parameters()) for name in ("NTM", "GRU"))
    assert gru == pytest.approx(ntm, rel=0.1)
    means = quick("memory", tmp_path)
    assert {f"copy of {length}: {name}, wrong bits" for length in (2, 3, 4) for name in MEMORIES} == set(means)
    assert all(0 < means[f"copy of 4: {name}, wrong bits"] < 20 for name in MEMORIES)  # of 24, half by chance


def test_planners_and_what_is_distilled_from_them_are_measured_apart(tmp_path: Path) -> None:
    means = quick("model_based", tmp_path)
    expected = {"cart-pole: PETS", "half-cheetah, disabled joint: GrBAL", "half-cheetah, disabled joint: PETS"}
    assert set(means) == {f"{name}, {who}" for name in expected for who in ("planner", "policy")}
    assert all(means[f"{name}, planner"] != means[f"{name}, policy"] for name in expected)


def test_learners_train_as_they_adapt() -> None:
    cheetah, pendubot = LOCOMOTION["half-cheetah direction"], LOCOMOTION["pendubot swing-up"]
    assert of_learner(cheetah, "rl2").overrides == {**BUDGET, "learner.name": "rl2"}
    unfed = {"learner.name": "oracle", "family.settings.feedback": False}
    assert of_learner(cheetah, "oracle").overrides == {**BUDGET, **unfed}
    maml = of_learner(pendubot, "maml")
    assert maml.name == "pendubot-swing-up-maml" and "family.settings.feedback" not in maml.overrides
    assert maml.overrides["copies"] > 1 and maml.overrides["support"] == 1
    assert of_learner(pendubot, "latent_search").overrides == {**pendubot.overrides, "learner.name": "latent_search"}


@pytest.mark.slow
def test_learners_are_compared_with_one_policy_for_all_and_with_an_oracle(tmp_path: Path) -> None:
    assert main(["locomotion", "--quick", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "reproduce.json").read_text())["experiments"]["locomotion"]
    assert [row["what"].split(": ")[1] for row in rows] == ["domain_randomised", "oracle", "rl2"]
    assert {row["steps"] for row in rows} == {480} and "gap closed" in rows[-1]["note"]


def test_the_page_holds_what_was_measured_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr("benchmarks.reproduce.__main__.PAGE", page)
    add_rows(tmp_path / "reproduce.json", "tabular", [Row("n=10: RL²", Estimate(150, 1, 1))], complete=True)
    assert main(["--page", "--out", str(tmp_path)]) == 0
    assert page.read_text().startswith("# Reproductions") and "| n=10: RL² | 150.0 ± 1.0 |" in page.read_text()


def test_an_interrupted_training_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.reproduce.session.Trainer.run", lambda trainer: False)
    assert main(["tabular", "--quick", "--out", str(tmp_path)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
