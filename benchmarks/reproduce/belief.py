"""What VariBAD expects of the cells of a grid, step by step, and a drawing of it.

`B` rollouts, `T` steps, `S` cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.episodes import Episodes
from adapt.rollout import begin_trial, rollout
from adapt.run_folder import Run
from adapt.train import one_thread
from adapt.varibad import VariBAD
from hardware_io.state import Array
from policies.varibad import draw
from sim.families.grid_world import MOVES, GridWorld
from sim.vector_env import VectorEnv

SEED = 34_500
DRAWS = 16  # latents of one belief
CELL, GAP, COLUMNS = 14, 12, 8  # px; steps side by side


@dataclass(frozen=True)
class Beliefs:
    """Before each step of rollouts."""

    expected: (
        Array  # (B, T, S) the reward decoder's answers as probabilities: 0 what a step costs, 1 what the goal pays
    )
    visited: NDArray[np.bool_]  # (B, T, S) of the cells where a goal may be
    others: NDArray[np.bool_]  # (B, T, S) of these cells, those that were not
    found: NDArray[np.bool_]  # (B, T) whether the goal was


@torch.no_grad()
def beliefs(run: Run, rollouts: int) -> Beliefs:
    """Of one rollout on each of so many grids: what a move into a cell would pay.

    The mean over moves, each with the weight of how often it was made, plus one: of moves that are never made, the
    decoder knows nothing.
    """
    learner, family = run.learner, run.family
    assert isinstance(learner, VariBAD) and isinstance(family, GridWorld)
    with one_thread(), VectorEnv(family, rollouts, workers=0, groups=1) as envs:
        fast = begin_trial(envs, learner, 1, np.random.default_rng(SEED), "test")
        lived = rollout(envs, learner, fast, 1, (SEED, 1), explore=True)
    size, paid = family.settings.size, (family.settings.step_reward, family.settings.goal_reward)
    before, action = (each.ravel() for each in np.indices((size**2, len(MOVES))))
    after = _reached(before, action, size)
    moves = (before != after).nonzero()[0]
    place, acted = _lived(lived, size**2)
    made = np.bincount((place * len(MOVES) + acted).ravel(), minlength=len(before)) + 1
    state = learner.state(torch.eye(size**2, family.interface.observation))
    asked = torch.cat([state[before[moves]], torch.eye(len(MOVES))[action[moves]], state[after[moves]]], dim=-1)
    into = torch.eye(size**2)[after[moves]] * torch.tensor(made[moves], dtype=torch.float32)[:, None]
    belief = learner.beliefs(learner.inputs(lived)[:, :, :-1], fast[:, : learner.memory_size], lived.valid)
    answers = torch.stack([_answers(learner, one, asked) for one in belief.unbind(1)], dim=1)
    expected = ((answers @ into / into.sum(0)).double().numpy() - paid[0]) / (paid[1] - paid[0])
    return Beliefs(expected, *_history(lived, family))


def _answers(learner: VariBAD, belief: Tensor, asked: Tensor) -> Tensor:
    """Rewards (B, M) that latents drawn from a belief (B, 2Z) foretell of moves (M, ·), their mean."""
    latent = draw(belief.repeat_interleave(DRAWS, dim=0))
    pairs = [latent[:, None].expand(-1, len(asked), -1), asked.expand(len(latent), -1, -1)]
    answers: Tensor = learner.decoders["reward"](torch.cat(pairs, dim=-1))
    return answers.view(-1, DRAWS, len(asked)).mean(1)


def _history(lived: Episodes, family: GridWorld) -> tuple[NDArray[np.bool_], ...]:
    """Which cells were visited before each step, which were not, and whether the goal was found by then."""
    size, cells = family.settings.size, family.settings.size**2
    reached = np.eye(cells, dtype=bool)[_reached(*_lived(lived, cells), size)]
    visited = np.cumsum(reached, axis=1) - reached > 0
    found = (lived.reward[:, 0] > 0).numpy()
    column, row = family.goals().astype(np.intp).T
    possible = np.isin(np.arange(cells), row * size + column)
    return visited & possible, ~visited & possible, np.cumsum(found, axis=1) - found > 0


def _lived(lived: Episodes, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Cell and action of each step, (B, T) each."""
    return lived.observation[:, 0, :-1, :cells].argmax(-1).numpy(), lived.asked[:, 0].argmax(-1).numpy()


def _reached(place: NDArray[np.intp], action: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Cells after actions in other cells, as `GridWorldBlock` moves."""
    row, column = np.divmod(place, size)
    column, row = np.clip(np.stack([column, row], axis=-1) + MOVES[action], 0, size - 1).T
    reached: NDArray[np.intp] = (row * size + column).T
    return reached


def drawing(beliefs: Beliefs) -> str:
    """The longest search as SVG: the darker a cell, the more the goal is expected there; visited ones framed in red."""
    longest = int((~beliefs.found).sum(axis=1).argmax())
    expected, steps = beliefs.expected[longest], int((~beliefs.found[longest]).sum())
    size = math.isqrt(expected.shape[1])
    wide, parts = size * CELL + GAP, ['<rect width="100%" height="100%" fill="white"/>']
    for step in range(steps):
        left, top = GAP + step % COLUMNS * wide, 2 * GAP + step // COLUMNS * (wide + GAP)
        parts.append(f'<text x="{left}" y="{top - 3}" font-size="9" font-family="sans-serif">step {step}</text>')
        for cell in range(size**2):
            row, column = divmod(cell, size)
            frame = "#c00" if beliefs.visited[longest, step, cell] else "#ccc"
            parts.append(
                f'<rect x="{left + column * CELL}" y="{top + (size - 1 - row) * CELL}" width="{CELL - 2}"'
                f' height="{CELL - 2}" fill="#036" fill-opacity="{np.clip(expected[step, cell], 0, 1):.2f}"'
                f' stroke="{frame}"/>'
            )
    height = 2 * GAP + math.ceil(steps / COLUMNS) * (wide + GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{GAP + COLUMNS * wide}" height="{height}">'
    return "\n".join([head, *parts, "</svg>"]) + "\n"
