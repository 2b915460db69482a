"""Continual adaptation on a twin whose payload changes: what is deployed, when there is an alarm, what is logged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapt.methods import InGraph
from adapt.online import Adaptation
from adapt.scored import Scored
from adapt.session import Plan, logs_of
from adapt.watch import watch
from hardware_io.bundle import Bundle
from hardware_io.recording import read_recording
from tests.adapt.on_twin import SHORT, Machine
from tests.conftest import pump_graph

pytest.importorskip("mujoco")
pytestmark = pytest.mark.slow
PLAN = Plan(rollouts=1, judge=4, every=25)
LONGER = {**SHORT, "duration": 1.6}


def watched(pump: Bundle, folder: Path, change_at: int | None) -> tuple[Adaptation, list[Adaptation]]:
    """Two turns; the robot becomes another one before the watched rollout of that number in the second."""
    graph, fast = pump_graph(learning=0.01, bias=99.0), np.zeros(3, np.float32)
    machine = Machine(replace(pump, graph=graph, fast=fast, task=LONGER))
    session, deployed, seen = machine.session(folder, PLAN), list[Adaptation](), 0

    def report(one: Scored, remembered: bool) -> None:
        nonlocal seen
        seen += one.rollout.role == "watched"
        if seen == change_at:
            machine.become(payload=1.8)

    session.report = report
    with session, session.loop.session():
        return watch(session, InGraph(), deployed.append, turns=2), deployed


def events(folder: Path, name: str) -> list[dict]:
    found = [read_recording(log).messages for log in logs_of(folder)]
    return [m.values for messages in found for m in messages if m.values.get("event") == name]


def test_a_robot_that_stays_as_it_is_raises_no_alarm_and_what_is_better_is_deployed(
    pump: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last, deployed = watched(pump, tmp_path, None)
    assert [result.accepted for result in deployed] == [True] * len(deployed) and len(deployed) >= 2
    kept = [result.candidate[2] for result in deployed if result.candidate is not None]
    assert kept == pytest.approx([0.4 * (k + 1) for k in range(len(kept))]), "it goes on from what is deployed"
    assert last.candidate is not None and last.candidate[2] == kept[-1]
    captured = capsys.readouterr()
    assert captured.err == "" and events(tmp_path, "alarm") == []
    assert [line.split(":")[0] for line in captured.out.splitlines()] == ["turn 0", "turn 1", "turn 2"]
    turns = events(tmp_path, "turn")
    assert [turn["number"] for turn in turns] == [1, 2] and len(logs_of(tmp_path)) == 3
    assert turns[0]["deployed"] == pytest.approx([0, 0, 0.4])


def test_a_payload_that_changes_raises_an_alarm_and_adaptation_begins_anew(
    pump: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, deployed = watched(pump, tmp_path, PLAN.every - 8)
    (alarm,) = events(tmp_path, "alarm")
    said = capsys.readouterr().err
    assert said == f"alarm: {alarm['reason']}\n" and said.startswith("alarm: the robot has changed: ")
    assert PLAN.every - 8 <= alarm["number"] < PLAN.every
    second = read_recording(logs_of(tmp_path)[1])
    roles = [rollout.role for rollout in second.rollouts()]
    assert roles.count("watched") == alarm["number"] + 1, "an alarm does not wait for the end of the turn"
    lesson = second.rollouts()[roles.index("teaching 1")]
    assert lesson.fast_start.tolist() == [0, 0, 0], "from the state of the file, which was trained to adapt"
    gates = events(tmp_path, "gate")
    assert len(gates) == 3 and all(gate["reason"] for gate in gates) and deployed
