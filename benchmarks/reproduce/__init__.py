"""Published results, reproduced beside their references: `make reproduce` (see `benchmarks/reproduce.md`)."""

from __future__ import annotations

# name → (module with `rows(session)`, what it reproduces); loaded lazily
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "bandits": ("benchmarks.reproduce.bandits", "RL² on Bernoulli bandits (Duan et al. 2016, table 1)"),
    "tabular": ("benchmarks.reproduce.tabular", "RL² on random MDPs (Duan et al. 2016, table 2)"),
    "navigation": ("benchmarks.reproduce.navigation", "MAML on 2-D navigation (Finn et al. 2017, section 5.3)"),
    "sinusoid": (
        "benchmarks.reproduce.sinusoid",
        "MAML and Reptile on sinusoids (Finn et al. 2017, Nichol et al. 2018)",
    ),
    "memory": (
        "benchmarks.reproduce.memory",
        "copy and recall beyond the lengths of training (Graves et al. 2014)",
    ),
    "locomotion": ("benchmarks.reproduce.locomotion", "all meta-learners with one budget: walking robots, a pendubot"),
    "varibad": (
        "benchmarks.reproduce.varibad",
        "VariBAD on a grid with a hidden goal (Zintgraf et al. 2020, section 5.1)",
    ),
    "pearl": (
        "benchmarks.reproduce.pearl",
        "PEARL with sparse rewards, and on half-cheetahs (Rakelly et al. 2019, figures 3 and 7)",
    ),
    "rma": ("benchmarks.reproduce.rma", "RMA on an arm with an unknown load (Kumar et al. 2021, table II)"),
    "model_based": (
        "benchmarks.reproduce.model_based",
        "PETS on its cart-pole; GrBAL on half-cheetahs with a disabled joint (Chua et al. 2018, Nagabandi et al. 2019)",
    ),
    "dqn": ("benchmarks.reproduce.dqn", "DQN on cartpoles, and episodes that new tasks take with a mapping network"),
    "ablations": ("benchmarks.reproduce.ablations", "what curricula and a replay that all tasks share are worth"),
}
