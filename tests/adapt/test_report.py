"""The report from a real recording, made in lockstep: its numbers are those of the files."""

from __future__ import annotations

import html
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapt.persistent import PersistentLoop
from adapt.report import main, write_report
from adapt.report_chart import Band, Line, chart, ticks
from adapt.report_motion import chain_of
from adapt.report_recording import read_log
from adapt.scored import scored, task_of
from hardware_io.bundle import Bundle
from hardware_io.clock import VirtualClock
from hardware_io.config import ConfigError
from hardware_io.drivers import make_driver
from hardware_io.loop import ControlLoop
from hardware_io.recorder import Recorder
from hardware_io.runtime import Policy
from hardware_io.spec import RobotSpec
from sim.robots import load_robot

twin = pytest.importorskip("sim.twin")
pytest.importorskip("mujoco")

HOSTILE = "<script>alert('x')</script>"


def record(bundle: Bundle, path: Path, lengths: tuple[int, ...] = (30, 40)) -> Path:
    """Rollouts of that many steps on a twin in lockstep: the first pumps, the second brakes."""
    clock = VirtualClock(100.0)
    robot = twin.Twin(bundle.spec, twin.draw_dynamics(bundle.spec, 0, fixed={"base_tilt": 0.2, "payload": 1.0}))
    driver = make_driver("can_mit", bundle.spec, clock, bus=twin.LockstepBus(robot, clock))
    recorder = Recorder(path, bundle.spec, clock, task=bundle.task)
    loop = ControlLoop(Policy(bundle), driver, clock, recorder)
    with loop.session():
        for gain, steps in zip((1.0, -1.0), lengths, strict=True):
            loop.rollout(np.array([0, 0, gain], np.float32), steps)
    recorder.close()
    return path


@pytest.fixture(scope="module")
def log(pump: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return record(pump, tmp_path_factory.mktemp("log") / "rl2.mcap").read_bytes()


def player(page: str) -> dict:
    """What the animation plays."""
    return json.loads(html.unescape(re.search(r'data-clips="([^"]*)"', page)[1]))


def demo(**changes: object) -> dict:
    outcome = {"return": 20.25, "success": False, "outcome": "done"}
    return {
        "robot": "simple_pendulum",
        "task": {"name": "swing_up"},
        "seed": 123,
        "hidden": {"payload": "1.46 1", "base_tilt": "0.2 rad"},
        "rollouts": {
            "domain_randomised": [{"return": 33.3, "success": False, "outcome": "limit"}],
            "rl2": [outcome, outcome, outcome | {"return": 61.5, "success": True}],
        },
        "gate": {"accepted": True, "reason": "better"},
        "latency_us": {"p50": 41.0, "p99": 87.0},
        "lateness_us": {"p50": 61.0, "p99": 210.0, "max": 933.0},
        "missed": 2,
        "ticks": 1600,
        "seconds": {"train": 201.0},
        "lockstep": {
            "robots": 24,
            "rollouts": [0, 1],
            "learners": {
                "rl2": {"return": [[20, 18, 22], [60, 58, 62]], "success": [[0.25, 0.1, 0.4], [0.96, 0.9, 1]]}
            },
        },
        **changes,
    }


def test_the_page_shows_what_the_recording_holds(pump: Bundle, log: bytes, tmp_path: Path) -> None:
    (tmp_path / "rl2.mcap").write_bytes(log)
    assert main([str(tmp_path)]) == 0
    page, (first, last) = (tmp_path / "report.html").read_text(), read_log(tmp_path / "rl2.mcap").rollouts
    assert (first.steps, last.steps) == (30, 40)
    for rollout in (first, last):
        assert f"<td>{scored(task_of(pump), rollout).value:,.1f}</td>" in page
    clips = player(page)["clips"]
    assert [clip["duration"] for clip in clips] == pytest.approx([30 * 0.04, 40 * 0.04])
    for clip, rollout in zip(clips, (first, last), strict=True):
        np.testing.assert_allclose(clip["torque"], rollout.sent, atol=6e-4)
        tips = np.array(clip["nodes"])[:: round(0.04 / clip["frame"]), 2:]  # as seen: right, down
        seen = np.arctan2(tips[:, 0], tips[:, 1])
        np.testing.assert_allclose(np.unwrap(seen), rollout.observation[:, 0], atol=2e-3)
    assert "before: rollout 0" in page and "after: rollout 1" in page


def test_a_known_tilt_of_the_base_turns_robot_and_goal(log: bytes, tmp_path: Path) -> None:
    (tmp_path / "rl2.mcap").write_bytes(log)
    (tmp_path / "demo.json").write_text(json.dumps(demo()))
    page = write_report(tmp_path).read_text()
    (first, _) = read_log(tmp_path / "rl2.mcap").rollouts
    x, y = np.array(player(page)["clips"][0]["nodes"])[0, 2:]
    assert math.atan2(x, y) == pytest.approx(first.observation[0, 0] + 0.2, abs=2e-3)
    assert f'transform="rotate({-math.degrees(0.2):.2f})"' in page
    assert "leans by 0.200 rad" in page


def test_the_demo_is_told_as_its_file_says(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps(demo()))
    page = write_report(tmp_path, tmp_path / "elsewhere.html").read_text()
    assert "Yes: it failed before adaptation and succeeds after 2 rollouts; return 20.2 → 61.5." in page
    for shown in ("41 µs", "p99 87 µs", "max 933 µs", "2 of 1,600", "25 → 96 %", "96 % [90, 100]", "33.3", "(limit)"):
        assert shown in page, shown
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "before, after, accepted, words",
    [
        (True, True, True, "It succeeded from the first rollout on"),
        (True, False, True, "No: it succeeded before adaptation and fails"),
        (False, False, True, "No: it fails before adaptation and after"),
        (False, True, False, "Rolled back: the gate kept the un-adapted policy. better"),
    ],
)
def test_the_verdict_is_honest(tmp_path: Path, before: bool, after: bool, accepted: bool, words: str) -> None:
    rows = [{"return": 1.0, "success": s, "outcome": "done"} for s in (before, after)]
    document = demo(rollouts={"rl2": rows}, gate={"accepted": accepted, "reason": "better"})
    (tmp_path / "demo.json").write_text(json.dumps(document))
    assert words in write_report(tmp_path).read_text()


def test_training_and_evaluation_of_sub_folders(tmp_path: Path) -> None:
    run = tmp_path / "rl2"
    run.mkdir()
    rows = [{"iteration": i, "steps": 1000 * i, "seconds": 60.0 * i, "return": 1.5 * i} for i in range(1, 9)]
    rows[3] |= {"success_before": 0.25, "success_after": 0.75}
    rows[5]["return"] = math.nan
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"iteration": 9, "ste')
    (run / "config.yaml").write_text("robot: simple_pendulum\n")
    scores = {"return": [[1, 0, 2], [3, 2, 4]], "success": [[0.5, 0.4, 0.6], [1, 0.9, 1]]}
    summary = {"learners": {"rl2": scores}, "gap_closed": {"rl2": [[0.1, 0, 0.2], [0.85, 0.8, 0.9]]}}
    result = {
        "robot": "r",
        "task": {"name": "swing_up"},
        "robots": 256,
        "rollouts": [0, 1],
        "splits": {"train": summary},
    }
    (run / "evaluation.json").write_text(json.dumps(result))
    page = write_report(tmp_path).read_text()
    for shown in ("<td>8,000</td>", "<td>8.0</td>", "<td>12.0</td>", "<td>25 %</td>", "<td>75 %</td>", "85 % [80, 90]"):
        assert shown in page, shown
    assert "Inside the training range" in page and "robot: simple_pendulum\n</pre>" in page


def test_an_empty_folder_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}: document: got 'nothing to draw'; allowed: a folder")):
        write_report(tmp_path)
    with pytest.raises(ConfigError, match=r"demo\.json, \*\.mcap"):
        main([str(tmp_path / "missing")])
    assert list(tmp_path.iterdir()) == []


def test_a_cut_log_is_drawn_as_far_as_it_goes(log: bytes, tmp_path: Path) -> None:
    (tmp_path / "rl2.mcap").write_bytes(log[: len(log) * 3 // 4])
    page = write_report(tmp_path).read_text()
    assert "without the closing record" in page and "cut</td>" in page
    assert len(player(page)["clips"]) == 2


def test_one_broken_file_costs_only_itself(log: bytes, tmp_path: Path) -> None:
    (tmp_path / "rl2.mcap").write_bytes(log)
    (tmp_path / "noise.mcap").write_bytes(b"no log at all")
    (tmp_path / "demo.json").write_text('{"rollouts": [1, 2')
    (tmp_path / "evaluation.json").write_text('{"splits": {"train": 3}}')
    page = write_report(tmp_path).read_text()
    for text in ("noise.mcap: not an MCAP log", "demo.json: line 1", "evaluation.json: left out", 'class="player"'):
        assert text in page, text


def test_rollouts_that_were_stopped_and_begun_again_are_told_but_not_compared(pump: Bundle, tmp_path: Path) -> None:
    clock, length = VirtualClock(100.0), 30
    robot = twin.Twin(pump.spec, twin.draw_dynamics(pump.spec, 0))
    bus = twin.LockstepBus(robot, clock)
    recorder = Recorder(tmp_path / "rl2.mcap", pump.spec, clock, task=pump.task)
    loop = PersistentLoop(Policy(pump), make_driver("can_mit", pump.spec, clock, bus=bus), clock, recorder)
    send, frames = bus.send, iter(range(10_000))

    def paused(message: object, timeout: float | None = None) -> None:
        if next(frames) == 50:
            clock.sleep_until(clock.now() + 0.1)
        send(message, timeout)

    bus.send = paused
    with recorder, loop.session():
        for _ in range(2):
            loop.rollout(pump.fast, length)
    (stop,) = loop.stops
    (tmp_path / "demo.json").write_text(json.dumps(demo(stops=[f"rl2: {stop}"])))
    page = write_report(tmp_path).read_text()
    assert "before: rollout 1" in page and "after: rollout 2" in page
    assert f"stop: EnvelopeStop: {stop}" in page  # in the table of all rollouts
    assert f"stopped by the loop&#x27;s watchdogs and begun again: rl2: {stop}" in page


def test_numbers_that_are_not_finite_leave_gaps(log: bytes, tmp_path: Path) -> None:
    place = list(re.finditer(rb'"observation":\[([^,]{4,}),', log))[10]
    length = place.end(1) - place.start(1)
    (tmp_path / "rl2.mcap").write_bytes(log[: place.start(1)] + b"null".ljust(length) + log[place.end(1) :])
    (tmp_path / "demo.json").write_text(json.dumps(demo(latency_us={"p50": math.nan, "p99": None})))
    page = write_report(tmp_path).read_text()
    assert "observation[0] is not finite" in page and "– µs" in page
    position = page[page.index("<figcaption>Position") : page.index("<figcaption>Velocity")]
    before, after = re.findall(r'class="line" d="([^"]*)"', position)
    assert (before.count("M"), after.count("M")) == (2, 1)
    assert len(player(page)["clips"][0]["nodes"]) == 61 and not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_what_files_say_is_escaped_and_nothing_is_fetched(pump: Bundle, tmp_path: Path) -> None:
    joint = replace(pump.spec.joints["shoulder"], position_limit=(-0.2, 0.2))
    record(replace(pump, spec=replace(pump.spec, joints={"shoulder": joint}, name=HOSTILE)), tmp_path / "<b>log.mcap")
    rows = [{"return": 1.0, "success": True, "outcome": HOSTILE}]
    document = demo(robot=HOSTILE, hidden={HOSTILE: HOSTILE}, seed=HOSTILE, rollouts={HOSTILE: rows, "rl2": rows})
    document["gate"] = {"accepted": False, "reason": HOSTILE}
    document["seconds"] = {HOSTILE: 1.0}
    (tmp_path / "demo.json").write_text(json.dumps(document))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"steps": 1, "return": 1.0, "success_after": HOSTILE}))
    (tmp_path / "config.yaml").write_text(f"a: {HOSTILE}")
    page = write_report(tmp_path).read_text()
    assert HOSTILE not in page and "<b>log" not in page and html.escape(HOSTILE) in page
    assert page.count("<script>") == 1 and "left out" not in page
    assert not re.search(r"https?:|//[a-z]|\bsrc=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_links_are_as_long_as_the_urdf_says(pendulum: RobotSpec) -> None:
    hanging = chain_of(pendulum, {}).nodes(np.zeros((1, 1)))[0]
    np.testing.assert_allclose(hanging, [[0, 0, 0], [0, 0, -0.5]], atol=1e-9)
    double = load_robot("double_pendulum/acrobot")
    chain = chain_of(double, {})
    assert chain.edges == [(0, 1), (1, 2)]
    bent = chain.seen(chain.nodes(np.array([[np.pi / 2, -np.pi / 2]])))[0]  # out to the right, then down
    np.testing.assert_allclose(bent, [[0, 0], [0.2, 0], [0.2, -0.3]], atol=1e-9)
    unknown = chain_of(replace(double, name="nobody", urdf="none.urdf"), {})
    np.testing.assert_allclose(unknown.nodes(np.zeros((1, 2)))[0, :, 2], [0, -1, -2], atol=1e-9)


def test_a_chart_has_gaps_bands_and_round_ticks() -> None:
    assert ticks(-1.3, 6.6, 5) == [0, 2, 4, 6] and ticks(0, 0.31, 6) == [0, 0.1, 0.2, 0.3]
    drawn = chart("t", "x", "y", [Line("a", [0, 1, 2, 3], [0, math.nan, 1, 2], "#000")], [Band(1.0, 0.1, 99.0)])
    (path,) = re.findall(r'class="line" d="([^"]*)"', drawn)
    assert path.count("M") == 2 and path.count("L") == 1
    assert 'width="0.0"' in drawn  # a band that starts after the traces ended
    assert chart("t", "x", "y", [Line("a", [0], [math.nan], "#000")]) == ""


def test_it_needs_neither_torch_nor_a_simulator(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps(demo()))
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'pybullet', 'mujoco', 'gymnasium', 'matplotlib')));"
        "from adapt.report import main; sys.exit(main(sys.argv[1:]))"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "report.html"
