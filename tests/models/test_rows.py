"""Rows of the world's batch: each plays by itself, and can be forked, undone, replaced, joined and split off."""

import pytest
import torch

from genie_gym.models.world_model import GenieWorldModel
from tests.models.world_helpers import Make, Videos, play, record_tokens, same, some_actions, tensors


@pytest.mark.parametrize("kind", ["additive", "token", "film", "full"])
def test_rows_do_not_depend_on_their_batch(make_world: Make, random_videos: Videos, kind: str) -> None:
    world, prompt, actions = make_world(kind), random_videos(4, 2), some_actions(4, 12)
    recorded = record_tokens(world)
    together = world.rollout(prompt, actions, seed=2)
    drawn = torch.cat(recorded, dim=1)
    for row in range(4):
        recorded.clear()
        alone = world.rollout(prompt[row : row + 1], actions[row : row + 1], seed=2 + row)
        assert same(alone[0], together[row])
        assert torch.equal(torch.cat(recorded, dim=1)[0], drawn[row])


def test_forks_are_independent(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Steps and replaced rows of a fork change no other fork, within and beyond the context."""
    state, _ = tiny_world.reset(random_videos(2, 1), [0, 1])
    state, _ = play(tiny_world, state, some_actions(2, 10))
    forks = [tiny_world.fork(state) for _ in range(3)]
    frames = play(tiny_world, forks[0], some_actions(2, 12, seed=1))[1]
    replaced, _ = tiny_world.replace(forks[1], [1], random_videos(1, 2), [9])
    play(tiny_world, replaced, some_actions(2, 12, seed=2))
    assert torch.equal(play(tiny_world, state, some_actions(2, 12, seed=1))[1], frames)
    assert not same(play(tiny_world, forks[2], some_actions(2, 12, seed=2))[1], frames)


@pytest.mark.parametrize("kind", ["additive", "token", "full", "spatial"])
def test_steps_are_undone_exactly(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Undo up to 20 steps of rows of different ages, beyond the context: replaying gives the same frames."""
    world, actions = make_world(kind), some_actions(2, 24)
    state, _ = world.reset(random_videos(2, 1), [0, 1])
    state, _ = play(world, state, actions[:, :3])
    state, _ = world.replace(state, [1], random_videos(1, 2), [9])
    backs, frames = [], []
    for each in actions.unbind(dim=1):
        backs.append(world.remember(state))
        state, frame = world.step(state, each)
        frames.append(frame)
    for back in (1, 2, 20):
        for number in range(24 - 1, 24 - 1 - back, -1):
            state = world.undo(state, backs[number])
        state, again = play(world, state, actions[:, 24 - back :])
        assert torch.equal(again, torch.stack(frames[24 - back :], dim=1))
    with pytest.raises(ValueError, match="state must be the latest"):
        world.remember(world.step(state, actions[:, 0])[0]._replace(version=state.version))


def test_only_the_latest_state_can_be_used(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """A step or a replacement overwrites the KV cache of earlier states, so these are refused everywhere."""
    actions = torch.zeros(2, dtype=torch.int64)
    first, _ = tiny_world.reset(random_videos(2, 1), [0, 1])
    second, _ = tiny_world.step(first, actions)
    third, _ = tiny_world.replace(second, [0], random_videos(1, 1), [5])
    for old in (first, second):
        for call in (
            lambda old=old: tiny_world.step(old, actions),
            lambda old=old: tiny_world.fork(old),
            lambda old=old: tiny_world.replace(old, [0], random_videos(1, 1), [5]),
        ):
            with pytest.raises(ValueError, match="state must be the latest"):
                call()
    tiny_world.step(third, actions)


def test_a_refused_call_changes_nothing(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    state, _ = tiny_world.reset(random_videos(2, 1), [0, 1])
    twin = tiny_world.fork(state)
    with pytest.raises(ValueError, match="latent_actions"):
        tiny_world.step(state, torch.tensor([0, 8]))
    with pytest.raises(ValueError, match="seeds"):
        tiny_world.replace(state, [1], random_videos(1, 1), [-1])
    actions = some_actions(2, 3)
    assert torch.equal(play(tiny_world, state, actions)[1], play(tiny_world, twin, actions)[1])


@pytest.mark.parametrize("kind", ["additive", "token", "full", "spatial"])
@pytest.mark.parametrize("age", [1, 12])
def test_replaced_rows_restart_and_others_go_on(make_world: Make, random_videos: Videos, kind: str, age: int) -> None:
    world, prompts = make_world(kind), random_videos(2, 3, seed=4)
    state, _ = world.reset(random_videos(4, 2), [0, 1, 2, 3])
    state, _ = play(world, state, some_actions(4, age))
    untouched = world.fork(state)
    replaced, first = world.replace(state, [2, 0], prompts, [11, 10])
    fresh, fresh_first = world.reset(prompts, [11, 10])
    assert torch.equal(first, fresh_first)
    actions = some_actions(4, 10, seed=1)
    frames = play(world, replaced, actions)[1]
    assert same(frames[[1, 3]], play(world, untouched, actions)[1][[1, 3]])
    assert same(frames[[2, 0]], play(world, fresh, actions[[2, 0]])[1])


@pytest.mark.parametrize("kind", ["additive", "token", "full"])
def test_playing_on_takes_constant_memory(make_world: Make, random_videos: Videos, kind: str) -> None:
    world, sizes = make_world(kind), {}
    state, _ = world.reset(random_videos(1, 1), [0])
    for step in range(1, 61):
        state, frame = world.step(state, some_actions(1, 1, seed=step)[:, 0])
        assert torch.isfinite(frame).all()
        if step in (1, 20, 60):
            sizes[step] = sum(tensor.untyped_storage().nbytes() for tensor in tensors(state))
    assert sizes[1] == sizes[20] == sizes[60]
    assert state.ages == (60,)


def test_joined_rows_play_as_if_alone(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Rows of different ages, within the context and beyond it; the states that were joined can still be played."""
    actions = torch.randint(8, (3, 24), generator=torch.Generator().manual_seed(0))
    states = []
    for row, age in enumerate((0, 3, 12)):
        state, _ = tiny_world.reset(random_videos(3, 1)[row : row + 1], [row])
        for action in actions[row, :age]:
            state, _ = tiny_world.step(state, action[None])
        states.append(state)
    joined = tiny_world.join(states)
    for step in range(12, 18):
        joined, together = tiny_world.step(joined, actions[:, step])
    apart = tiny_world.split(joined)
    for row in range(3):
        state = states[row]
        for action in actions[row, 12:18]:
            state, alone = tiny_world.step(state, action[None])
        torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=0)
        after, last = tiny_world.step(apart[row], actions[row, 18:19])
        assert after.ages == (state.ages[0] + 1,)
        torch.testing.assert_close(last, tiny_world.step(state, actions[row, 18:19])[1], atol=1e-4, rtol=0)


def test_rows_with_different_sampling_cannot_be_joined(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    states = [tiny_world.reset(random_videos(1, 1), [0], maskgit_steps=steps)[0] for steps in (1, 2)]
    for given in (states, []):
        with pytest.raises(ValueError, match="states must be at least one, all sampled alike"):
            tiny_world.join(given)
