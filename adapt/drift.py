"""Has the robot changed? An alarm on the returns of a deployed policy and on how well its motion is foretold.

The first rollouts fit a linear model of one step and the spread of returns; each later one gets a score: how much worse
it is foretold, or how much less it returns, than they were. Scores are compared by rank with all before (conformal
p-values), bet against with ε p^(ε−1) (Vovk, Gammerman and Shafer 2005, chapter 7), and the bets are added up as a
Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2023, https://arxiv.org/abs/2203.03532). While the robot does not
change, rollouts are exchangeable and the mean number of them until a false alarm is at least the inverse of the stated
rate, whatever the distribution of scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.scored import Scored
from hardware_io.recording import Rollout
from hardware_io.spec import RobotSpec

Array = NDArray[np.float64]
FIT = 5  # rollouts that the model is fitted to
BET = 0.4  # ε: of 0.2 to 0.4 the quickest after 20 rollouts at 0.005 false alarms a rollout
RIDGE = 1e-3  # of standardised features, a step
LEAST_SPREAD = 0.01  # of a mean, below which the spread of a few rollouts is luck


class Detector:
    """Evidence that the newest scores are greater than those before; any distribution, all it needs is exchange."""

    def __init__(
        self, false_alarms: float, seed: int, scores: list[float] | None = None, evidence: float = 0.0
    ) -> None:
        """`false_alarms` a score, at most and on average; `seed` breaks ties of ranks."""
        self.limit, self._seed = 1 / false_alarms, seed
        self.scores, self.evidence = list(scores or []), evidence

    def update(self, score: float) -> bool:
        """Whether there is an alarm with one score more."""
        self.scores.append(score)
        self.evidence = (self.evidence + 1) * BET * self._p_value() ** (BET - 1)
        return self.evidence >= self.limit

    def _p_value(self) -> float:
        """Of the newest score by its rank among all, ties broken at random: uniform while nothing changes."""
        scores, share = np.array(self.scores), np.random.default_rng((self._seed, len(self.scores))).uniform()
        above, equal = int((scores > scores[-1]).sum()), int((scores == scores[-1]).sum())
        return max((above + share * equal) / len(scores), 1e-12)


class Drift:
    """Watches the rollouts of one policy. `O` observation, `A` action, `D` features.

    `false_alarms` a rollout, at most and on average; `seed` breaks ties of ranks.
    """

    def __init__(self, spec: RobotSpec, false_alarms: float, seed: int) -> None:
        self._spec, self._false_alarms, self._seed = spec, false_alarms, seed
        self._detector = Detector(false_alarms, seed)
        self._first: list[Scored] = []
        self._weights: Array | None = None  # (D, O)
        self._scale: Array = np.ones(0)  # (O,) of the changes of a channel; great where it says nothing of motion
        self._usual = np.zeros((2, 2))  # of residual and return: mean, spread

    def update(self, one: Scored) -> str:
        """One rollout more; the reason of an alarm, or nothing."""
        if not one.rollout.steps:
            return f"the robot left its limits at once: {one.rollout.reason}"
        if self._weights is None:
            self._first.append(one)
            if len(self._first) == FIT:
                self._fit()
            return ""
        values = np.array([self._residual(one.rollout), -one.value])
        excess = (values - self._usual[:, 0]) / self._usual[:, 1]
        if not self._detector.update(float(excess.max())):
            return ""
        usual_residual, usual_return = self._usual[0, 0], -self._usual[1, 0]
        return (
            f"the robot has changed: its motion is {values[0] / usual_residual:.1f} times as far from the foretold one "
            f"as at first, return {one.value:.1f} against {usual_return:.1f}; evidence {self._detector.evidence:.0f} "
            f"after {len(self._detector.scores)} rollouts, an alarm at {self._detector.limit:.0f}"
        )

    def state(self) -> dict[str, Any]:
        """Plain data from which `restore` goes on; before the model is fitted it begins anew."""
        if self._weights is None:
            return {}
        parts = {"weights": self._weights, "scale": self._scale, "usual": self._usual}
        plain = {name: part.tolist() for name, part in parts.items()}
        return {**plain, "scores": self._detector.scores, "evidence": self._detector.evidence}

    def restore(self, state: dict[str, Any]) -> None:
        if state:
            self._weights, self._usual = np.array(state["weights"]), np.array(state["usual"])
            self._scale = np.array(state["scale"])
            self._detector = Detector(self._false_alarms, self._seed, state["scores"], state["evidence"])

    def _fit(self) -> None:
        """Ridge regression of the change of observations, and what is usual."""
        rollouts = [one.rollout for one in self._first]
        table = np.concatenate([self._features(rollout) for rollout in rollouts])
        change = np.concatenate([_change(rollout) for rollout in rollouts])
        matrix = table.T @ table + RIDGE * len(table) * np.diag(table.var(0) + 1e-9)
        self._weights = np.linalg.solve(matrix, table.T @ change)
        told = np.array([c.source in ("rollout_start", "previous_reward") for c in self._spec.observed])
        self._scale = np.where(told, 1e9, np.maximum(change.std(0), 1e-9))
        values = np.array([[self._residual(one.rollout), -one.value] for one in self._first])
        mean = values.mean(0)
        self._usual = np.stack([mean, np.maximum(values.std(0), LEAST_SPREAD * np.abs(mean) + 1e-9)], axis=1)

    def _residual(self, rollout: Rollout) -> float:
        """Root mean square of what the model does not foretell, each channel on the scale of its own changes."""
        assert self._weights is not None
        error = _change(rollout) - self._features(rollout) @ self._weights
        return float(np.sqrt(((error / self._scale) ** 2).mean()))

    def _features(self, rollout: Rollout) -> Array:
        """(T, D): one, observation with angles as sine and cosine, command now and before."""
        seen, sent = rollout.observation[:-1].astype(np.float64), rollout.sent.astype(np.float64)
        angle = np.array([channel.unit == "rad" for channel in self._spec.observed])
        before = np.concatenate([np.zeros_like(sent[:1]), sent[:-1]])
        parts = [np.ones((len(seen), 1)), seen[:, ~angle], np.sin(seen[:, angle]), np.cos(seen[:, angle]), sent, before]
        return np.concatenate(parts, axis=1)


def _change(rollout: Rollout) -> Array:
    """(T, O)"""
    return np.diff(rollout.observation.astype(np.float64), axis=0)
