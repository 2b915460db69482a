"""Plain PPO (Schulman et al. 2017, https://arxiv.org/abs/1707.06347): a policy that knows the nominal robot alone."""

from __future__ import annotations

from adapt.domain_randomised import DomainRandomised


class Nominal(DomainRandomised):
    randomised = False
