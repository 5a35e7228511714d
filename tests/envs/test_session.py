"""Sessions: undo, and several sessions stepped in one pass, with a real world of random weights."""

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from genie_gym.envs import WorldHandle, zero_rewards
from genie_gym.envs.session import Session, Start, step_together
from genie_gym.models.world_model import GenieWorldModel

PLAYING = np.array([True, True])


def started(world: GenieWorldModel, seeds: tuple[int, ...] = (0, 1), undo_steps: int = 2) -> Session:
    session = Session(WorldHandle(world), reward_fn=zero_rewards, undo_steps=undo_steps)
    session.start([Start(world.start_clips[0], -1, seed) for seed in seeds])
    return session


def test_undo_takes_back_the_steps_of_all_rows(tiny_world: GenieWorldModel) -> None:
    session, frames = started(tiny_world), []
    for action in (1, 2, 3):
        frames.append(session.frames)
        session.step(np.array([action, action + 1]), PLAYING)
    last = session.frames
    assert session.undo()
    assert np.array_equal(session.frames, frames[2])
    session.step(np.array([3, 4]), PLAYING)
    assert np.array_equal(session.frames, last), "a step that is undone and repeated leads to the same frame"
    assert session.undo()
    assert session.undo()
    assert np.array_equal(session.frames, frames[1])
    assert not session.undo(), "only undo_steps in a row can be undone"
    assert np.array_equal(session.frames, frames[1])


def test_a_restart_ends_what_can_be_undone(tiny_world: GenieWorldModel) -> None:
    session = started(tiny_world)
    session.step(np.array([1, 1]), PLAYING)
    session.restart([1], [Start(tiny_world.start_clips[1], 1, 5)])
    assert not session.undo()


def test_without_undo_steps_nothing_is_remembered(tiny_world: GenieWorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_world, "remember", lambda state: pytest.fail("the state was remembered"))
    session = started(tiny_world, undo_steps=0)
    session.step(np.array([1, 1]), PLAYING)
    assert not session.undo()


def test_undo_needs_a_start(tiny_world: GenieWorldModel) -> None:
    session = Session(WorldHandle(tiny_world), reward_fn=zero_rewards, undo_steps=2)
    for error in (ResetNeeded, ValueError):
        with pytest.raises(error, match=r"reset\(\) must be called"):
            session.undo()
    with pytest.raises(ResetNeeded):
        step_together([session, started(tiny_world, (0,))], np.array([1, 1]))


def test_sessions_stepped_together_can_be_undone_by_themselves(tiny_world: GenieWorldModel) -> None:
    sessions = [started(tiny_world, (seed,)) for seed in (0, 1)]
    first = [session.frames for session in sessions]
    step_together(sessions, np.array([1, 2]))
    second = sessions[1].frames
    assert sessions[0].undo()
    assert np.array_equal(sessions[0].frames, first[0])
    assert np.array_equal(sessions[1].frames, second)
    assert not np.array_equal(second, first[1])
