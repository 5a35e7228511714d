"""Games: Procgen's behind the protocol, and another one with its own actions, frames and rewards."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from agents.acting import ClonedAgent
from agents.evaluation import play_levels
from agents.game import COINRUN, Game, GameBatch, ProcgenGame, make_game
from agents.game_vec_env import GameVecEnv
from agents.mapping import ActionMapping
from agents.policy import LatentPolicy
from genie_gym.data.procgen import Observation
from genie_gym.players.specs import PlayerShare, parse_share
from tests.agents.small import SMALL


class Corridors:
    """Corridors as long as their level's seed: action 1 goes on, 0 and 2 stay; the end is worth 1."""

    def __init__(self, levels: Sequence[int]) -> None:
        self._levels, self._reached = np.array(levels), np.zeros(len(levels), dtype=np.int64)
        self._ended, self._steps = np.zeros(len(levels), dtype=bool), np.zeros(len(levels), dtype=np.int64)
        self._rewards = np.zeros(len(levels), dtype=np.float32)

    def observe(self) -> Observation:
        frames = np.broadcast_to(self._reached[:, None, None, None], (len(self._levels), 32, 48, 3)).astype(np.uint8)
        return Observation(frames, self._rewards, self._ended, self._levels)

    def act(self, real_actions: np.ndarray) -> None:
        self._reached, self._steps = self._reached + (real_actions == 1), self._steps + 1
        is_solved = self._reached >= self._levels
        self._rewards, self._ended = is_solved.astype(np.float32), is_solved | (self._steps >= 10)
        self._reached[self._ended], self._steps[self._ended] = 0, 0

    def save(self) -> list[bytes]:
        return [bytes(each) for each in zip(self._reached.tolist(), self._steps.tolist(), strict=True)]

    def restore(self, states: Sequence[bytes]) -> None:
        self._reached, self._steps = np.array([tuple(each) for each in states]).T.copy()

    def close(self) -> None:
        pass


class CorridorGame:
    """A game of ``Corridors``, which end after 10 steps."""

    num_actions, frame_size, max_episode_steps, moves = 3, (32, 48), 10, np.array([0, 1, 0])
    has_states = True

    def find_player(self, spec: str) -> PlayerShare:
        return parse_share(spec, spaces.Discrete(3))

    def open_levels(self, levels: Sequence[int], paint_velocity: bool = False) -> GameBatch:
        return Corridors(levels)

    def open_games(self, levels: str, num_envs: int, seed: int) -> GameBatch:
        return Corridors([4] * num_envs)

    def record(
        self, levels: str, player: str, out: Path, frames: int, seed: int, num_envs: int = 64, workers: int = 1
    ) -> list[Path]:
        raise NotImplementedError

    def score_returns(self, returns: np.ndarray) -> np.ndarray:
        return returns


def test_a_cloned_agent_plays_another_game() -> None:
    game: Game = CorridorGame()
    policy = LatentPolicy(replace(SMALL, frame_size=game.frame_size), 2).eval().requires_grad_(False)
    levels = [3, 9, 11]
    for real_action, solved in ((1, [1, 1, 0]), (2, [0, 0, 0])):
        mapping = ActionMapping.fit(np.array([0, 1]), np.full(2, real_action), 2, game)
        agent = ClonedAgent(policy, len(levels), seed=0, mapping=mapping, game=game)
        outcome = play_levels(agent, game, levels)
        assert outcome.solved.tolist() == solved
        assert outcome.env_steps.tolist() == ([3, 9, 10] if real_action == 1 else [10] * 3)
    with pytest.raises(ValueError, match=r"real_actions must be in \[0, 3\), got 3"):
        ActionMapping.fit(np.array([0]), np.array([3]), 2, game)
    with pytest.raises(ValueError, match="num_actions must be 3"):
        ClonedAgent(policy, 1, seed=0, game=game)


def test_actions_with_one_effect_are_one_move() -> None:
    mapping = ActionMapping.fit(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 2, CorridorGame())
    assert mapping.entropies() == pytest.approx((1, 0))


def test_sb3_steps_another_game() -> None:
    game = CorridorGame()
    envs = GameVecEnv(game, game.open_games("training", num_envs=2, seed=0))
    assert envs.reset().shape == (2, 32, 48, 3)
    assert envs.action_space.n == 3  # type: ignore[attr-defined]
    infos = [envs.step(np.array([1, 2]))[3] for _ in range(10)]
    assert infos[3][0]["TimeLimit.truncated"] is False
    assert infos[9][1]["TimeLimit.truncated"] is True


def test_saved_games_are_restored() -> None:
    for games in (COINRUN.open_levels([3, 4]), CorridorGame().open_levels([3, 4])):
        states = games.save()
        before = games.observe().frames.copy()
        for _ in range(2):
            games.act(np.ones(2, dtype=np.int32))
        after = games.observe().frames.copy()
        games.restore(states)
        assert np.array_equal(games.observe().frames, before)
        for _ in range(2):
            games.act(np.ones(2, dtype=np.int32))
        assert np.array_equal(games.observe().frames, after)
        games.close()


def test_coinrun_is_the_game_of_the_commands() -> None:
    assert make_game("hard") == ProcgenGame(name="coinrun", mode="hard")
    assert COINRUN.score_returns(np.array([0.0, 10.0])).tolist() == [0, 1]
    assert COINRUN.moves.tolist() == [*range(9), *[4] * 6]
