"""The replay: what comes back is what went in, after a crash and a resume as well; draws have their frequencies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt import records
from adapt.episodes import Episodes
from adapt.replay import FILE, Replay, ReplaySettings, Transitions
from adapt.sum_tree import SumTree
from hardware_io.config import ConfigError
from hardware_io.interface import Interface

INTERFACE = Interface(observation=2, limit=(1.0,))


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that a few records fill several."""
    monkeypatch.setattr(records, "BLOCK", 8)
    yield


def episodes_of(lengths: list[int], start: int = 0, terminated: bool = False) -> Episodes:
    """One rollout of each of B robots, as long as said; every number in it says which step it was."""
    steps = max(lengths)
    step = start + torch.arange(len(lengths) * steps, dtype=torch.float32).view(len(lengths), 1, steps)
    valid = torch.arange(steps) < torch.tensor(lengths)[:, None, None]
    ended = (torch.arange(steps) == torch.tensor(lengths)[:, None, None] - 1) & torch.tensor(terminated)
    after = torch.cat([step, step[..., -1:] + 1], -1)
    fast = torch.zeros(len(lengths), 1, 1)
    action = step[..., None] / 1000
    return Episodes(torch.stack([after, -after], -1), action, action, torch.zeros_like(action), 10 * step, valid,
                    ended, fast, fast[:, 0], None)  # fmt: skip


def replay_of(folder: Path | None = None, extra: dict[str, int] | None = None, **settings: Any) -> Replay:
    replay = Replay(INTERFACE, ReplaySettings(**settings), extra)
    if folder is not None:
        replay.keep_in(folder)
    return replay


def steps_in(replay: Replay) -> list[int]:
    """Which steps it holds."""
    return sorted(set(replay.sample(600).observation[:, 0].int().tolist())) if len(replay) else []


def steps_of(transitions: Transitions) -> list[int]:
    return transitions.observation[..., 0].int().flatten().tolist()


@pytest.mark.parametrize("on_disk", [False, True])
def test_transitions_are_as_they_were_lived(on_disk: bool, tmp_path: Path) -> None:
    replay = replay_of(tmp_path / "kept" if on_disk else None, {"context": 3})
    episodes = episodes_of([5, 3], terminated=True)
    context = torch.arange(2 * 5 * 3, dtype=torch.float32).view(2, 1, 5, 3)
    replay.append(episodes, [7, 9], {"context": context})
    assert len(replay) == 8 and replay.partitions == [7, 9]
    drawn = replay.sample(500)
    step = drawn.observation[:, 0]
    assert set(step.int().tolist()) == {0, 1, 2, 3, 4, 5, 6, 7}, "steps after the end of a rollout are left out"
    assert torch.equal(drawn.observation[:, 1], -step) and torch.equal(drawn.next_observation[:, 0], step + 1)
    assert torch.allclose(drawn.action[:, 0], step / 1000) and torch.equal(drawn.reward, 10 * step)
    assert torch.equal(drawn.terminated, ((step == 4) | (step == 7)).float())
    assert torch.equal(drawn.partition, torch.where(step < 5, 7, 9)) and torch.all(drawn.weight == 1)
    assert torch.equal(drawn.extra["context"], context.view(10, 3)[step.long()])
    whole, parts = drawn.observation, drawn.parts(4)
    assert [len(part.reward) for part in parts] == [125] * 4
    assert torch.equal(torch.cat([part.observation for part in parts]), whole)
    assert torch.equal(parts[1].extra["context"], drawn.extra["context"][125:250])


def test_a_partition_is_drawn_from_alone_wherever_its_parts_lie() -> None:
    replay = replay_of()
    replay.append(episodes_of([4, 4]), [1, 2])
    replay.append(episodes_of([4], start=100), [1])
    drawn = replay.sample_of([2, 1, 2], 300)
    assert drawn.observation.shape == (3, 300, 2) and drawn.reward.shape == (3, 300)
    assert drawn.partition[:, 0].tolist() == [2, 1, 2]
    assert set(steps_of(drawn.parts(3)[0])) == {4, 5, 6, 7}
    counts = np.bincount(steps_of(drawn.parts(3)[1]), minlength=104)
    assert set(np.flatnonzero(counts)) == {0, 1, 2, 3, 100, 101, 102, 103} and counts[counts > 0].min() > 15
    with pytest.raises(KeyError, match="3"):
        replay.sample_of([3], 1)


def test_what_was_lived_ends_at_a_random_moment() -> None:
    replay = replay_of()
    replay.append(episodes_of([6, 4]), [1, 2])
    replay.append(episodes_of([3], start=100), [1])
    order, ends = [0, 1, 2, 3, 4, 5, 100, 101, 102], set()
    drawn, counts = replay.sample_lived([1] * 400, 5)
    for steps, counted in zip(drawn.observation[..., 0].int().tolist(), counts.tolist(), strict=True):
        places = [order.index(step) for step in steps[: sum(counted)]]
        assert counted == sorted(counted, reverse=True), "those that count come first"
        assert places == sorted(places), "in the order in which they came"
        if len(places) < 5:
            assert places == list(range(len(places))), "all of it"
        ends.add(places[-1] if places else -1)
    assert ends == set(range(-1, 9))
    share = counts.float().mean(0)
    torch.testing.assert_close(share, torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0]) / 10, atol=0.1, rtol=0)
    with pytest.raises(KeyError, match="3"):
        replay.sample_lived([3], 1)


def test_the_oldest_partitions_make_room() -> None:
    replay = replay_of(capacity=10)
    for key in range(4):
        replay.append(episodes_of([4], start=10 * key), [key])
        assert len(replay) == [4, 8, 8, 8][key]
    assert replay.partitions == [2, 3] and steps_in(replay) == [20, 21, 22, 23, 30, 31, 32, 33]
    replay.append(episodes_of([15], start=100), [9])
    assert replay.partitions == [9] and steps_in(replay) == list(range(105, 115)), (
        "what is too long loses its beginning"
    )


def test_the_file_does_not_grow_with_what_was_forgotten(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, capacity=20)
    for index in range(60):
        replay.append(episodes_of([5], start=100 * index), [index])
    assert (tmp_path / FILE).stat().st_size < records.HEAD + 10 * records.BLOCK * replay.bytes
    assert steps_in(replay) == [100 * index + step for index in range(56, 60) for step in range(5)]


def test_a_resumed_store_goes_on_exactly(tmp_path: Path) -> None:
    """Also when so much came after the state that everything in it had been forgotten."""
    replay = replay_of(tmp_path, capacity=20, priority=1.0)
    for index in range(5):
        replay.append(episodes_of([6], start=100 * index), [index])
    replay.prioritise(replay.sample(8).number, torch.arange(8.0))
    state, random = replay.state_dict(), torch.get_rng_state()

    def go_on(store: Replay) -> list[Transitions]:
        drawn = [store.sample(50), store.sample_of(store.partitions, 3)]
        for index in range(5, 15):
            store.append(episodes_of([6], start=100 * index), [index])
            store.prioritise(store.sample(4).number, torch.full((4,), float(index)))
            drawn += [store.sample(50)]
        return drawn

    expected = go_on(replay)
    for _ in range(2):  # a crash, and another one
        again = replay_of(tmp_path, capacity=20, priority=1.0)
        again.load_state_dict(state)
        assert again.partitions == [2, 3, 4] and len(again) == 18
        torch.set_rng_state(random)
        for one, other in zip(expected, go_on(again), strict=True):
            assert torch.equal(one.observation, other.observation) and torch.equal(one.weight, other.weight)
            assert torch.equal(one.number, other.number) and torch.equal(one.partition, other.partition)


def test_what_two_states_need_is_never_written_over(tmp_path: Path) -> None:
    """The older one is still in force while the file that holds the newer one is written."""
    replay = replay_of(tmp_path, capacity=20)
    states, held = [], []
    for index in range(40):
        replay.append(episodes_of([5], start=100 * index), [index])
        if index % 8 == 3:
            states.append(replay.state_dict())
            held.append(steps_in(replay))
            for state, steps in list(zip(states, held, strict=True))[-2:]:
                other = tmp_path / f"copy {index}"
                other.mkdir(exist_ok=True)
                (other / FILE).write_bytes((tmp_path / FILE).read_bytes())
                back = replay_of(other, capacity=20)
                back.load_state_dict(state)
                assert steps_in(back) == steps


def test_a_file_cut_anywhere_in_its_last_record_loses_that_record_alone(tmp_path: Path) -> None:
    replay = replay_of(tmp_path)
    replay.append(episodes_of([8, 8]), [0, 1])  # two whole blocks: the file ends with the last record
    state, content = replay.state_dict(), (tmp_path / FILE).read_bytes()
    assert len(content) == records.HEAD + 16 * replay.bytes
    for missing in range(1, replay.bytes + 1):
        (tmp_path / FILE).write_bytes(content[:-missing])
        back = replay_of(tmp_path)
        with pytest.warns(UserWarning, match=rf"{FILE}: 1 of 16 records are damaged and left out"):
            back.load_state_dict(state)
        assert len(back) == 15 and back.partitions == [0, 1] and steps_in(back) == list(range(15))


def test_a_damaged_record_ends_what_is_read_and_the_store_goes_on(tmp_path: Path) -> None:
    replay = replay_of(tmp_path)
    replay.append(episodes_of([8, 8, 8]), [0, 1, 2])
    state, content = replay.state_dict(), (tmp_path / FILE).read_bytes()
    for place in range(replay.bytes):
        damaged = bytearray(content)
        damaged[records.HEAD + 10 * replay.bytes + place] ^= 1
        (tmp_path / FILE).write_bytes(damaged)
        back = replay_of(tmp_path)
        with pytest.warns(UserWarning, match="14 of 24 records"):
            back.load_state_dict(state)
        assert steps_in(back) == list(range(10))
    back.append(episodes_of([9], start=50), [5])
    back.load_state_dict(back.state_dict())
    assert steps_in(back) == [*range(10), *range(50, 59)] and back.partitions == [0, 1, 5]
    (tmp_path / FILE).write_bytes(content[: records.HEAD])
    with pytest.warns(UserWarning, match="24 of 24 records"):
        back.load_state_dict(state)
    assert len(back) == 0 and back.partitions == []
    with pytest.raises(ValueError, match="empty"):
        back.sample(1)


def test_a_store_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    replay = replay_of(tmp_path)
    replay.append(episodes_of([8]), [0])
    state = replay.state_dict()
    with pytest.raises(ConfigError, match=rf"{FILE}: columns: got .*'reward': 1.*allowed: .*'context': 3"):
        replay_of(tmp_path, {"context": 3}).load_state_dict(state)
    with pytest.raises(ConfigError, match=rf"elsewhere/{FILE}: .*no such file.*8 records"):
        replay_of(tmp_path / "elsewhere").load_state_dict(state)
    with pytest.raises(ConfigError, match=r"folder.*8 records"):
        replay_of().load_state_dict(state)
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=f"{FILE}: columns: got 'unreadable'"):
        replay.load_state_dict(state)


def test_a_training_that_begins_anew_leaves_nothing_of_an_old_file(tmp_path: Path) -> None:
    old = replay_of(tmp_path)
    old.append(episodes_of([20]), [0])
    new = replay_of(tmp_path)
    new.append(episodes_of([3], start=70), [0])
    assert steps_in(new) == [70, 71, 72]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new.load_state_dict(new.state_dict())
    assert steps_in(new) == [70, 71, 72]


def test_priorities_are_frequencies_and_weights_undo_them() -> None:
    torch.manual_seed(0)
    replay = replay_of(capacity=64, priority=0.5, correction=1.0)
    replay.append(episodes_of([4]), [0])
    replay.prioritise(torch.arange(4), torch.tensor([1.0, -4.0, 9.0, 16.0]))
    drawn = replay.sample(20_000)
    share = torch.bincount(drawn.number, minlength=4) / 20_000
    assert share.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.012), "the root of the errors' sizes"
    assert drawn.weight[drawn.number == 0][0] == 1
    assert float(drawn.weight[drawn.number == 3][0]) == pytest.approx(0.25, abs=1e-4)
    replay.append(episodes_of([1], start=50), [1])
    share = torch.bincount(replay.sample(20_000).number, minlength=5) / 20_000
    assert float(share[4]) == pytest.approx(4 / 14, abs=0.012), "what was never drawn has the greatest priority"


def test_a_tree_of_sums_finds_what_running_sums_find() -> None:
    rng, tree = np.random.default_rng(0), SumTree(5000)
    priorities = rng.uniform(size=5000) * (rng.uniform(size=5000) < 0.3)
    tree.set(np.arange(5000), priorities)
    assert tree.total == pytest.approx(priorities.sum())
    shares = np.append(rng.uniform(size=1000), [0.0, 1 - 1e-16])
    found = tree.find(shares)
    assert np.all(priorities[found] > 0)
    expected = np.searchsorted(priorities.cumsum(), shares * priorities.sum(), side="right")
    assert (found[:-1] == expected[:-1]).mean() > 0.999  # rounding at an edge may fall to a neighbour
    tree.set(np.array([3, 4000, 3]), [2.0, 5.0, 2.0])
    priorities[[3, 4000]] = 2.0, 5.0
    assert tree.total == pytest.approx(priorities.sum()) and tree.get(np.array([4000])).tolist() == [5.0]
