"""Domain randomisation with memory (Peng et al. 2018, https://arxiv.org/abs/1710.06537): one recurrent policy for all.

It is RL² whose memory ends with each rollout: what it finds out of a robot serves that rollout alone.
"""

from __future__ import annotations

from adapt.rl2 import RL2


class Recurrent(RL2):
    carried = False
