"""The budgets of all trainings, in one place: which file of `configs/`, and what is laid on top of it.

A changed budget goes on with a training that lies in `runs/reproduce`; any other change wants a new folder.
"""

from __future__ import annotations

from benchmarks.reproduce.session import Variant

# (pulls, arms) → overrides of configs/bandits_rl2.yaml
BANDITS = {
    (10, 5): Variant("bandits-n10-k5", "bandits_rl2.yaml"),
    (100, 5): Variant("bandits-n100-k5", "bandits_rl2.yaml", {"lanes": 512, "steps": 10_000_000}),
    (500, 5): Variant("bandits-n500-k5", "bandits_rl2.yaml", {"lanes": 256, "steps": 20_000_000}),
    (100, 50): Variant("bandits-n100-k50", "bandits_rl2.yaml", {"lanes": 512, "steps": 20_000_000}),
}
BANDITS_QUICK = {
    (10, 2): Variant(
        "bandits-n10-k2", "bandits_rl2.yaml", {"steps": 80_000, "lanes": 200, "learner.settings.memory": 24}
    ),
}

# episodes → overrides of configs/tabular_rl2.yaml
TABULAR = {
    10: Variant("tabular-n10", "tabular_rl2.yaml"),
    25: Variant("tabular-n25", "tabular_rl2.yaml"),
    50: Variant("tabular-n50", "tabular_rl2.yaml", {"lanes": 256}),
}
TABULAR_QUICK = {
    2: Variant("tabular-n2", "tabular_rl2.yaml", {"steps": 10_000, "lanes": 100, "learner.settings.memory": 24}),
}
