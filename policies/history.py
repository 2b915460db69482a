"""What a policy keeps of its last steps, as plain numbers in the fast state: commands, and how angles changed.

Velocities that a sensor reports are noisy and late; differences of positions measure them in another way. `S` angles in
the observation, `A` action, `N` frames; leading dimensions are free.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class History(nn.Module):
    """Zeros as a rollout begins. With `frames` 0 it is the previous action alone.

    State: the previous action (A), then with frames the last angles (S), whether there were any (1), N-1 earlier
    differences (each S) and N-1 earlier actions (each A), the newest first. Actions are in units of their limit.
    """

    def __init__(self, angles: int, actions: int, frames: int) -> None:
        super().__init__()
        self.frames, self.angles, self.actions = frames, angles, actions
        self.parts = [actions]
        if frames:
            self.parts += [angles, 1, (frames - 1) * angles, (frames - 1) * actions]
        self.size = sum(self.parts)
        self.reads = max(frames, 1) * actions + frames * angles

    def read(self, angle: Tensor, state: Tensor) -> Tensor:
        """Angles (..., S) rad now and the state (..., size) → differences in rad, then actions, (..., reads)."""
        if not self.frames:
            return state
        action, before, seen, differences, actions = state.split(self.parts, dim=-1)
        return torch.cat([(angle - before) * seen, differences, action, actions], dim=-1)

    def advance(self, angle: Tensor, action: Tensor, state: Tensor) -> Tensor:
        """The state after this step's action (..., A)."""
        if not self.frames:
            return action
        read = self.read(angle, state)
        differences = read[..., : (self.frames - 1) * self.angles]
        actions = read[..., self.frames * self.angles :][..., : (self.frames - 1) * self.actions]
        return torch.cat([action, angle, torch.ones_like(angle[..., :1]), differences, actions], dim=-1)

    def trace(self, angle: Tensor, action: Tensor) -> Tensor:
        """Angles (..., T+1, S), actions (..., T, A) → states before each step and after the last, (..., T+1, size)."""
        previous = later(action, 1)
        if not self.frames:
            return previous
        seen = torch.ones_like(angle[..., :1])
        seen[..., 0, :] = 0
        moved = angle.diff(dim=-2)
        earlier = range(1, self.frames)
        parts = [
            previous,
            later(angle[..., :-1, :], 1),
            seen,
            *(later(moved, 1 + by) for by in earlier),
            *(later(action, 1 + by) for by in earlier),
        ]
        return torch.cat(parts, dim=-1)


def later(values: Tensor, steps: int) -> Tensor:
    """Values (..., T, ·) of so many steps before, zeros where there were none, (..., T+1, ·)."""
    kept = max(values.shape[-2] + 1 - steps, 0)
    empty = torch.zeros_like(values[..., :1, :]).expand(*values.shape[:-2], values.shape[-2] + 1 - kept, -1)
    return torch.cat([empty, values[..., :kept, :]], dim=-2)
