"""Training from scratch, a baseline: random parameters, adapted on each robot by the inner step of all others.

An update leaves the parameters as they were made and takes statistics of observations, nothing else: what a robot
learns, it learns from its own rollouts ("random" in Finn et al. 2017, section 5.3).
"""

from __future__ import annotations

from adapt.gradient_based import GradientBased, Samples


class Scratch(GradientBased):
    def outer_step(self, stages: list[Samples]) -> dict[str, float]:
        return {}
