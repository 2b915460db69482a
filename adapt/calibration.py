"""What logs taught about one robot, as a YAML file: a posterior, and the ranges that training draws robots from.

`dynamics` holds, for each hidden parameter of the robot that was fitted, its nominal value and its ranges in training
(two standard deviations to either side) and in tests (three). One that the data does not tell keeps at least the range
that it had. `parameters` holds the whole posterior, with what stands between a log and the bodies. `K` parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adapt.posterior import Posterior, Prior
from adapt.robot_model import RobotModel
from hardware_io.config import ConfigError, build, dump, merge, option, read_yaml, write_atomically
from hardware_io.spec import RobotSpec
from hardware_io.state import Array
from sim.dynamics import DynamicsRange

TOLD = 0.7  # of the prior standard deviation; data that leaves more of it tells little
TRAIN, TEST = 2.0, 3.0  # standard deviations


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One parameter: what is known after the data, and what was before."""

    unit: str
    mean: float
    sd: float = option(min=0.0)
    prior_mean: float = option()
    prior_sd: float = option(min=0.0)

    @property
    def told(self) -> bool:
        """Whether the data narrowed it."""
        return self.sd <= TOLD * self.prior_sd


@dataclass(frozen=True, kw_only=True)
class Source:
    """One log that a calibration was made from."""

    file: str
    seconds: float = option(unit="s")
    windows: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A posterior over the parameters of one robot."""

    robot: str
    made_from: tuple[Source, ...]
    noise: float = option(unit="rad", help="error of a window that the model is taken to make by itself")
    error_before: float = option(unit="rad", help="median over the windows of these logs")
    error: float = option(unit="rad")
    parameters: dict[str, Estimate]
    correlation: tuple[tuple[float, ...], ...]  # (K, K), in the order of the parameters
    dynamics: dict[str, dict[str, Any]]
    source: str = ""

    @property
    def values(self) -> Array:
        """Most probable values, (K,)."""
        return np.array([p.mean for p in self.parameters.values()])

    @property
    def covariance(self) -> Array:
        """(K, K)"""
        sd = np.array([p.sd for p in self.parameters.values()])
        return np.asarray(np.array(self.correlation) * sd * sd[:, None])

    def sample(self, n: int, low: Array, rng: np.random.Generator) -> Array:
        """Draws of the posterior, (n, K), none below `low` (K,)."""
        return np.maximum(rng.multivariate_normal(self.values, self.covariance, n, method="eigh"), low)

    def write(self, path: str | Path) -> None:
        """As YAML that `read_calibration` reads back."""
        data = dump(self)
        del data["source"]
        write_atomically(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def calibration_of(
    model: RobotModel, posterior: Posterior, sources: list[Source], noise: float, errors: tuple[float, float]
) -> Calibration:
    """A calibration from a posterior; `errors` rad, before and after."""
    estimates = {
        p.name: Estimate(unit=p.unit, mean=float(mean), sd=float(sd), prior_mean=float(p.mean), prior_sd=float(p.sd))
        for p, mean, sd in zip(model.parameters, posterior.mean, posterior.sd, strict=True)
    }
    scale = np.outer(posterior.sd, posterior.sd)
    return Calibration(
        robot=model.spec.name,
        made_from=tuple(sources),
        noise=noise,
        error_before=errors[0],
        error=errors[1],
        parameters=estimates,
        correlation=tuple(tuple(row) for row in (posterior.covariance / scale).round(9).tolist()),
        dynamics=_ranges(model, estimates),
    )


def widened(model: RobotModel, calibration: Calibration, changed: Sequence[str] = ()) -> Prior:
    """What is known before a new session: the calibration, less sure of what drifts (`Parameter.drift`).

    Where it is known what `changed`, such as a payload, that alone is as unsure as before any data. Raises ConfigError.
    """
    unknown = [name for name in changed if name not in model.names]
    if unknown:
        raise ConfigError("command line", "--changed", unknown, f"among {', '.join(model.names)}")
    doubt = np.array([p.sd * (p.name in changed) if changed else p.drift for p in model.parameters])
    return Prior(calibration.values, calibration.covariance + np.diag(doubt**2), model.low)


def read_calibration(path: str | Path, model: RobotModel) -> Calibration:
    """Raises ConfigError for a file that is none, or of another robot."""
    calibration = replace(build(Calibration, read_yaml(path), str(path)), source=str(path))
    if calibration.robot != model.spec.name:
        raise ConfigError(str(path), "robot", calibration.robot, f"{model.spec.name}, the robot that it is used for")
    if tuple(calibration.parameters) != model.names:
        raise ConfigError(str(path), "parameters", list(calibration.parameters), f"in this order: {list(model.names)}")
    size = len(model.names)
    if [len(row) for row in calibration.correlation] != [size] * size:
        raise ConfigError(str(path), "correlation", len(calibration.correlation), f"{size} rows of {size} numbers")
    return calibration


def calibrated(spec: RobotSpec, path: str | Path) -> RobotSpec:
    """The robot with the ranges of a calibration in place of its own. Raises ConfigError."""
    data = read_yaml(path)
    if data.get("robot") != spec.name:
        raise ConfigError(str(path), "robot", data.get("robot"), f"{spec.name}, the robot that is trained")
    ranges = data.get("dynamics")
    if not isinstance(ranges, dict) or not set(ranges) <= set(spec.dynamics):
        raise ConfigError(str(path), "dynamics", ranges, f"ranges of {', '.join(spec.dynamics)}")
    spec = replace(spec, dynamics=merge(spec.dynamics, ranges))
    DynamicsRange.of(spec)
    return spec


def _ranges(model: RobotModel, estimates: dict[str, Estimate]) -> dict[str, dict[str, Any]]:
    ranges = {}
    for name, p in model.ranges.parameters.items():
        if name not in estimates:
            continue
        estimate, low = estimates[name], max(model.parameters[model.names.index(name)].low, -1e9)
        found = {}
        for split, width in (("train", TRAIN), ("test", TEST)):
            reach = [max(estimate.mean - width * estimate.sd, low), estimate.mean + width * estimate.sd]
            if not estimate.told:
                old = getattr(p, split)
                reach = [min(reach[0], old[0]), max(reach[1], old[1])]
            found[split] = [float(f"{edge:.6g}") for edge in reach]
        ranges[name] = {"nominal": float(f"{estimate.mean:.6g}"), **found}
    return ranges
