"""Fine-tuning, a baseline: a domain-randomised policy that is adapted like MAML's, but was not trained for it.

Training ("pretrained" in Finn et al. 2017, section 5.3) is trust region policy optimisation of the shared parameters on
all tasks at once. Only rollouts before the first adaptation count, because only they are the shared policy's own: give
it a `support` that is most of `rollouts`.
"""

from __future__ import annotations

from adapt.gradient_based import GradientBased, Samples


class FineTune(GradientBased):
    def outer_step(self, stages: list[Samples]) -> dict[str, float]:
        return super().outer_step(stages[:1])
