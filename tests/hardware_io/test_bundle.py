from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from hardware_io import bundle as module
from hardware_io.bundle import Bundle, BundleError, file_digest, read_bundle, write_bundle


def test_a_file_reads_back_as_it_was_written(pump: Bundle, pump_file: Path) -> None:
    back = read_bundle(pump_file, robot="simple_pendulum")
    assert back.graph == pump.graph
    assert back.spec == pump.spec
    assert (back.task, back.learner, back.provenance) == (pump.task, pump.learner, pump.provenance)
    np.testing.assert_array_equal(back.fast, pump.fast)
    np.testing.assert_array_equal(back.kept, pump.kept)
    assert back.to_bytes() == pump_file.read_bytes()


def test_onnx_itself_reads_our_entries_and_keeps_the_others(pump: Bundle, pump_file: Path) -> None:
    model = onnx.load(pump_file)
    onnx.checker.check_model(model)
    names = [entry.key for entry in model.metadata_props]
    assert names == ["author", "acclimate", "fast", "kept", "sha256"]
    values = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(values["acclimate"])["robot"] == "simple_pendulum"
    assert values["sha256"] == file_digest(pump_file)
    assert pump_file.read_bytes().endswith(values["sha256"].encode())


def test_entries_of_ours_already_in_a_graph_are_replaced_not_doubled(pump_file: Path) -> None:
    model = onnx.load(pump_file)  # a tool that rewrites the file keeps our entries but not the digest
    rewritten = model.SerializeToString()
    graph, entries = module._split(rewritten)
    assert set(entries) == {"acclimate", "fast", "kept", "sha256"}
    assert [entry.key for entry in onnx.load_from_string(graph).metadata_props] == ["author"]


def test_an_adapted_file_is_the_same_graph_with_another_fast_state(pump_file: Path) -> None:
    before = read_bundle(pump_file)
    adapted = before.with_fast(np.array([0.0, 0.0, -0.5]), {"adapted_on": "twin 7"})
    write_bundle(pump_file, adapted)
    after = read_bundle(pump_file)
    assert after.graph == before.graph
    assert after.fast.tolist() == [0.0, 0.0, -0.5]
    assert after.provenance == {"seed": 0, "adapted_on": "twin 7"}
    assert before.provenance == {"seed": 0}


def test_weights_that_adapt_between_rollouts_travel_and_stay(pump: Bundle, pump_file: Path) -> None:
    slow = bytes(range(256))
    write_bundle(pump_file, replace(pump, slow=slow, teaching={"rollouts": 8, "adaptations": 2}))
    onnx.checker.check_model(onnx.load(pump_file))
    back = read_bundle(pump_file).with_fast(np.ones(3))
    assert back.slow == slow and back.teaching == {"rollouts": 8, "adaptations": 2}
    write_bundle(pump_file, back)
    assert read_bundle(pump_file).slow == slow and read_bundle(pump_file).graph == pump.graph


@pytest.mark.parametrize("fast, said", [(np.zeros(4), r"\(4,\)"), (np.array([0, np.nan, 0]), r"fast\[1\]: got nan")])
def test_a_fast_state_that_does_not_fit_is_refused(pump: Bundle, fast: np.ndarray, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        pump.with_fast(fast)


def test_every_truncation_is_refused_and_never_called_altered(pump: Bundle, tmp_path: Path) -> None:
    data, path = pump.to_bytes(), tmp_path / "cut.onnx"
    metadata_start = len(pump.graph)
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(BundleError) as error:
            read_bundle(path)
        said = str(error.value)
        assert str(path) in said
        # a cut between two fields of the graph leaves a whole, if empty, model without our metadata
        assert "truncated" in said or (length <= metadata_start and "not an acclimate file" in said)
    path.write_bytes(data[:-1])
    with pytest.raises(BundleError, match="truncated"):
        read_bundle(path)


def test_every_altered_byte_is_refused(pump: Bundle, tmp_path: Path) -> None:
    data, path = pump.to_bytes(), tmp_path / "altered.onnx"
    for place in (*range(0, len(data) - 76, 29), *range(len(data) - 76, len(data))):
        changed = bytearray(data)
        changed[place] ^= 0x21
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            read_bundle(path)
    changed = bytearray(data)
    changed[len(pump.graph) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(BundleError, match="altered: its bytes do not match"):
        read_bundle(path)
    path.write_bytes(data + b"\x08\x08")
    with pytest.raises(BundleError, match="altered: there is something else after"):
        read_bundle(path)


def test_files_of_other_kinds_are_named_as_such(pump: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    with pytest.raises(BundleError, match="cannot be read: No such file"):
        read_bundle(path)
    for content in (b"", b"\x07\x00", b"{'an': 'other document'}"):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="not an acclimate file"):
            read_bundle(path)
    path.write_bytes(pump.graph)
    with pytest.raises(BundleError, match="not an acclimate file: an ONNX model without acclimate metadata"):
        read_bundle(path)


def test_another_robot_is_named_together_with_the_one_asked_for(pump_file: Path) -> None:
    with pytest.raises(BundleError, match="made for robot 'simple_pendulum', not for 'double_pendulum'"):
        read_bundle(pump_file, robot="double_pendulum")


def test_a_newer_format_is_refused(pump: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT", 2)
    write_bundle(tmp_path / "new.onnx", pump)
    monkeypatch.undo()
    with pytest.raises(BundleError, match="format 2 is newer than this version reads"):
        read_bundle(tmp_path / "new.onnx")


def test_an_empty_fast_state_travels(pump: Bundle, tmp_path: Path) -> None:
    empty = Bundle(pump.graph, pump.spec, pump.task, "none", np.zeros(0, np.float32), np.zeros(0, np.bool_))
    write_bundle(tmp_path / "empty.onnx", empty)
    assert read_bundle(tmp_path / "empty.onnx").fast.shape == (0,)
