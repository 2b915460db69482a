"""Every meta-learner in the table exports to one file that does what it does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import cli
from adapt.learner import META_LEARNERS, MetaLearner, class_of, make_learner
from adapt.rl2 import RL2, RL2Settings
from adapt.run_folder import Named, TrainConfig
from adapt.slow import unpack
from adapt.train import Trainer
from export.exporter import FORBIDDEN, ExportError, make_bundle, make_graph, operators, write_verified
from export.parity import BATCH, LONG, ROLLOUTS, ROUNDINGS, TOLERANCE, parity
from export.verify import VerifyReport, hidden_nan, verify
from hardware_io.bundle import Bundle, BundleError, read_bundle, write_bundle
from hardware_io.interface import Interface
from hardware_io.runtime import Policy, open_session
from hardware_io.spec import RobotSpec
from policies.regulator import Regulator, RegulatorSettings
from sim.family import RobotFamily
from sim.robots import load_robot
from sim.tasks import make_task

WHOLE = ("rl2", "domain_randomised", "transformer")  # verified as `acclimate export` does; the others for less long
SHORT = 200
TASK = {"name": "swing_up", "duration": 2.0}
PROVENANCE = {"seed": 7, "config": {"steps": 0}, "metrics": {"return": 1.5}}


@dataclass(frozen=True)
class Exported:
    learner: MetaLearner
    before: dict[str, Tensor]  # its state before the export
    bundle: Bundle
    path: Path
    report: VerifyReport


def interface(spec: RobotSpec) -> Interface:
    return RobotFamily(spec, "swing_up").interface


def fresh(name: str, spec: RobotSpec, seed: int = 0) -> MetaLearner:
    """A learner with the statistics and the firm commands of a trained one."""
    torch.manual_seed(seed)
    learner = make_learner(name, interface(spec), "test", {})
    for key, value in learner.state_dict().items():
        if key.endswith("normaliser.mean"):
            value.uniform_(-0.5, 0.5)
        elif key.endswith("normaliser.variance"):
            value.uniform_(0.3, 3.0)
        elif value.is_floating_point() and key.startswith("head."):
            value += 0.1 * torch.randn_like(value)
    return learner


@pytest.fixture(scope="module")
def export(pendulum: RobotSpec, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports a learner of the table, once."""

    @cache
    def of(name: str) -> Exported:
        whole = name in WHOLE
        learner = fresh(name, pendulum).train()
        before = {key: value.clone() for key, value in learner.state_dict().items()}
        path = tmp_path_factory.mktemp(name) / "policy.onnx"
        bundle = make_bundle(learner, pendulum, TASK, name, PROVENANCE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("export.parity.LONG", LONG if whole else SHORT)
            return Exported(learner, before, bundle, path, write_verified(bundle, learner, pendulum, path))

    return of


@pytest.fixture(scope="module", params=[name for name in META_LEARNERS if class_of(name).continuous])
def exported(request: pytest.FixtureRequest, export: Callable[[str], Exported]) -> Exported:
    return export(request.param)


@pytest.fixture
def small(export: Callable[[str], Exported]) -> Exported:
    """The smallest learner, for what does not depend on which."""
    return export("domain_randomised")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend little on the long run where it is not the point."""
    monkeypatch.setattr("export.parity.LONG", 20)


def test_both_do_the_same_over_whole_trials(exported: Exported, pendulum: RobotSpec) -> None:
    found = exported.report.parity
    assert exported.report.ok and found is not None
    assert found.trial.steps == ROLLOUTS * make_task(spec=pendulum, **TASK).steps
    assert found.long.steps == (LONG if exported.bundle.learner in WHOLE else SHORT) and LONG == 2000
    assert found.batches == (1, 3) == (1, BATCH)
    learner, name = exported.learner, exported.bundle.learner
    changes = (learner.in_graph or learner.searches) and name != "reinforce"  # at least the last action
    greedy = exported.bundle.learner.startswith("dqn")
    for difference in (found.trial, found.long):
        if greedy:
            assert difference.command == 0  # the same level at every step, or one that is far away
        else:
            assert 0 < difference.command <= TOLERANCE  # two libraries never agree to the last bit: 0: not compared
        # What the graph does not change is the same to the last bit.
        assert (difference.fast <= TOLERANCE) if changes else (difference.fast == 0)


def test_exporting_leaves_the_learner_as_it_was(exported: Exported) -> None:
    assert exported.learner.training
    for name, value in exported.learner.state_dict().items():
        torch.testing.assert_close(value, exported.before[name], rtol=0, atol=0)


def test_rounding_excuses_what_it_explains_and_no_other_policy(
    pendulum: RobotSpec, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.parity.TOLERANCE", 1e-9)  # less than single precision keeps
    learner = fresh("domain_randomised", pendulum)
    bundle = make_bundle(learner, pendulum, TASK, "domain_randomised", PROVENANCE)
    policy, session = Policy(bundle), open_session(bundle.graph)
    found = parity(policy, session, learner, pendulum).trial
    assert found.ok and 1e-9 < found.command <= found.allowed == ROUNDINGS * found.rounding < TOLERANCE
    with torch.no_grad():
        learner.state_dict()["head.network.2.bias"].add_(0.01)
    other = parity(policy, session, learner, pendulum).trial
    assert not other.ok and other.command > other.allowed


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_gives_what_the_learner_gives(exported: Exported, pendulum: RobotSpec, batch: int) -> None:
    rng = np.random.default_rng(batch)
    shapes = (pendulum.observation_size, exported.bundle.fast.size, pendulum.action_size)
    values = [rng.standard_normal((batch, size)).astype(np.float32) for size in shapes]
    session = open_session(exported.bundle.graph)
    command, fast = session.run(None, dict(zip(("observation", "fast", "noise"), values, strict=True)))
    with torch.no_grad():
        wanted, wanted_fast, _ = exported.learner.act(*map(torch.from_numpy, values))
    np.testing.assert_allclose(command, wanted, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(fast, wanted_fast, atol=TOLERANCE, rtol=0)


def test_it_is_one_small_file_of_plain_arithmetic(exported: Exported) -> None:
    assert [path.name for path in exported.path.parent.iterdir()] == ["policy.onnx"]
    assert exported.path.stat().st_size == exported.report.size < 1_000_000
    found = operators(exported.bundle.graph)
    assert found["Tanh"] and (found["Gemm"] or found["MatMul"])
    assert not FORBIDDEN & set(found)
    model = onnx.load_from_string(exported.bundle.graph)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data or "critic" in tensor.name for tensor in model.graph.initializer)
    assert str(Path(__file__).parent.parent.parent).encode() not in exported.path.read_bytes()


def test_metadata_comes_back(exported: Exported, pendulum: RobotSpec) -> None:
    back = read_bundle(exported.path, robot=pendulum.name)
    assert (back.spec, back.task, back.learner) == (pendulum, TASK, exported.bundle.learner)
    assert back.graph == exported.bundle.graph
    np.testing.assert_array_equal(back.fast, exported.learner.fast0(1)[0])
    np.testing.assert_array_equal(back.kept, exported.learner.kept)
    assert PROVENANCE.items() <= back.provenance.items()
    assert back.provenance["exporter"]["torch"] == torch.__version__


def test_the_same_learner_gives_the_same_bytes(small: Exported, pendulum: RobotSpec) -> None:
    assert make_bundle(small.learner, pendulum, TASK, "domain_randomised", PROVENANCE).to_bytes() == (
        small.path.read_bytes()
    )


def test_what_the_exporter_says_of_itself_is_kept(pendulum: RobotSpec, caplog: pytest.LogCaptureFixture) -> None:
    make_graph(fresh("sac", pendulum), pendulum)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_what_the_fast_state_tells_people_has_a_name(export: Callable[[str], Exported], small: Exported) -> None:
    bundle, learner = export("pets").bundle, export("pets").learner
    assert bundle.provenance["entries"] == {"doubt": bundle.fast.size - 1} and "entries" not in small.bundle.provenance
    inputs = torch.full((1, 3), 0.3), learner.fast0(1), torch.zeros(1, 1)
    values = {name: value.numpy() for name, value in zip(("observation", "fast", "noise"), inputs, strict=True)}
    _, fast = open_session(bundle.graph).run(None, values)
    with torch.no_grad():
        command, _, _ = learner.act(*inputs)
        told = learner.model(inputs[0], command / learner.limit, torch.zeros(1, 0))
    assert fast[0, -1] == pytest.approx(0.1 * told.spread[0, :-1].mean().sqrt().item(), rel=1e-4)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("name", "settings"), [("maml", {"regulator": {}}), ("sac", {"regulator": {}, "frames": 2})])
def test_a_regulator_is_part_of_the_file(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    spec, path = load_robot("double_pendulum/pendubot_lab"), tmp_path / "policy.onnx"
    plain = RobotFamily(spec, "swing_up", linearised=True).interface
    torch.manual_seed(0)
    learner = make_learner(name, plain, "test", settings)
    bundle = make_bundle(learner, spec, {"name": "swing_up", "duration": 1.0}, name, PROVENANCE)
    assert write_verified(bundle, learner, spec, path).ok
    policy = Policy(read_bundle(path))
    upright = np.array([*spec.poses["upright"], 0.0, 0.0, 1.0], np.float32)
    leaning = upright + np.array([0.1, 0.0, 0.0, 0.0, 0.0], np.float32)
    quiet = np.zeros(2, np.float32)
    there, aside = (policy.step(seen, policy.start_fast(policy.fast0), quiet)[0] for seen in (upright, leaning))
    told, _ = Regulator(plain, RegulatorSettings())(torch.from_numpy(leaning[:2]), torch.zeros(2))
    assert np.abs(aside - there).max() > 0.5  # N·m, and what an untrained policy adds hardly depends on where it is
    np.testing.assert_allclose(aside - there, told.numpy() * spec.action_limit, atol=0.05)
    if bundle.slow:
        again, _, _ = unpack(read_bundle(path)).act(torch.tensor(leaning)[None], learner.fast0(1), torch.zeros(1, 2))
        np.testing.assert_allclose(again[0].detach(), aside, atol=1e-5)


def test_a_fused_recurrent_layer_is_refused(pendulum: RobotSpec) -> None:
    class Fused(RL2):
        def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
            memory = self.fused(inputs[None], memory[None].contiguous())[0][0]
            return self.head(torch.cat([inputs, memory], dim=-1)), memory

    learner = Fused(interface(pendulum), RL2Settings(memory=8))
    learner.fused = nn.GRU(learner.input_size, 8)
    with pytest.raises(ExportError, match=r"graph of rl2: holds GRU; allowed: operators without"):
        make_bundle(learner, pendulum, TASK, "rl2", {})


def test_a_learner_that_branches_on_its_inputs_is_refused_by_name(pendulum: RobotSpec) -> None:
    class Moody(RL2):
        def think(self, inputs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
            return super().think(inputs if float(inputs.sum()) > 0 else -inputs, memory)

    learner = Moody(interface(pendulum), RL2Settings(memory=8))
    with pytest.raises(ExportError, match=r"^Moody\.act cannot become a graph: .*data-dependent") as error:
        make_bundle(learner, pendulum, TASK, "rl2", {})
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("short")
def test_a_file_that_does_something_else_is_not_left(small: Exported, pendulum: RobotSpec, tmp_path: Path) -> None:
    other, path = fresh("domain_randomised", pendulum, seed=1), tmp_path / "policy.onnx"
    path.write_bytes(b"what was there")
    with pytest.raises(ExportError, match=r"policy\.onnx: not written, .* parity over a trial of 150 steps: command"):
        write_verified(small.bundle, other, pendulum, path)
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    path.mkdir()
    with pytest.raises(ExportError, match=r"policy\.onnx: cannot be written: Is a directory"):
        write_verified(small.bundle, small.learner, pendulum, path)


@pytest.mark.usefixtures("short")
def test_an_adapted_file_verifies_beside_its_run_and_no_other(
    export: Callable[[str], Exported], small: Exported, pendulum: RobotSpec, tmp_path: Path
) -> None:
    oracle = export("oracle")
    adapted = oracle.bundle.with_fast(oracle.bundle.fast + 0.3 * oracle.bundle.kept)
    write_bundle(tmp_path / "adapted.onnx", adapted)
    report = verify(tmp_path / "adapted.onnx", oracle.learner, pendulum)
    assert report.ok and report.parity is not None
    foreign = verify(small.path, oracle.learner, replace(pendulum, description="another"))
    assert foreign.parity is None
    assert foreign.problems[0] == "robot simple_pendulum: its specification in the file is not that of the run"
    assert foreign.problems[1].startswith("fast state: of 1 values, 0 of them kept")


def test_a_graph_that_hides_nan_is_found_out(small: Exported) -> None:
    assert hidden_nan(open_session(small.bundle.graph), small.bundle) == []
    model = onnx.load_from_string(small.bundle.graph)
    for node in model.graph.node:
        node.input[:] = ["clean" if name == "observation" else name for name in node.input]
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    model.graph.initializer.append(zero)
    model.graph.node.insert(0, onnx.helper.make_node("IsNaN", ["observation"], ["fault"]))
    model.graph.node.insert(1, onnx.helper.make_node("Where", ["fault", "zero", "observation"], ["clean"]))
    graph = model.SerializeToString()
    problems = hidden_nan(open_session(graph), replace(small.bundle, graph=graph))
    assert len(problems) == small.bundle.spec.observation_size
    assert "graph input observation, velocity[0] (rad/s): NaN comes out finite" in problems[1]


def test_every_altered_byte_is_detected(small: Exported, tmp_path: Path) -> None:
    data, path = small.path.read_bytes(), tmp_path / "altered.onnx"
    metadata = len(small.bundle.graph)
    places = {*range(0, metadata, metadata // 30), *range(metadata, len(data), (len(data) - metadata) // 25)}
    for place in sorted({*places, len(data) - 1}):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(BundleError, match=r"altered|truncated"):
            verify(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_called_truncated(small: Exported, tmp_path: Path, share: float) -> None:
    data, path = small.path.read_bytes(), tmp_path / "cut.onnx"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BundleError, match=r"cut\.onnx: truncated"):
        verify(path)


def test_verify_on_the_command_line(small: Exported, pump_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(small.path)]) == 0
    said = capsys.readouterr().out
    assert "matches" in said and "p99" in said and "µs" in said and "no run was given" in said
    assert cli.main(["verify", str(small.path), "--json", "--robot", "simple_pendulum"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["latency"]["calls"] == 2000 and report["parity"] is None
    assert cli.main(["verify", str(small.path), "--robot", "double_pendulum"]) == 2
    assert "made for robot 'simple_pendulum', not for 'double_pendulum'" in capsys.readouterr().err
    assert cli.main(["verify", str(pump_file)]) == 1  # it does not look at two of its channels
    assert "problem     graph input observation, position[0] (rad): NaN" in capsys.readouterr().out


@pytest.mark.usefixtures("short")
def test_export_and_verify_a_run_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    config = TrainConfig(Named("domain_randomised"), "simple_pendulum", Named("swing_up", {"duration": 1.0}), seed=3)
    Trainer(config, run).save()
    assert cli.main(["export", str(run)]) == 0
    said = capsys.readouterr()
    assert "operators" in said.out and "3 Gemm" in said.out and "parity" in said.out
    assert said.err == ""
    assert read_bundle(run / "policy.onnx").provenance["config"]["seed"] == 3
    assert cli.main(["verify", str(run / "policy.onnx"), "--run", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["long"]["command"] <= TOLERANCE
    assert cli.main(["export", str(tmp_path / "nothing")]) == 2
    assert "checkpoint.pt" in capsys.readouterr().err
