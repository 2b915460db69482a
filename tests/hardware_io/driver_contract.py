"""What every driver must do, whatever it talks to: its test class inherits `DriverContract` and gives a `rig`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hardware_io.clock import Clock
from hardware_io.spec import RobotSpec
from hardware_io.state import DriverError, JointCommand, StaleState

PERIOD = 0.01  # s
PATIENCE = 30.0  # s that a read may take on a busy machine


@dataclass
class Rig:
    """A driver that is not yet open, and a robot at rest behind it."""

    driver: Any
    spec: RobotSpec
    clock: Clock
    kill: Callable[[], None]  # the robot answers no more

    @property
    def whereabouts(self) -> str:
        """What an error about the robot names: a joint, or the bus."""
        return "|".join((*self.spec.joints, "interface", "bus"))

    def torque(self, value: float) -> JointCommand:
        return JointCommand.of_torque(np.full(len(self.spec.joints), value))

    def drive(self, value: float, ticks: int = 10) -> Any:
        """Command a torque for some periods; the last state."""
        start = self.clock.now()
        for k in range(ticks):
            self.driver.write(self.torque(value))
            state = self.driver.read(PATIENCE)
            self.clock.sleep_until(start + (k + 1) * PERIOD)
        return state


class DriverContract:
    @pytest.fixture
    def rig(self) -> Rig:
        raise NotImplementedError

    def test_nothing_is_sent_before_it_is_open(self, rig: Rig) -> None:
        uses = (rig.driver.enable, rig.driver.poll, lambda: rig.driver.read(0.0), lambda: rig.drive(0.0))
        for use in uses:
            with pytest.raises(DriverError, match="open"):
                use()
        rig.driver.stop()

    def test_poll_reads_without_enabling(self, rig: Rig) -> None:
        rig.driver.open()
        rig.driver.open()
        before = rig.clock.now()
        rig.driver.poll()
        state = rig.driver.read(PATIENCE)
        assert before <= state.time <= rig.clock.now()
        for values in (state.position, state.velocity, state.torque):
            assert values.shape == (len(rig.spec.joints),) and np.isfinite(values).all()
        assert np.abs(rig.drive(1.0).torque).max() < 0.01  # N·m: a command moves nothing

    def test_an_enabled_motor_follows(self, rig: Rig) -> None:
        rig.driver.open()
        rig.driver.enable()
        assert np.abs(rig.driver.read(PATIENCE).torque).max() < 0.05
        np.testing.assert_allclose(rig.drive(0.5, 20).torque, 0.5, atol=0.1)
        np.testing.assert_allclose(rig.drive(-0.5, 20).torque, -0.5, atol=0.1)

    def test_enabled_robots_are_not_polled(self, rig: Rig) -> None:
        rig.driver.open()
        rig.driver.enable()
        with pytest.raises(DriverError, match="poll"):
            rig.driver.poll()

    def test_write_tells_what_was_sent(self, rig: Rig) -> None:
        rig.driver.open()
        rig.driver.enable()
        asked = [np.full(len(rig.spec.joints), value) for value in (0.1, -0.3, 5.0, 0.2, 0.4)]
        sent = rig.driver.write(JointCommand(*asked))
        values = [sent.position, sent.velocity, sent.kp, sent.kd, sent.torque]
        np.testing.assert_allclose(values, asked, atol=0.07)
        assert not np.array_equal(values, asked)  # quantised
        again = rig.driver.write(sent)
        np.testing.assert_allclose([again.position, again.kp, again.torque], [sent.position, sent.kp, sent.torque])

    def test_states_advance_on_the_clock_of_the_loop(self, rig: Rig) -> None:
        rig.driver.open()
        rig.driver.enable()
        times = [rig.drive(0.0, 1).time for _ in range(5)]
        assert (np.diff(times) >= PERIOD * 0.99).all() and times[-1] <= rig.clock.now()

    def test_a_command_that_is_not_finite_is_refused_whole(self, rig: Rig) -> None:
        rig.driver.open()
        rig.driver.enable()
        for value in (np.nan, np.inf, -np.inf):
            with pytest.raises(ValueError, match=f"joint {next(iter(rig.spec.joints))}.*torque"):
                rig.driver.write(rig.torque(value))
        rig.drive(0.0, 2)

    def test_stop_disables_and_can_be_repeated(self, rig: Rig) -> None:
        rig.driver.stop()
        rig.driver.open()
        rig.driver.enable()
        rig.drive(1.0)
        rig.driver.stop()
        rig.driver.stop()
        with pytest.raises(DriverError, match="open"):
            rig.driver.write(rig.torque(0.0))
        rig.driver.open()
        assert np.abs(rig.drive(1.0).torque).max() < 0.01  # N·m: disabled

    def test_a_robot_that_dies_is_noticed_and_stop_survives(self, rig: Rig) -> None:
        rig.driver.open()
        rig.driver.enable()
        rig.drive(0.5)
        rig.kill()
        start = rig.clock.now()
        with pytest.raises((StaleState, DriverError), match=rig.whereabouts):
            rig.driver.write(rig.torque(0.5))
            rig.driver.read(0.03)
        rig.driver.stop()
        rig.driver.stop()
        assert rig.clock.now() - start < PATIENCE

    def test_a_robot_that_never_answers_is_not_enabled(self, rig: Rig) -> None:
        rig.driver.open()
        rig.kill()
        with pytest.raises(DriverError, match=rig.whereabouts):
            rig.driver.enable()
        rig.driver.stop()
