"""Continual adaptation: a deployed policy is watched, adapted now and then, and begun anew when the robot has changed.

It begins with one adaptation. Each turn after that is some rollouts of the deployed policy, which the drift alarm
sees, and another adaptation with its gate: without an alarm from what is deployed, after one from the state of the
file, which was trained to adapt. A turn begins a log with all that a resumed watch needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import count

import numpy as np
from numpy.typing import NDArray

from adapt.drift import Drift
from adapt.methods import Method
from adapt.online import Adaptation, adapt_on_robot
from adapt.session import Session

Float32 = NDArray[np.float32]
WATCHED = "watched"  # role of rollouts between adaptations


def watch(
    session: Session, method: Method, deploy: Callable[[Adaptation], None], turns: int | None = None
) -> Adaptation:
    """Go on for so many turns, or for ever; what was deployed last, or the reason why nothing was.

    `deploy` is called with every adaptation that the gate accepts. Raises what ControlLoop.rollout raises.
    """
    own, monitor = session.bundle.fast, _monitor(session)
    first, last = int(session.turn.get("number", 0)), Adaptation(reason="nothing better was found")
    deployed = own
    if first:  # interrupted in this turn
        deployed = np.array(session.turn["deployed"], np.float32)
        monitor.restore(session.turn["drift"])
        last = Adaptation([], deployed, not np.array_equal(deployed, own), f"as it was before turn {first}")
    for number in count(first):
        if turns is not None and number > turns:
            return last
        if number != first:
            session.begin_turn(number, deployed=deployed.tolist(), drift=monitor.state())
        alarm = number > 0 and watched(session, monitor, deployed)
        result = adapt_on_robot(session, method, deployed, own if alarm else deployed)
        print(f"turn {number}: {'deployed' if result.accepted else 'rolled back'}: {result.reason}", flush=True)
        if result.accepted and result.candidate is not None:
            deploy(result)
            deployed, last = result.candidate, result
        if alarm or result.accepted:
            monitor = _monitor(session)
    raise AssertionError("count is endless")


def watched(session: Session, monitor: Drift, deployed: Float32) -> bool:
    """Rollouts of the deployed policy until the next adaptation is due, or until an alarm; whether there was one."""
    for number in range(session.plan.every):
        reason = monitor.update(session.rollout(WATCHED, deployed))
        if reason:
            session.decide("alarm", number, partial(dict, reason=reason))
            print(f"alarm: {reason}", file=sys.stderr, flush=True)
            return True
    return False


def _monitor(session: Session) -> Drift:
    return Drift(session.bundle.spec, session.plan.false_alarms, session.plan.seed)
