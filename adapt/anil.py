"""ANIL (Raghu et al. 2020, https://arxiv.org/abs/1909.09157): MAML in which only the last layer adapts.

All robots share the body of the policy, so that a fast state is as small as the head: its weights and the spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from adapt.gradient_based import GradientBased, GradientBasedSettings
from hardware_io.config import ConfigError
from policies.task_perceptron import TaskPerceptron


@dataclass(frozen=True)
class ANILSettings(GradientBasedSettings):
    def __post_init__(self) -> None:
        if not self.hidden:
            raise ConfigError("", "hidden", list(self.hidden), "at least one layer, which does not adapt")


class ANIL(GradientBased):
    Settings = ANILSettings

    def make_network(self, sizes: list[int]) -> TaskPerceptron:
        self.body = TaskPerceptron(sizes[:-1], self.settings.activation, output_gain=math.sqrt(2))
        self.body_weights = nn.Parameter(self.body.initial())
        return TaskPerceptron(sizes[-2:], self.settings.activation)

    def represent(self, features: Tensor) -> Tensor:
        return self.body.activate(self.body(features, self.body_weights[None]))
