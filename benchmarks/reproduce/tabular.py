"""A linear transformer as the memory of RL² on random tabular MDPs: total reward of n episodes (Duan et al. 2016).

https://arxiv.org/abs/1611.02779, table 2. PSRL knows what an MDP is; `optimal` knows each MDP, so it is the most
to be had.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduce.held_out import compare
from benchmarks.reproduce.result import Row
from benchmarks.reproduce.session import Session
from benchmarks.reproduce.variants import TABULAR, TABULAR_QUICK
from sim.families.tabular_references import PLAYERS

PUBLISHED = {  # episodes → total reward
    10: {"rl2": 156.2, "psrl": 138.1, "random": 100.1},
    25: {"rl2": 445.7, "psrl": 408.8, "random": 250.2},
    50: {"rl2": 936.1, "psrl": 904.4, "random": 499.7},
}


def rows(session: Session) -> Iterator[Row]:
    """RL² and the players for each number of episodes."""
    for episodes, variant in (TABULAR_QUICK if session.quick else TABULAR).items():
        yield from compare(session, variant, f"n={episodes}", PLAYERS, PUBLISHED.get(episodes, {}))
