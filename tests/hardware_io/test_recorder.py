from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hardware_io.clock import VirtualClock
from hardware_io.recorder import TOPICS, Recorder, RecordingError
from hardware_io.recording import read_recording
from hardware_io.spec import RobotSpec
from hardware_io.state import JointCommand, JointState

ROOT = Path(__file__).parents[2]
MCAP_START = b"\x89MCAP0\r\n"


def tick(recorder: Recorder, k: int, position: float = 0.25) -> None:
    """One tick of a loop that decides every fourth, with numbers that tell k."""
    time = 5.0 + 0.01 * k
    values = np.array([position])
    recorder.state(JointState(time, values, np.array([k / 7]), values))
    recorder.command(time, JointCommand.of_torque(np.array([0.1 * k])), 1e-4)
    if k % 4 == 0:
        observation = np.array([position, k, k == 0], np.float32)
        recorder.policy(time, 0, k // 4, observation, np.array([0.5]), np.array([0.1]), np.array([0.2]), 3e-5)


def write_log(path: Path, spec: RobotSpec, ticks: int) -> None:
    recorder = Recorder(path, spec, VirtualClock(5.0), task={"name": "swing_up"}, bundle="ab" * 32)
    recorder.event("rollout_start", rollout=0, fast=np.array([1.0, 2.0], np.float32))
    for k in range(ticks):
        tick(recorder, k)
    final = np.array([9, 9, 0], np.float32)
    recorder.event("rollout_end", rollout=0, outcome="done", reason="", missed=1, fast=final[:2], observation=final)
    recorder.close()


def test_a_log_reads_back(pendulum: RobotSpec, tmp_path: Path) -> None:
    write_log(tmp_path / "log.mcap", pendulum, 12)
    recording = read_recording(tmp_path / "log.mcap")
    assert recording.complete and recording.problems == ()
    assert recording.spec == pendulum
    assert recording.metadata["task"] == {"name": "swing_up"} and recording.metadata["bundle"] == "ab" * 32
    np.testing.assert_array_equal(recording.column("/state", "velocity")[:, 0], np.arange(12) / 7)
    (rollout,) = recording.rollouts()
    assert rollout.observation.tolist() == [[0.25, 0, 1], [0.25, 4, 0], [0.25, 8, 0], [9, 9, 0]]
    assert rollout.steps == 3 and rollout.missed == 1 and rollout.outcome == "done"
    assert rollout.fast_start.tolist() == [1, 2] and rollout.fast_end.tolist() == [9, 9]
    assert rollout.sent[:, 0].tolist() == pytest.approx([0.2] * 3) and rollout.late.tolist() == [1e-4] * 12


def test_the_indexed_reader_that_viewers_use_opens_it(pendulum: RobotSpec, tmp_path: Path) -> None:
    from mcap.reader import make_reader

    write_log(tmp_path / "log.mcap", pendulum, 12)
    with (tmp_path / "log.mcap").open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert {channel.topic for channel in summary.channels.values()} == set(TOPICS)
        assert summary.statistics.message_count == 12 + 12 + 3 + 2
        for schema, channel, message in reader.iter_messages():
            assert schema.encoding == "jsonschema" and channel.message_encoding == "json"
            properties = json.loads(schema.data)["properties"]
            assert set(json.loads(message.data)) <= set(properties)


def test_every_cut_leaves_what_lies_before_it(pendulum: RobotSpec, tmp_path: Path) -> None:
    write_log(tmp_path / "log.mcap", pendulum, 12)
    data, cut = (tmp_path / "log.mcap").read_bytes(), tmp_path / "cut.mcap"
    counts = []
    for length in range(len(MCAP_START), len(data), 97):
        cut.write_bytes(data[:length])
        recording = read_recording(cut)
        assert not recording.complete and str(cut) in recording.problems[-1]
        counts.append(len(recording.messages))
    assert counts == sorted(counts) and counts[-1] == 29
    end = data.index(b'"rollout_end"')
    cut.write_bytes(data[:end])
    (rollout,) = read_recording(cut).rollouts()
    assert rollout.outcome == "cut" and rollout.steps == 2  # the observation after the third is missing
    assert rollout.observation[:, 1].tolist() == [0, 4, 8]


def test_a_log_is_never_overwritten(pendulum: RobotSpec, tmp_path: Path) -> None:
    write_log(tmp_path / "log.mcap", pendulum, 4)
    before = (tmp_path / "log.mcap").read_bytes()
    with pytest.raises(RecordingError, match=r"log\.mcap: exists already; a log is never overwritten"):
        write_log(tmp_path / "log.mcap", pendulum, 4)
    assert (tmp_path / "log.mcap").read_bytes() == before
    with pytest.raises(RecordingError, match="cannot be written"):
        write_log(tmp_path / "log.mcap" / "below", pendulum, 4)


def test_nan_in_a_log_is_named_by_file_topic_and_row(pendulum: RobotSpec, tmp_path: Path) -> None:
    path = tmp_path / "nan.mcap"
    recorder = Recorder(path, pendulum, VirtualClock())
    recorder.event("rollout_start", rollout=0, fast=np.zeros(2, np.float32))
    for k in range(8):
        tick(recorder, k, np.nan if k == 4 else 0.0)
    recorder.close()
    recording = read_recording(path)
    assert recording.problems == (
        f"{path}: /state row 4: position[0] is not finite",
        f"{path}: /policy row 1: observation[0] is not finite",
    )
    assert np.isnan(recording.column("/state", "position")[4, 0])
    with pytest.raises(RecordingError, match=r"/policy row 1: observation\[0\] is not finite; leave this log out"):
        recording.rollouts()


def test_other_files_and_bad_records_are_named(pendulum: RobotSpec, tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        read_recording(path)
    path.write_bytes(b"time,position\n0,1\n" * 10)
    with pytest.raises(RecordingError, match="not an MCAP log"):
        read_recording(path)
    path.unlink()
    write_log(path, pendulum, 4)
    data = path.read_bytes()
    for good, bad in ((b'"late":0.', b'"tale":0.'), (b'{"time":5.0,"position":', b'["time",5.0,"position":')):
        assert len(good) == len(bad) and good in data
        data = data.replace(good, bad, 1)
    path.write_bytes(data)
    recording = read_recording(path)
    assert recording.complete and len(recording.messages) == 4 + 4 + 1 + 2 - 2
    assert any("/command row 0: left out, without late" in problem for problem in recording.problems)
    assert any("/state row 0: left out, without" in problem for problem in recording.problems)
    with pytest.raises(RecordingError, match="no robot in it"):
        path.write_bytes(MCAP_START)
        _ = read_recording(path).spec


RECORD_FOR_EVER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import tests_recorder as helper
from hardware_io.clock import VirtualClock
from hardware_io.recorder import Recorder
from hardware_io.spec import load_spec
recorder = Recorder(sys.argv[1], load_spec(sys.argv[3]), VirtualClock())
k = 0
while True:
    helper.tick(recorder, k)
    print(k, flush=True)
    k += 1
"""


def test_a_killed_process_leaves_all_ticks_but_the_one_it_was_writing(pendulum: RobotSpec, tmp_path: Path) -> None:
    (tmp_path / "tests_recorder.py").write_text(Path(__file__).read_text())
    arguments = [str(tmp_path / "log.mcap"), str(tmp_path), pendulum.source]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", RECORD_FOR_EVER, *arguments], stdout=subprocess.PIPE, env=environment
    ) as process:
        lines = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    told = sum(line.endswith(b"\n") for line in lines)  # ticks whose writing had ended
    recording = read_recording(tmp_path / "log.mcap")
    assert not recording.complete
    assert told >= 200
    assert told <= len(recording.column("/state", "time")) <= told + 1
    assert told <= len(recording.column("/command", "time")) <= told + 1


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_named_and_what_was_recorded_stays_readable(pendulum: RobotSpec, tmp_path: Path) -> None:
    path, told = tmp_path / "log.mcap", 0
    recorder = Recorder(path, pendulum, VirtualClock())
    full = r"log\.mcap: File too large after \d+ bytes; free some space"
    with no_file_longer_than(20_000), pytest.raises(RecordingError, match=full):
        for k in range(1000):
            tick(recorder, k)
            told += 1
    size = path.stat().st_size
    with pytest.raises(RecordingError, match=full):  # space again: what came after half a record could not be read
        tick(recorder, told)
    recorder.close()
    assert path.stat().st_size == size and 20 < told < 1000
    recording = read_recording(path)
    assert not recording.complete and recording.spec == pendulum
    assert told <= len(recording.column("/state", "time")) <= told + 1


SMALL_DISK = """
mount -t tmpfs -o size=64k none "$1" || exit 77
"$2" - "$1/log.mcap" "$3" <<'END'
import sys
import numpy as np
from hardware_io.clock import VirtualClock
from hardware_io.recorder import Recorder, RecordingError
from hardware_io.spec import load_spec
from hardware_io.state import JointState
try:
    with Recorder(sys.argv[1], load_spec(sys.argv[2]), VirtualClock()) as recorder:
        for k in range(10_000):
            recorder.state(JointState(0.01 * k, *np.full((3, 1), float(k))))
except RecordingError as error:
    print(error)
END
cp "$1/log.mcap" "$4"
"""


def test_a_disk_that_is_really_full(pendulum: RobotSpec, tmp_path: Path) -> None:
    disk, saved = tmp_path / "disk", tmp_path / "saved.mcap"
    disk.mkdir()
    script = ["sh", "-c", SMALL_DISK, "sh", str(disk), sys.executable, pendulum.source, str(saved)]
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", *script], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    if done.returncode and not saved.exists() and "log.mcap" not in done.stdout:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    assert "log.mcap: No space left on device after " in done.stdout
    recording = read_recording(saved)
    assert not recording.complete and recording.spec == pendulum
    positions = recording.column("/state", "position")[:, 0]
    assert positions.tolist() == list(range(len(positions))) and len(positions) > 50


def test_a_log_is_closed_on_the_way_out_and_the_first_error_is_the_one_that_is_told(
    pendulum: RobotSpec, tmp_path: Path
) -> None:
    with Recorder(tmp_path / "good.mcap", pendulum, VirtualClock()) as recorder:
        tick(recorder, 0)
    assert read_recording(tmp_path / "good.mcap").complete
    with pytest.raises(ZeroDivisionError), Recorder(tmp_path / "bad.mcap", pendulum, VirtualClock()) as recorder:
        tick(recorder, 0)
        raise ZeroDivisionError
    assert read_recording(tmp_path / "bad.mcap").complete
    with no_file_longer_than(20_000):  # the index of the closing finds no room
        with pytest.raises(ZeroDivisionError), Recorder(tmp_path / "full.mcap", pendulum, VirtualClock()) as recorder:
            for k in range(1000):
                if (tmp_path / "full.mcap").stat().st_size > 19_500:
                    raise ZeroDivisionError
                tick(recorder, k)
        with (
            pytest.raises(RecordingError, match="File too large"),
            Recorder(tmp_path / "fuller.mcap", pendulum, VirtualClock()) as recorder,
        ):
            while (tmp_path / "fuller.mcap").stat().st_size < 19_500:
                tick(recorder, 1)
