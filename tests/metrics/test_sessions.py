"""Long play: sessions under policies, frozen states, and distances beside the game's."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import open_games
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.sessions import (
    Policy,
    RandomLatentPolicy,
    compare_distances,
    play_game,
    play_sessions,
    repeat_probability,
    score_sessions,
)
from genie_gym.metrics.starts import RIGHT, Starts, draw_starts, hold_key

GAMES = 4
SMALL = EvaluateConfig(modes=("easy",), levels="validation", sessions=GAMES, session_steps=8)


class Rolled(NamedTuple):
    """State of ``RollingWorld``."""

    frames: Tensor
    age: int


class RollingWorld:
    """Action 0 moves the player 2 pixels right a step, and 1 to the left, up to a step after which nothing moves."""

    config = SimpleNamespace(num_latent_actions=3)
    device = torch.device("cpu")
    moves = (-2, 2, 0)

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def reset(self, prompts: Tensor, seeds: range) -> tuple[Rolled, Tensor]:
        return Rolled(prompts[:, -1], 0), prompts[:, -1]

    def step(self, state: Rolled, latent_actions: Tensor) -> tuple[Rolled, Tensor]:
        moves = [self.moves[action] if state.age < self.lives else 0 for action in latent_actions.tolist()]
        rows = zip(state.frames, moves, strict=True)
        frames = torch.stack([torch.roll(frame, move, dims=-1) for frame, move in rows])
        return Rolled(frames, state.age + 1), frames

    def fork(self, state: Rolled) -> Rolled:
        return state

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int) -> Tensor:
        state, frame = self.reset(prompts, range(0))
        frames = [prompts]
        for actions in latent_actions.unbind(dim=1):
            state, frame = self.step(state, actions)
            frames.append(frame[:, None])
        return torch.cat(frames, dim=1)


class ReplayingWorld(RollingWorld):
    """Shows given videos, whatever the latent actions."""

    def __init__(self, videos: Tensor) -> None:
        self.videos = videos

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int) -> Tensor:
        return self.videos


@pytest.fixture(scope="module")
def starts() -> Starts:
    return draw_starts("easy", "validation", GAMES, seed=0)


def play(world: RollingWorld, starts: Starts, policy: Policy, steps: int) -> tuple[np.ndarray, Tensor]:
    return play_sessions(world, starts.frames, policy, steps, seed=0)  # type: ignore[arg-type]


def test_a_world_that_stops_counts_as_frozen_from_then_on(starts: Starts) -> None:
    frames, is_frozen = play(RollingWorld(lives=10), starts, lambda frames, actions: 0, 16)
    assert is_frozen.tolist() == [[False, False, True, True]] * GAMES
    assert frames.shape == (GAMES, 17, 64, 64, 3)
    assert np.array_equal(frames[:, 0], starts.frames[:, -1])
    assert np.array_equal(frames[:, 10], frames[:, -1])


def test_holding_actions_does_not_disturb_the_session(starts: Starts) -> None:
    frames = play(RollingWorld(lives=100), starts, lambda frames, actions: 0, 8)[0]
    moved = np.stack([np.roll(starts.frames[:, -1], -2 * step, axis=2) for step in range(9)], axis=1)
    assert np.array_equal(frames, moved)


def test_a_policy_is_given_the_last_frames_and_the_actions_between_them(starts: Starts) -> None:
    given: list[tuple[np.ndarray, np.ndarray]] = []

    def policy(frames: np.ndarray, latent_actions: np.ndarray) -> int:
        given.append((frames, latent_actions))
        return len(given) // GAMES % 3

    frames = play(RollingWorld(lives=100), starts, policy, 20)[0]
    of_row = given[1::GAMES]
    assert [len(shown) for shown, _ in of_row] == [min(step, 16) for step in range(1, 21)]
    assert [len(actions) for _, actions in of_row] == [min(step, 16) - 1 for step in range(1, 21)]
    assert np.array_equal(of_row[-1][0], frames[1, 4:20])
    assert of_row[-1][1].tolist() == [(GAMES * step + 2) // GAMES % 3 for step in range(4, 19)]


def test_random_actions_persist_as_the_labels_they_are_fitted_on() -> None:
    policy = RandomLatentPolicy(8, repeat=0.6, seed=0)
    actions = np.empty(0, dtype=np.int64)
    for _ in range(6000):
        actions = np.append(actions, policy(np.empty(0), actions))
    assert set(actions.tolist()) == set(range(8))
    assert repeat_probability(torch.from_numpy(actions)[None], 8) == pytest.approx(0.6, abs=0.03)
    assert repeat_probability(torch.arange(8)[None], 8) == 0, "labels that never persist are not repeated"


def test_real_play_moves_and_continues_after_keys_are_held(starts: Starts) -> None:
    once, again = (play_game(starts, "easy", "validation", steps, seed=0) for steps in (4, 8))
    assert np.array_equal(once.frames[:, 0], starts.frames[:, -1])
    assert np.array_equal(once.frames, again.frames[:, :5]), "held keys must not change the play after them"
    assert float(again.is_frozen.double().mean()) < 0.5
    assert not np.array_equal(again.frames[:, 0], again.frames[:, -1])


def test_distances_are_compared_up_to_the_end_of_each_game(starts: Starts) -> None:
    config = restrict(RecordConfig(mode="easy"), "validation")
    games = open_games(config, seed=0, num_envs=GAMES)
    frames, lasts = hold_key(games, starts.states, RIGHT, 32)
    games.close()
    replayed = to_float(frames).clone()
    for row, last in enumerate(lasts.tolist()):
        replayed[row, last + 1 :] = torch.rand_like(replayed[row, last + 1 :])
    arguments = (starts, "easy", "validation", 0, 0)
    same = compare_distances(ReplayingWorld(replayed), *arguments)  # type: ignore[arg-type]
    assert (same["share"], same["interval"]) == (1, [1, 1]), "what comes after the end of a game does not count"
    still = compare_distances(RollingWorld(lives=0), *arguments)  # type: ignore[arg-type]
    assert (still["share"], still["interval"]) == (0, [0, 0])


def test_a_world_that_repeats_its_start_keeps_its_player_but_is_frozen() -> None:
    policies = {"held": lambda frames, actions: 0, "other": RandomLatentPolicy(3, 0.9, seed=0)}
    world = RollingWorld(lives=0)
    scores = score_sessions(world, SMALL, policies, right=0)  # type: ignore[arg-type]
    assert (scores["games"], scores["steps"], scores["right_action"]) == (GAMES, 8, 0)
    part = scores["by_mode"]["easy"]
    assert part["player_seen_real"]["share"] > 0.9
    assert part["frozen_real"]["share"] < 0.5
    assert part["distance_ratio"]["share"] == 0
    assert set(part["policies"]) == {"held", "other"}
    for policy in part["policies"].values():
        assert [row["t"] for row in policy["player_seen"]] == [8]
        assert policy["player_seen"][0]["share"] > 0.5
        assert policy["frozen"] == {"share": 1, "interval": [1, 1]}


def test_a_player_that_is_lost_is_not_seen(starts: Starts) -> None:
    class EmptyWorld(RollingWorld):
        def step(self, state: Rolled, latent_actions: Tensor) -> tuple[Rolled, Tensor]:
            return state, torch.full_like(state.frames, 0.5)

    policies = {"held": lambda frames, actions: 0}
    scores = score_sessions(EmptyWorld(lives=0), SMALL, policies, right=0)  # type: ignore[arg-type]
    assert scores["by_mode"]["easy"]["policies"]["held"]["player_seen"][0]["share"] == 0
