"""Hidden parameters: drawn where they should be, and refused where they make no sense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hardware_io.config import ConfigError
from hardware_io.spec import RobotSpec
from sim.dynamics import DynamicsRange
from sim.family import RobotFamily
from sim.robots import load_robot


def test_draws_fill_the_range_of_their_split(pendulum: RobotSpec) -> None:
    ranges = DynamicsRange.of(pendulum)
    for split in ("train", "test"):
        values = ranges.sample(4000, np.random.default_rng(0), split)
        low, high = ranges.bounds(split).T
        assert values.shape == (4000, len(ranges)) and (values >= low).all() and (values <= high).all()
        assert values.mean(axis=0) == pytest.approx((low + high) / 2, abs=0.02 * (high - low).max())


def test_outside_means_at_least_one_parameter_beyond_training(pendulum: RobotSpec) -> None:
    ranges = DynamicsRange.of(pendulum)
    values = ranges.sample(4000, np.random.default_rng(0), "outside")
    low, high = ranges.bounds("train").T
    wide_low, wide_high = ranges.bounds("test").T
    assert ((values < low) | (values > high)).any(axis=1).all()
    assert ((values >= wide_low) & (values <= wide_high)).all()


def test_the_same_seed_draws_the_same_robots(pendulum: RobotSpec) -> None:
    ranges = DynamicsRange.of(pendulum)
    one, two, other = (ranges.sample(5, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_normalised_training_bounds_are_one(pendulum: RobotSpec) -> None:
    ranges = DynamicsRange.of(pendulum)
    low, high = ranges.normalise(ranges.bounds("train").T)
    assert low == pytest.approx(-1) and high == pytest.approx(1)


def test_a_draw_is_described_with_its_units(pendulum: RobotSpec) -> None:
    ranges = DynamicsRange.of(pendulum)
    assert ranges.describe(ranges.nominal)["viscous_friction"] == "0.01 N·m·s/rad"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "kg"}, ["dynamics.viscous_friction.unit", "'kg'", "N·m·s/rad"]),
        ({"train": [0.03, 0.0]}, ["dynamics.viscous_friction.train", "low <= high"]),
        ({"test": [0.0, 0.01]}, ["dynamics.viscous_friction.test", "contains train"]),
        ({"nominal": 1.0}, ["dynamics.viscous_friction.nominal", "within test"]),
        ({"test": [-0.1, 0.05]}, ["dynamics.viscous_friction.test", ">= 0"]),
        ({"joint": "elbow"}, ["dynamics.viscous_friction.joint", "'elbow'", "shoulder"]),
        ({"joint": ""}, ["dynamics.viscous_friction.joint", "the joint that viscous_friction acts on"]),
        ({"apply": "magic"}, ["dynamics.viscous_friction.apply", "'magic'", "mass_scale"]),
        ({"colour": 1}, ["dynamics.viscous_friction.colour", "one of the keys"]),
        ({"test": "wide"}, ["dynamics.viscous_friction.test", "a list"]),
    ],
)
def test_bad_parameters_are_named(pendulum: RobotSpec, change: dict[str, Any], words: list[str]) -> None:
    changed = {**pendulum.dynamics, "viscous_friction": {**pendulum.dynamics["viscous_friction"], **change}}
    with pytest.raises(ConfigError) as caught:
        DynamicsRange.of(replace(pendulum, dynamics=changed))
    message = str(caught.value)
    assert pendulum.source in message and all(word in message for word in words), message


def test_noise_must_name_a_channel_of_its_unit(pendulum: RobotSpec) -> None:
    noise = {**pendulum.dynamics["position_noise"], "channel": "velocity"}
    with pytest.raises(ConfigError, match=r"position_noise\.channel.*velocity \(rad\).*position \(rad\)"):
        DynamicsRange.of(replace(pendulum, dynamics={"position_noise": noise}))


def test_an_unknown_split_is_named(pendulum: RobotSpec) -> None:
    with pytest.raises(ConfigError, match=r"'validation'.*train, test, outside"):
        DynamicsRange.of(pendulum).sample(1, np.random.default_rng(0), "validation")


def test_robots_that_differ_in_one_parameter_at_a_time() -> None:
    spec = load_robot("simple_pendulum")
    family = RobotFamily(spec, "swing_up", one_at_a_time=True)
    ranges = DynamicsRange.of(spec)
    low, high = ranges.bounds("train").T
    values = family.sample(400, np.random.default_rng(0))
    differs = values != ranges.nominal
    assert (differs.sum(1) <= 1).all() and (differs.any(0) == (low < high)).all()
    assert ((values >= low) & (values <= high)).all()
    data = spec.to_dict()
    data["dynamics"]["latency"]["weight"] = 0.0
    family = RobotFamily(RobotSpec.from_dict(data, spec.source), "swing_up", one_at_a_time=True)
    kept = family.sample(400, np.random.default_rng(0))[:, ranges.names.index("latency")]
    assert (kept == ranges.parameters["latency"].nominal).all()
    outside = family.sample(400, np.random.default_rng(0), "outside")
    assert (((outside < low) | (outside > high)).sum(1) == 1).all()
