"""Levels played once each, by agents and through latent actions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.acting import PlayerAgent, SeenThroughLatents
from agents.evaluation import choose_levels, play_levels
from agents.game import COINRUN, ProcgenGame
from agents.mapping import ActionMapping
from genie_gym.data.config import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import open_games, open_levels
from genie_gym.players.specs import load_player


class Recorder:
    """An agent that goes right and jumps, and records the calls of ``act``."""

    sees_velocity = False

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []
        self.starts: list[np.ndarray] = []

    def act(self, rows: np.ndarray, frames: np.ndarray, episode_starts: np.ndarray) -> np.ndarray:
        assert len(rows) == len(frames) == len(episode_starts)
        self.asked.append(rows)
        self.starts.append(episode_starts)
        return np.full(len(rows), 8 if len(self.asked) % 3 else 7, dtype=np.int32)


def test_each_level_is_played_once_to_its_end() -> None:
    agent, levels = Recorder(), choose_levels("validation", 6)
    outcome = play_levels(agent, COINRUN, levels)
    assert set(outcome.solved) <= {0.0, 1.0}
    asked = np.bincount(np.concatenate(agent.asked), minlength=6)
    assert np.array_equal(asked, outcome.env_steps)
    assert agent.starts[0].all()
    assert not any(starts.any() for starts in agent.starts[1:])
    again = play_levels(Recorder(), COINRUN, levels)
    assert np.array_equal(again.solved, outcome.solved)
    assert np.array_equal(again.env_steps, outcome.env_steps)


def test_levels_begin_as_they_do_in_a_game_of_their_own() -> None:
    levels = [20_007, 3, 20_007]
    games = ProcgenGame(mode="hard").open_levels(levels)
    now = games.observe()
    assert list(now.level_seeds) == levels
    assert np.array_equal(now.frames[0], now.frames[2])
    alone = open_games(RecordConfig(mode="hard", start_level=3, num_levels=1), seed=5, num_envs=1)
    assert np.array_equal(alone.observe().frames[0], now.frames[1])
    for _ in range(200):
        games.act(np.full(3, 8, dtype=np.int32))
        assert list(games.observe().level_seeds) == levels
    games.close()
    with pytest.raises(ValueError, match="one or more level seeds"):
        open_levels(RecordConfig(), [])


def test_a_trained_player_solves_more_than_a_random_one() -> None:
    levels = choose_levels("validation", 30)
    trained = play_levels(PlayerAgent(load_player("expert")), COINRUN, levels)
    chance = play_levels(PlayerAgent(load_player("random")), COINRUN, levels)
    assert trained.solved.mean() > chance.solved.mean()


def test_missing_levels_are_rejected() -> None:
    assert choose_levels("test", 2) == [20_000, 20_001]
    with pytest.raises(ValueError, match=r"in 1..1000, the test levels, got 1001"):
        choose_levels("test", 1001)


class Looker:
    """A world with one latent action; keeps the frames that it was asked about."""

    latent_action_model = SimpleNamespace(frames_seen=3)

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.seen: list[Tensor] = []

    def label(self, videos: Tensor) -> Tensor:
        assert videos.device == self.device
        self.seen.append(videos)
        return torch.zeros(len(videos), videos.shape[1] - 1, dtype=torch.int64)


@pytest.mark.parametrize("mapped", [8, 1])
def test_a_player_seen_through_latents_looks_one_step_ahead(mapped: int) -> None:
    shown: list[np.ndarray] = []

    def jump_right(frames: np.ndarray) -> np.ndarray:
        shown.append(frames.copy())
        return np.full(len(frames), 8, dtype=np.int32)

    levels, looker, counts = choose_levels("validation", 4), Looker(), np.zeros((1, 15), dtype=np.int64)
    counts[0, mapped] = 1
    games = COINRUN.open_levels(levels)
    agent = SeenThroughLatents(PlayerAgent(jump_right), looker, ActionMapping(counts), games, seed=0)  # type: ignore[arg-type]
    outcome = play_levels(agent, COINRUN, levels)

    steps = sum(len(frames) == len(levels) for frames in shown) - 1  # until the first level ends
    assert steps >= 5
    assert torch.equal(looker.seen[0][:, 0], looker.seen[0][:, 2])
    foreseen = 0
    for step in range(steps):
        now, then = to_float(shown[step]), to_float(shown[step + 1])
        assert torch.equal(looker.seen[step][:, 2], now)
        assert torch.equal(looker.seen[step + 1][:, 1], now)
        foreseen += torch.equal(looker.seen[step][:, 3], then)
    direct = play_levels(PlayerAgent(jump_right), COINRUN, levels)
    if mapped == 8:
        assert foreseen == steps
        assert np.array_equal(outcome.env_steps, direct.env_steps)
    else:
        assert foreseen < steps
        assert not np.array_equal(outcome.env_steps, direct.env_steps)


def test_a_player_that_plans_is_seen_through_latents_too() -> None:
    levels, counts = choose_levels("validation", 2), np.ones((1, 15), dtype=np.int64)
    agent = SeenThroughLatents(
        PlayerAgent(load_player("search")),
        Looker(),  # type: ignore[arg-type]
        ActionMapping(counts),
        COINRUN.open_levels(levels),
        seed=0,
    )
    assert play_levels(agent, COINRUN, levels).env_steps.sum() > 2


def test_a_world_on_another_device_looks_ahead_there() -> None:
    """The device ``meta`` stands for a GPU: it takes no frames that lie in another memory either."""
    levels, looker, counts = choose_levels("validation", 2), Looker("meta"), np.zeros((1, 15), dtype=np.int64)
    counts[0, 8] = 1
    player = PlayerAgent(lambda frames: np.full(len(frames), 8, dtype=np.int32))
    agent = SeenThroughLatents(player, looker, ActionMapping(counts), COINRUN.open_levels(levels), seed=0)  # type: ignore[arg-type]
    play_levels(agent, COINRUN, levels)
    assert looker.seen
