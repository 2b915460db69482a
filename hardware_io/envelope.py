"""The safety envelope between a policy and the bus: whatever goes in, what comes out is inside the limits or a stop.

Limits come from the spec alone and a policy has no way around them. In the order in which they apply to an action:

1. Finite numbers only, else a stop.
2. A joint beyond its position or velocity limit (acting or not) ends the rollout: `LimitReached`.
3. Position commands become torques, kp·(clipped target − q) − kd·q̇, so that one set of bounds covers both modes;
   what is too much is taken off by softer gains.
4. The torque moves at most `torque_rate_limit` · period from the torque sent before.
5. It is clipped to ± `torque_limit`.
6. Torque that pushes towards a position limit fades to zero within `margin` of it. This comes last and may move the
   torque faster than 4 allows: it only ever takes away.

Joints that do not act are sent zeros. The envelope remembers the last torque and a count of missed deadlines, no more.
"""

from __future__ import annotations

import numpy as np

from hardware_io.spec import RobotSpec
from hardware_io.state import Array, JointCommand, JointState

MARGIN = 0.1  # rad, or MARGIN_SHARE of the joint's range where that is less
MARGIN_SHARE = 0.05
NEAR = 1.0  # rad, within which a joint counts as being at a pose and is left to hang
CLOCK_ERROR = 1e-6  # s, so that rounding does not decide about an age that is exactly the limit


class EnvelopeStop(RuntimeError):
    """The robot must stop and the session end: names the joint, the value and the limit."""


class LimitReached(EnvelopeStop):
    """A joint left its limits. The rollout ends with a damped stop; the next one may begin."""


class Envelope:
    """Limits of one robot. `J` joints, `A` of them acting."""

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self._names = list(spec.joints)
        self._acting = np.array(spec.acting)
        self._acting_names = [self._names[i] for i in spec.acting]
        self._unit = "N·m" if spec.command == "torque" else "rad"
        self._low, self._high = spec.position_limits.T
        self.margin = np.minimum(MARGIN, MARGIN_SHARE * (self._high - self._low))  # (J,) rad
        self._velocity_limit = spec.joint_values("velocity_limit")
        self._torque_limit = spec.joint_values("torque_limit")
        self._torque_step = spec.joint_values("torque_rate_limit") * spec.period.io
        self._acts = spec.joint_values("acts")  # (J,) 1 where the policy commands
        self._kp = spec.joint_values("kp") * self._acts
        self._kd = spec.joint_values("kd") * self._acts
        self._damped = JointCommand.damped(spec.joint_values("stop_damping"))
        self._zero = np.zeros(len(self._names))
        self._last_torque = self._zero
        self.missed = 0  # deadlines in a row

    def admit(self, state: JointState) -> None:
        """Refuse a state in which no command but the damped one may follow. Raises LimitReached, EnvelopeStop."""
        position, velocity = state.position, state.velocity
        inside = (position >= self._low) & (position <= self._high) & (np.abs(velocity) <= self._velocity_limit)
        if not inside.all():  # NaN is inside nothing
            self._refuse_non_finite("position", "rad", self._names, position)
            self._refuse_non_finite("velocity", "rad/s", self._names, velocity)
            self._refuse_violation(state)

    def limit(self, state: JointState, action: Array) -> JointCommand:
        """The command to send for an action, (A,) N·m or rad. Raises LimitReached, EnvelopeStop."""
        self.admit(state)
        self._refuse_non_finite("action", self._unit, self._acting_names, action)
        wanted = np.zeros(len(self._names))
        wanted[self._acting] = action
        if self.spec.command == "torque":
            return JointCommand.of_torque(self._bound(wanted, state.position))
        target = _clip(wanted, self._low, self._high) * self._acts
        spring = self._kp * (target - state.position) - self._kd * state.velocity
        torque = self._bound(spring, state.position)
        # Softer gains give the bounded torque now and cannot give more before the next command. Where the rate limit
        # asks for another direction than the spring's, a plain torque does.
        share = np.divide(torque, spring, out=np.ones_like(spring), where=spring != 0)
        soft = (share >= 0.0) & (share <= 1.0) & (np.abs(share * spring - torque) < 1e-12)
        share = np.where(soft, share, 0.0)
        return JointCommand(target, self._zero, share * self._kp, share * self._kd, np.where(soft, 0.0, torque))

    def _bound(self, torque: Array, position: Array) -> Array:
        """Rate limit, torque limit and position limits, in this order, (J,) N·m."""
        torque = _clip(torque, self._last_torque - self._torque_step, self._last_torque + self._torque_step)
        torque = _clip(torque, -self._torque_limit, self._torque_limit)
        room = np.where(torque > 0, self._high - position, position - self._low) / self.margin
        self._last_torque = torque * _clip(room, 0.0, 1.0)
        return self._last_torque

    def damped(self) -> JointCommand:
        """The safe command, which every limit allows: it only opposes motion."""
        self._last_torque = self._zero
        return self._damped

    def homing(self, state: JointState, pose: Array) -> JointCommand:
        """Damped, with the torque limit pulling acting joints that are far from `pose`, (J,) rad, towards it.

        It makes a pendulum fall to the side on which the next rollout starts, and frees it where friction holds it:
        of 40 hidden pendulums left upright 38 came home by themselves, with half the torque 34.
        """
        self._last_torque = self._zero
        error = pose - state.position
        pull = np.where(np.abs(error) > NEAR, np.sign(error), 0.0) * self._torque_limit * self._acts
        return JointCommand(self._zero, self._zero, self._zero, self._damped.kd, np.nan_to_num(pull))

    def check(self, state: JointState, due: float, missed: int) -> None:
        """Watchdogs, once a tick: `due` is when the tick was due, s; `missed` how many deadlines were since the last.

        A pause of the loop itself counts as missed deadlines, not as silence of the robot. Raises EnvelopeStop.
        """
        safety = self.spec.safety
        self.missed = self.missed + missed if missed else 0
        if self.missed >= safety.missed_deadlines:
            raise EnvelopeStop(
                f"{self.missed} deadlines of {self.spec.period.io} s missed in a row; "
                f"allowed: fewer than {safety.missed_deadlines}"
            )
        age = due - missed * self.spec.period.io - state.time
        if age > safety.stale_after + CLOCK_ERROR:
            raise EnvelopeStop(f"the newest state is {age:.3f} s old; allowed: at most {safety.stale_after} s")

    def _refuse_non_finite(self, what: str, unit: str, names: list[str], values: Array) -> None:
        if not np.isfinite(values).all():
            i = int(np.flatnonzero(~np.isfinite(values))[0])
            raise EnvelopeStop(f"joint {names[i]}: {what} is {values[i]} {unit}; allowed: finite numbers")

    def _refuse_violation(self, state: JointState) -> None:
        outside = (state.position < self._low) | (state.position > self._high)
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise LimitReached(
                f"joint {self._names[i]}: position is {state.position[i]:.3f} rad; "
                f"limit: {self._low[i]} to {self._high[i]} rad"
            )
        fast = np.abs(state.velocity) > self._velocity_limit
        if fast.any():
            i = int(np.flatnonzero(fast)[0])
            raise LimitReached(
                f"joint {self._names[i]}: velocity is {state.velocity[i]:.3f} rad/s; "
                f"limit: ±{self._velocity_limit[i]} rad/s"
            )


def _clip(values: Array, low: Array | float, high: Array | float) -> Array:
    """`np.clip` at a tenth of its price for a handful of joints: it runs several times a tick."""
    return np.minimum(np.maximum(values, low), high)
