"""PETS (Chua et al. 2018, https://arxiv.org/abs/1805.12114): a probabilistic ensemble, and planning with it.

It knows one model for all robots: nothing but its doubt changes in the fast state. What exports is a policy distilled
from the planner.
"""

from __future__ import annotations

from adapt.model_based import ModelBased, ModelBasedSettings
from hardware_io.interface import Interface


class PETS(ModelBased):
    def __init__(self, interface: Interface, settings: ModelBasedSettings) -> None:
        super().__init__(interface, settings, context=0, memory=0, past=0, future=1)
