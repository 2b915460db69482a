"""First-order MAML (Finn et al. 2017, section 5.2, https://arxiv.org/abs/1703.03400): MAML without second derivatives.

The outer gradient is taken at the adapted parameters, as if the inner gradient did not depend on the shared ones.
"""

from __future__ import annotations

from adapt.gradient_based import GradientBased


class FOMAML(GradientBased):
    second_order = False
