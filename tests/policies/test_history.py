"""What is kept of the last steps: step after step, and of whole rollouts at once."""

import pytest
import torch

from policies.history import History


@pytest.mark.parametrize("frames", [0, 1, 3, 8])
def test_the_trace_of_a_rollout_is_step_after_step(frames: int) -> None:
    torch.manual_seed(0)
    history, angle, action = History(2, 1, frames), torch.randn(4, 7, 2), torch.randn(4, 6, 1)
    trace, state = history.trace(angle, action), torch.zeros(4, history.size)
    assert trace.shape == (4, 7, history.size)
    for step in range(7):
        assert torch.equal(trace[:, step], state)
        assert history.read(angle[:, step], state).shape == (4, history.reads)
        if step < 6:
            state = history.advance(angle[:, step], action[:, step], state)


def test_what_is_read_by_hand() -> None:
    history = History(angles=1, actions=1, frames=2)
    angle, action = torch.tensor([[[3.0], [3.5], [3.25]]]), torch.tensor([[[0.1], [-0.2]]])
    read = history.read(angle, history.trace(angle, action))
    # Differences, the newest first and none as a rollout begins, then actions.
    wanted = [[0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.1, 0.0], [-0.25, 0.5, -0.2, 0.1]]
    assert torch.allclose(read, torch.tensor([wanted]))


def test_without_frames_it_is_the_previous_action() -> None:
    history = History(angles=2, actions=1, frames=0)
    assert history.size == history.reads == 1
    assert torch.equal(
        history.advance(torch.ones(1, 2), torch.full((1, 1), 0.5), torch.zeros(1, 1)), torch.tensor([[0.5]])
    )
