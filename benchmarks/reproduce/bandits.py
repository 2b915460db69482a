"""RL² on Bernoulli bandits: total reward of n pulls of k arms (Duan et al. 2016, table 1).

https://arxiv.org/abs/1611.02779. Players that know what a bandit is are measured on the same bandits; that they get
what the paper says they get shows that the bandits are the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduce.held_out import compare
from benchmarks.reproduce.result import Row
from benchmarks.reproduce.session import Session
from benchmarks.reproduce.variants import BANDITS, BANDITS_QUICK
from sim.families.bandit_references import PLAYERS

PUBLISHED = {  # (pulls, arms) → total reward
    (10, 5): {"rl2": 6.7, "gittins": 6.6, "random": 5.0},
    (100, 5): {"rl2": 78.7, "gittins": 78.3, "random": 49.9},
    (500, 5): {"rl2": 401.6, "gittins": 405.8, "random": 249.8},
    (100, 50): {"rl2": 84.9, "gittins": 85.2, "random": 49.8},
}


def rows(session: Session) -> Iterator[Row]:
    """RL² and the players on each size."""
    for (pulls, arms), variant in (BANDITS_QUICK if session.quick else BANDITS).items():
        yield from compare(session, variant, f"n={pulls}, k={arms}", PLAYERS, PUBLISHED.get((pulls, arms), {}))
