"""A trained policy as one ONNX file, verified before it takes its name: `acclimate export`.

The graph is `MetaLearner.act` and nothing else: no critic, no optimiser, no operator of a recurrent layer.
`B` robots, `O` observation, `F` fast state, `A` action.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from adapt.learner import MetaLearner
from adapt.run_folder import Run, load_run
from adapt.slow import pack
from export.verify import VerifyReport, verify
from hardware_io.bundle import Bundle, write_bundle
from hardware_io.runtime import INPUTS, OUTPUTS
from hardware_io.spec import RobotSpec

OPSET = 20  # read by ONNX Runtime 1.20, the oldest that a robot may have
# Fused recurrent layers turn NaN into finite numbers in ONNX Runtime; control flow has no fixed time.
FORBIDDEN = frozenset({"GRU", "LSTM", "RNN", "If", "Loop", "Scan"})
TRIES, AFTER_EACH = 10, 2**31 - 1  # rollouts of a search; adaptations among which any number is divided, one each


class ExportError(RuntimeError):
    """A policy that cannot be deployed as one verified file; nothing was written."""


class Controller(nn.Module):
    """What the robot runs: the learner's `act` without what only training needs."""

    def __init__(self, learner: MetaLearner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, observation: Tensor, fast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Observation (B, O), fast (B, F), noise (B, A) → command (B, A), next fast (B, F)."""
        command, next_fast, _ = self.learner.act(observation, fast, noise)
        return command, next_fast


def export_policy(
    learner: MetaLearner,
    spec: RobotSpec,
    task: dict[str, Any],
    name: str,
    provenance: dict[str, Any],
    path: str | Path,
) -> Bundle:
    """Write the policy of a learner called `name` to one file, and return what it holds.

    `task` is its name and parameters, `provenance` whatever says where the weights come from. Raises ExportError,
    and leaves what was at `path` as it was, when the file does not do what the learner does.
    """
    bundle = make_bundle(learner, spec, task, name, provenance)
    write_verified(bundle, learner, spec, path)
    return bundle


def make_bundle(
    learner: MetaLearner,
    spec: RobotSpec,
    task: dict[str, Any],
    name: str,
    provenance: dict[str, Any],
    teaching: dict[str, int] | None = None,
) -> Bundle:
    """The deployment of a learner, not yet verified. Raises ExportError when the graph holds a forbidden operator.

    `teaching` says how many rollouts and adaptations of one robot there were in a trial of training.
    """
    graph = make_graph(learner, spec)
    found = FORBIDDEN & set(operators(graph))
    if found:
        raise ExportError(f"graph of {name}: holds {', '.join(sorted(found))}; allowed: operators without inner loops")
    fast, kept = learner.fast0(1)[0].detach().cpu().numpy(), learner.kept.cpu().numpy()
    made_with = {"torch": str(torch.__version__), "opset": OPSET}
    made = {**provenance, "exporter": made_with, **({"entries": learner.entries} if learner.entries else {})}
    slow = b"" if learner.in_graph else pack(learner)
    return Bundle(graph, spec, task, name, fast, kept, made, slow, teaching or {})


def teaching_of(run: Run) -> dict[str, int]:
    """How a learner that adapts between rollouts was taught in training, as `adapt` does it on a robot."""
    if run.learner.in_graph:
        return {}
    if run.learner.searches:
        return {"rollouts": TRIES, "adaptations": AFTER_EACH}
    adaptations = run.config.adaptations
    return {"rollouts": run.config.copies * run.config.support * adaptations, "adaptations": adaptations}


def make_graph(learner: MetaLearner, spec: RobotSpec) -> bytes:
    """The learner's `act` as a ModelProto with a free batch. Raises ExportError when PyTorch cannot trace it."""
    controller = Controller(copy.deepcopy(learner).cpu()).eval()
    # An example batch of 1 would be baked into the graph silently.
    fast = controller.learner.fast0(2).detach()
    example = (torch.zeros(2, spec.observation_size), fast, torch.zeros(2, spec.action_size))
    batch = torch.export.Dim("batch", min=1, max=2**16)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                controller,
                example,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                dynamic_shapes=tuple({0: batch} for _ in INPUTS),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:  # its own text is a page about how to report bugs of PyTorch
        cause = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(f"{type(learner).__name__}.act cannot become a graph: {cause}") from error
    if program is None:
        raise ExportError(f"{type(learner).__name__}.act: the exporter made no graph")
    return _without_notes(program.model_proto)


def _without_notes(model: onnx.ModelProto) -> bytes:
    """The model as bytes, without the stack traces (paths of this computer among them) and shapes it was made with."""
    graph = model.graph
    graph.name = "policy"
    graph.ClearField("value_info")
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def operators(graph: bytes) -> Counter[str]:
    """How often each operator occurs in a ModelProto, functions and subgraphs included."""
    model = onnx.load_from_string(graph)
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    found: Counter[str] = Counter()
    while waiting:
        node = waiting.pop()
        found[node.op_type] += 1
        for attribute in node.attribute:
            waiting += [*attribute.g.node, *(inner for graph in attribute.graphs for inner in graph.node)]
    return found


def write_verified(bundle: Bundle, learner: MetaLearner, spec: RobotSpec, path: str | Path) -> VerifyReport:
    """Write under another name, verify, then rename. Raises ExportError with every problem found."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_bundle(draft, bundle)
        report = verify(draft, learner, spec)
        if not report.ok:
            raise ExportError(f"{path}: not written, because it does not verify: {'; '.join(report.problems)}")
        draft.replace(path)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be written: {error.strerror}; allowed: a file in a writable folder"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return replace(report, file=str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says about packages and deprecations of its own."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def main(argv: list[str]) -> int:
    """`acclimate export RUN [--out FILE.onnx]`: 0 when the file was written and verified."""
    parser = argparse.ArgumentParser(
        prog="acclimate export", description="Write a trained policy as one ONNX file, and verify it."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a training run")
    parser.add_argument("--out", metavar="FILE.onnx", type=Path, help="default: RUN/policy.onnx")
    arguments = parser.parse_args(argv)

    run = load_run(arguments.run)
    path = arguments.out or arguments.run / "policy.onnx"
    bundle = make_bundle(run.learner, run.spec, run.task, run.config.learner.name, run.provenance, teaching_of(run))
    report = write_verified(bundle, run.learner, run.spec, path)
    counts = sorted(operators(bundle.graph).items(), key=lambda item: (-item[1], item[0]))
    print(report)
    print(f"operators   {', '.join(f'{count} {name}' for name, count in counts)}")
    return 0
