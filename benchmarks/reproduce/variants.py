"""The budgets of all trainings, in one place: which file of `configs/`, and what is laid on top of it.

A changed budget goes on with a training that lies in `runs/reproduce`; any other change wants a new folder.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from benchmarks.reproduce.session import Variant


def sized(pulls: int, arms: int) -> dict[str, Any]:
    """Overrides that make bandits so large."""
    return {"family.settings.pulls": pulls, "family.settings.arms": arms}


GRU, MANY_ARMS = "bandits_rl2.yaml", "bandits_linear_transformer.yaml"
HUNDRED = Variant("bandits-n100-k5", GRU, {**sized(100, 5), "steps": 24_000_000})
SETTLED = {
    "lanes": 2048,
    "steps": 12_000_000,
    "learner.settings.ppo.learning_rate": 2e-4,
    "learner.settings.ppo.entropy": 0.002,
}
# Fifty arms: what pays at once is learned first, then what is worth knowing.
NEAR = Variant("bandits-n100-k50-near", MANY_ARMS, {**sized(100, 50), "steps": 4_500_000})
FAR = {"steps": 8_000_000, "learner.settings.ppo.gae": 0.9, "learner.settings.ppo.learning_rate": 5e-4}

BANDITS = {  # (pulls, arms) → its training
    (10, 5): Variant("bandits-n10-k5", GRU, {**sized(10, 5), "learner.settings.ppo.learning_rate": 5e-4}),
    (100, 5): Variant("bandits-n100-k5-settled", GRU, {**sized(100, 5), **SETTLED}, after=HUNDRED),
    (500, 5): Variant("bandits-n500-k5", GRU, {**sized(500, 5), "steps": 24_000_000, "lanes": 256}),
    (100, 50): Variant("bandits-n100-k50", MANY_ARMS, {**sized(100, 50), **FAR}, after=NEAR),
}
BANDITS_QUICK = {
    (10, 2): Variant(
        "bandits-n10-k2", GRU, {**sized(10, 2), "steps": 80_000, "lanes": 200, "learner.settings.memory": 24}
    ),
}

# episodes → overrides of this file; what is learned of short trials helps with longer ones
MDPS = "tabular_linear_transformer.yaml"
TEN = Variant("tabular-n10", MDPS, {"family.settings.episodes": 10})
TWENTY_FIVE = Variant("tabular-n25", MDPS, {"family.settings.episodes": 25, "lanes": 256}, after=TEN)
FIFTY = Variant(
    "tabular-n50", MDPS, {"family.settings.episodes": 50, "lanes": 128, "steps": 6_000_000}, after=TWENTY_FIVE
)
TABULAR = {10: TEN, 25: TWENTY_FIVE, 50: FIFTY}
TABULAR_QUICK = {
    2: Variant(
        "tabular-n2",
        MDPS,
        {"family.settings.episodes": 2, "steps": 10_000, "lanes": 100, "learner.settings.memory.width": 16},
    ),
}

# learner → what it is trained with
NAVIGATION = {
    # At the end for what three steps come to, as it is tested; before, as its authors have it, for one.
    "maml": Variant(
        "navigation-maml-settled",
        "navigation_maml.yaml",
        {"steps": 8_000_000, "adaptations": 3, "rollouts": 4, "learner.settings.outer.trpo.max_kl": 0.01},
        after=Variant("navigation-maml", "navigation_maml.yaml", {"steps": 24_000_000}),
    ),
    # Its rollouts before the adaptation are what it learns from, so three of four are.
    "fine_tune": Variant(
        "navigation-fine-tune",
        "navigation_maml.yaml",
        {
            "learner.name": "fine_tune",
            "steps": 8_000_000,
            "lanes": 200,
            "copies": 10,
            "rollouts": 4,
            "support": 3,
            "learner.settings.inner_rate": 0.05,
            "learner.settings.later_rate": 0.05,
        },
    ),
    # It learns nothing from tasks, so one iteration is enough.
    "scratch": Variant("navigation-scratch", "navigation_maml.yaml", {"learner.name": "scratch", "steps": 1}),
    "oracle": Variant("navigation-oracle", "navigation_oracle.yaml"),
}
NAVIGATION_QUICK = {"steps": 16_000, "lanes": 100, "learner.settings.hidden": [32, 32]}

POINT_ROBOT = Variant("point-robot-pearl", "point_robot_pearl.yaml")
PEARL_QUICK = {
    "steps": 6400,
    "lanes": 16,
    "rollouts": 4,
    "learner.settings.hidden": [16],
    "learner.settings.critic_hidden": [32],
    "learner.settings.encoder_hidden": [16],
    "learner.settings.updates": 40,
    "learner.settings.tasks": 8,
    "learner.settings.batch": 16,
    "learner.settings.context": 32,
}

# points of a task → outer steps of benchmarks/reproduce/sinusoid.py, as many as in the paper on Reptile
SINUSOID = {5: 30_000, 10: 30_000}
SINUSOID_QUICK = {10: 250}

# task → its file; on a task every learner has the same number of environment steps
BUDGET = {"steps": 400_000, "lanes": 16, "workers": 1}
SWING_UP = {"steps": 750_000, "lanes": 32, "workers": 1}  # a pendubot costs a tenth of a half-cheetah
LOCOMOTION = {
    "half-cheetah velocity": Variant("half-cheetah-velocity", "half_cheetah_velocity.yaml", BUDGET),
    "pendubot swing-up": Variant("pendubot-swing-up", "pendubot_swing_up.yaml", SWING_UP),
    "half-cheetah direction": Variant("half-cheetah-direction", "half_cheetah_direction.yaml", BUDGET),
    "ant direction": Variant("ant-direction", "ant_direction.yaml", {**BUDGET, "steps": 100_000}),
}
GRADIENT_BASED = {"lanes": 40, "copies": 5, "rollouts": 2, "support": 1}  # learners that adapt between rollouts
OF_LEARNER: dict[str, dict[str, Any]] = {
    "fine_tune": {"rollouts": 4, "support": 3},
    "scratch": {"steps": 1},
}  # as in navigation
OF_LEARNER |= {  # each step is planned, in some 10 ms
    name: {
        "steps": 28_800,
        "lanes": 4,
        "learner.settings.model": {"members": 3},
        "learner.settings.planner": {"candidates": 40, "elites": 5, "iterations": 3},
    }
    for name in ("pets", "grbal", "rebal")
}
# What learns from a replay takes as many gradient steps as take about as long as the others' updates and simulation.
OF_LEARNER |= {name: {"learner.settings.updates": 2000} for name in ("sac", "dqn", "dqn_mapping")}
# Twice as fast, where there is what PyTorch compiles with; what is learned differs by rounding alone.
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
OF_LEARNER |= {name: {"compiled": COMPILER is not None} for name in ("ntm", "mann", "meta_networks")}
OF_LEARNER |= {"pearl": {"learner.settings.updates": 1000}}
# task → what `make compare` trains all learners with
COMPARED = {
    "pendubot swing-up": Variant("pendubot-varied", "pendubot_varied.yaml"),
    "half-cheetah velocity": LOCOMOTION["half-cheetah velocity"],
    "arm with a load": Variant("arm-lifts", "arm.yaml"),
}
LOCOMOTION_QUICK = {"steps": 480, "lanes": 8, "workers": 0, "rollouts": 3, "family.settings.horizon": 10}
QUICK_LEARNERS = ["rl2"]

# task → settings of policies/memory_training.py; lengths of recall as in the paper, of copying half of them
MEMORY = {"copy": {"longest": 10, "steps": 5000}, "recall": {"shortest": 2, "longest": 6, "steps": 10_000}}
MEMORY_QUICK = {"copy": {"longest": 2, "steps": 60}}

# learner → its training on the grid with a hidden goal
GRID_WORLD = {
    "varibad": Variant("grid-world-varibad", "grid_world_varibad.yaml"),
    "rl2": Variant("grid-world-rl2", "grid_world_rl2.yaml"),
}
GRID_WORLD_QUICK = {"steps": 6_000, "lanes": 50}

# kind of adaptation → its training on the arm; without extrinsics the module tells the parameters themselves
ARM, TOLD, ROBUST = "arm_rma.yaml", {"learner.settings.extrinsics": 0}, {"learner.name": "domain_randomised"}
SETTLED_ARM = {"steps": 800_000}
# Of an arm that acts on poor estimates, which trembles, the module learns on while the expert stays.
MODULE = {**SETTLED_ARM, "learner.settings.expert_share": 0.0}
RMA_ARM = {
    "RMA": Variant("arm-rma-settled", ARM, MODULE, after=Variant("arm-rma", ARM)),
    "system identification": Variant(
        "arm-sysid-settled", ARM, {**TOLD, **MODULE}, after=Variant("arm-sysid", ARM, TOLD)
    ),
    "robust": Variant("arm-robust-settled", ARM, {**ROBUST, **SETTLED_ARM}, after=Variant("arm-robust", ARM, ROBUST)),
}
RMA_QUICK = {"steps": 400, "lanes": 4, "workers": 0, "task.settings.duration": 1.0}

# (task, learner) → its training; rollouts are few, because every step is planned
CART, DISABLED = "cart-pole", "half-cheetah, disabled joint"
MODEL_BASED = {
    (CART, "PETS"): Variant("cartpole-swing-pets", "cartpole_swing_pets.yaml"),
    (DISABLED, "GrBAL"): Variant("half-cheetah-disabled-grbal", "half_cheetah_disabled_joint.yaml"),
    (DISABLED, "PETS"): Variant(
        "half-cheetah-disabled-pets", "half_cheetah_disabled_joint.yaml", {"learner.name": "pets"}
    ),
}
_BRIEF = {
    "lanes": 2,
    "workers": 0,
    "family.settings.horizon": 12,
    "learner.settings.batches": 5,
    "learner.settings.model": {"members": 2, "hidden": [16]},
    "learner.settings.planner": {"horizon": 4, "candidates": 8, "elites": 2, "iterations": 2},
}
MODEL_BASED_QUICK = {CART: {**_BRIEF, "steps": 48}, DISABLED: {**_BRIEF, "steps": 48}}

# DQN on cartpoles, whole and without one of its parts
CARTPOLE = {"steps": 64_000, "family.settings.horizon": 100, "learner.settings.updates": 60}
DQN = {
    name: Variant(f"cartpole-dqn{suffix}", "cartpole_dqn.yaml", {**CARTPOLE, **without})
    for name, suffix, without in (
        ("whole", "", {}),
        ("not double", "-single", {"learner.settings.double": False}),
        ("not dueling", "-plain", {"learner.settings.dueling": False}),
        ("not prioritised", "-uniform", {"learner.settings.replay.priority": 0.0}),
    )
}
DQN_QUICK = {"steps": 640, "family.settings.horizon": 20, "learner.settings.updates": 2}
# family → training of its mapping network, and the return that a task is to reach
DQN_MAPPING = {
    "cartpoles": (Variant("cartpole-dqn-mapping", "cartpole_dqn_mapping.yaml"), 90.0),
    "random MDPs": (Variant("tabular-dqn-mapping", "tabular_dqn_mapping.yaml"), 150.0),
}
_TINY = {
    "steps": 1000,
    "lanes": 8,
    "learner.settings.updates": 2,
    "learner.settings.inner": {"steps": 3, "later_steps": 3},
    "learner.settings.mapping": {"updates": 2, "library": 6, "transitions": 8},
}
DQN_MAPPING_QUICK = {
    "cartpoles": {**_TINY, "family.settings.horizon": 20},
    "random MDPs": {**_TINY, "family.settings.episodes": 2},
}

# curriculum → its training on carts with motors of all strengths
CURRICULA = {
    kind: Variant(f"cartpole-swing-{kind}", "cartpole_swing_varied.yaml", {"curriculum.kind": kind})
    for kind in ("none", "widen", "similar")
}
CURRICULA_QUICK = {"steps": 320, "lanes": 8, "family.settings.horizon": 20, "learner.settings.hidden": [16]}
# which tasks the replay holds → PEARL's training on its point robot; there is room for those of one trial, or for all
SHARED_REPLAY = {
    "tasks of all trials": POINT_ROBOT,
    "tasks of the last trial": Variant(
        "point-robot-pearl-unshared", "point_robot_pearl.yaml", {"learner.settings.replay.capacity": 64 * 10 * 20}
    ),
}
