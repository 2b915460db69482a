"""MAML (Finn et al. 2017, https://arxiv.org/abs/1703.03400): parameters from which one gradient step leads far.

The whole policy adapts, and the outer gradient goes through the inner one, second derivatives included.
"""

from __future__ import annotations

from adapt.gradient_based import GradientBased


class MAML(GradientBased):
    second_order = True
