from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hardware_io.bundle import Bundle, BundleError
from hardware_io.runtime import NonFinite, Policy


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture(scope="module")
def policy(pump: Bundle) -> Policy:
    return Policy(pump)


def test_a_step_is_what_the_graph_says(policy: Policy) -> None:
    command, fast = policy.step(row(0.3, 0.5, 1), row(0, 4, 1.2), row(2))
    wanted = 1.2 * np.tanh(2 * 0.5) + 0.1 * 2
    assert command == pytest.approx([wanted], abs=1e-6)
    assert fast == pytest.approx([wanted, 5, 1.2], abs=1e-6)
    assert command.dtype == fast.dtype == np.float32


def test_a_rollout_starts_with_only_what_is_kept(policy: Policy) -> None:
    assert policy.start_fast(row(9, 8, 7)).tolist() == [0, 0, 7]


@pytest.mark.parametrize(
    "observation, fast, noise, said",
    [
        (row(0, np.inf, 0), row(0, 0, 1), row(0), r"input observation, velocity\[0\] \(rad/s\): got inf"),
        (row(0, 0, 0), row(0, np.nan, 1), row(0), r"input fast, \[1\]: got nan"),
        (row(0, 0, 0), row(0, 0, 1), row(-np.inf), r"input noise, joint shoulder: got -inf"),
        (row(0, 0, 0), row(0, 3e38, 3.4e38), row(np.float32(3.4e38)), None),
    ],
)
def test_only_finite_numbers_enter(policy: Policy, observation, fast, noise, said) -> None:
    if said is None:
        assert np.isfinite(policy.step(observation, fast, noise)[0]).all()
    else:
        with pytest.raises(NonFinite, match=said):
            policy.step(observation, fast, noise)


def test_only_finite_numbers_leave(pump: Bundle) -> None:
    model = pytest.importorskip("onnx").load_from_string(pump.graph)
    count = next(node for node in model.graph.node if node.output[0] == "next_count")
    count.op_type = "Div"  # count / one, with one made zero
    one = next(item for item in model.graph.initializer if item.name == "one")
    one.CopyFrom(pytest.importorskip("onnx").numpy_helper.from_array(row(0), "one"))
    policy = Policy(replace(pump, graph=model.SerializeToString()))
    with pytest.raises(NonFinite, match=r"output next_fast, \[1\]: got nan"):
        policy.step(row(0, 0, 0), row(0, 0, 1), row(0))


def test_a_graph_for_other_sizes_is_refused(pump: Bundle) -> None:
    wrong = replace(pump, fast=np.zeros(2, np.float32), kept=np.zeros(2, np.bool_))
    with pytest.raises(BundleError, match=r"graph input fast: got .*\['batch', 3\]; allowed: float32 \(B, 2\)"):
        Policy(wrong)
    with pytest.raises(BundleError, match="refuses the graph"):
        Policy(replace(pump, graph=b"\x08\x08"))


def test_results_do_not_change_under_the_callers_hands(policy: Policy) -> None:
    first, fast = policy.step(row(0, 1, 0), row(0, 0, 1), row(0))
    kept = first.copy(), fast.copy()
    policy.step(row(0, -1, 0), row(0, 7, 2), row(1))
    np.testing.assert_array_equal(first, kept[0])
    np.testing.assert_array_equal(fast, kept[1])


def test_a_policy_without_fast_state_runs(pump: Bundle) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    tensors = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in {"observation": 3, "fast": 0, "noise": 1, "command": 1, "next_fast": 0}.items()
    }
    nodes = [helper.make_node("Neg", ["noise"], ["command"]), helper.make_node("Identity", ["fast"], ["next_fast"])]
    inputs, outputs = (
        [tensors[name] for name in ("observation", "fast", "noise")],
        [tensors["command"], tensors["next_fast"]],
    )
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    empty = replace(pump, graph=model.SerializeToString(), fast=np.zeros(0, np.float32), kept=np.zeros(0, np.bool_))
    command, fast = Policy(empty).step(row(0, 0, 0), row(), row(3))
    assert command.tolist() == [-3.0] and fast.shape == (0,)
