from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cli
from hardware_io.clock import VirtualClock
from hardware_io.config import ConfigError
from hardware_io.drivers import make_driver
from hardware_io.mit_protocol import ENTER, EXIT
from hardware_io.operate import _judge, jog, monitor, table
from hardware_io.spec import RobotSpec
from hardware_io.state import JointState, StaleState

twin = pytest.importorskip("sim.twin")
pytest.importorskip("mujoco")


class Lockstep:
    """A pendulum twin, its driver and every frame that was sent to it."""

    def __init__(self, spec: RobotSpec, **fixed: float) -> None:
        self.clock = VirtualClock()
        self.twin = twin.Twin(spec, twin.draw_dynamics(spec, 3, fixed={"base_tilt": 0.0, "payload": 1.0, **fixed}), 3)
        self.bus = twin.LockstepBus(self.twin, self.clock)
        self.frames: list[bytes] = []
        send = self.bus.send

        def watch(message, timeout=None) -> None:
            self.frames.append(bytes(message.data))
            send(message, timeout)

        self.bus.send = watch
        self.robot = make_driver("can_mit", spec, self.clock, bus=self.bus)


def test_the_table_marks_what_is_near_or_beyond_a_limit(pendulum: RobotSpec) -> None:
    def line(position: float, velocity: float, torque: float) -> str:
        return table(pendulum, JointState(0.0, *(np.array([x]) for x in (position, velocity, torque)))).splitlines()[1]

    assert "!" not in line(1.0, 2.0, 0.5)
    assert line(6.0, 2.0, 0.5).split()[:3] == ["shoulder", "+6.000", "!"]
    assert line(0.0, -20.5, 1.9).split()[3:] == ["6.5]", "-20.500", "!!", "±20", "+1.900", "!", "±2"]


def test_monitoring_never_enables_anything(pendulum: RobotSpec, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Lockstep(pendulum, position_noise=0.0)
    bench.twin.reset(np.array([0.7]), np.zeros(1))
    monitor(bench.robot, pendulum, bench.clock, once=True)
    assert "+0.700" in capsys.readouterr().out
    assert set(bench.frames) == {EXIT}


def test_monitoring_goes_on_while_nobody_answers(pendulum: RobotSpec, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Lockstep(pendulum)
    bench.bus.recv = lambda timeout=None: bench.clock.sleep_until(bench.clock.now() + (timeout or 0.0))

    def enough(message, timeout=None) -> None:
        if bench.clock.now() > 1.0:
            raise KeyboardInterrupt

    bench.bus.send = enough
    with pytest.raises(KeyboardInterrupt):
        monitor(bench.robot, pendulum, bench.clock)
    assert capsys.readouterr().out.count("no answer: can_mit: joint shoulder") >= 3
    with pytest.raises(StaleState):
        bench.bus.send = lambda message, timeout=None: None
        monitor(bench.robot, pendulum, bench.clock, once=True)


@pytest.mark.parametrize("by", [0.1, -0.3])
def test_a_jog_moves_the_joint_there_and_back(pendulum: RobotSpec, by: float) -> None:
    bench = Lockstep(pendulum, latency=0.05)
    result = jog(bench.robot, pendulum, bench.clock, "shoulder", by)
    assert result.moved == pytest.approx(by, abs=0.05) and result.followed
    assert abs(result.returned) < 0.02
    assert result.torque * by > 0  # against gravity
    assert bench.frames[0] == ENTER and bench.frames[-1] == EXIT


def test_a_joint_too_weak_to_follow_is_told(pendulum: RobotSpec, capsys: pytest.CaptureFixture[str]) -> None:
    weak = replace(pendulum, joints={"shoulder": replace(pendulum.joints["shoulder"], torque_limit=0.1)})
    bench = Lockstep(weak)
    result = jog(bench.robot, weak, bench.clock, "shoulder", 0.2)
    assert not result.followed
    assert _judge(result, weak, asks=False) == 1
    assert "did not follow" in capsys.readouterr().out


def test_a_jog_that_leaves_the_limits_is_refused_before_it_moves(pendulum: RobotSpec) -> None:
    bench = Lockstep(pendulum)
    bench.twin.reset(np.array([6.4]), np.zeros(1))
    with pytest.raises(ConfigError, match=r"--by: got 0.3; allowed: a way inside \[-6.5, 6.5\] rad from 6.4"):
        jog(bench.robot, pendulum, bench.clock, "shoulder", 0.3)
    assert bench.frames[-1] == EXIT
    for joint, by, said in (
        ("elbow", 0.1, "--joint: got 'elbow'.*shoulder"),
        ("shoulder", 0.5, "--by: got 0.5.*0.3 rad"),
    ):
        with pytest.raises(ConfigError, match=said):
            jog(Lockstep(pendulum).robot, pendulum, bench.clock, joint, by)


def test_the_commands_refuse_what_they_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    absent = ["--channel", "/dev/no-such-adapter"]
    for arguments, expected in (
        (["monitor", "--robot", "no_robot"], "robot: name: got 'no_robot'; allowed: a YAML file or one of "),
        (["monitor", "--robot", "double_pendulum/acrobot", *absent, "--once"], "cannot open interface 'slcan'"),
        (["jog", "--robot", "simple_pendulum", *absent], "--yes moves without asking"),  # no terminal to ask at
        (["jog", "--robot", "simple_pendulum", *absent, "--yes"], "cannot open interface 'slcan'"),
        (["jog", "--robot", "simple_pendulum", "--by", "1"], "--by: got 1.0; allowed: up to ±0.3 rad"),
    ):
        assert cli.main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and expected in said
