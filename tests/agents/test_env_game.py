"""Games of Gymnasium environments keep what ``Game`` promises: fixed levels, disjoint sets, players, scores."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import benchmark, game
from agents.acting import PlayerAgent
from agents.benchmark import Benchmark
from agents.blind import play_constant
from agents.demonstrations import require_levels
from agents.env_game import EnvGame
from agents.evaluation import choose_levels, play_levels
from agents.game import BREAKOUT, Game, GameBatch, make_game
from agents.methods import CLONING_METHODS
from agents.score_players import PlayerScoring
from experiments.lib.tables.agents import tabulate_cloning
from genie_gym.data.config import RecordConfig
from genie_gym.data.shards import Shard
from genie_gym.metrics.held_out import LEVELS

CONFIG = RecordConfig(
    env="tests.data.square_env:Square-v0", env_arguments=("length=20",), random_start=5, episode_steps=6
)
SQUARE = EnvGame(config=CONFIG, goal=130)
SHORT = replace(BREAKOUT, config=replace(BREAKOUT.config, episode_steps=40))
ATARI = pytest.param(SHORT, id="breakout")

WATCHER = """
import numpy as np

def watch(space):
    def play(views):
        play.shapes.append(views.shape)
        return np.arange(len(views)) % space.n

    play.shapes = []
    return play
"""


def play_on(games: GameBatch, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames (T, B, H, W, 3) and rewards (T, B) of two episodes of one row with the same actions."""
    frames, rewards = [], []
    for _ in range(2):
        for step, action in enumerate(np.random.default_rng(seed).integers(3, size=99)):
            now = games.observe()
            if step and now.episode_starts[0]:
                break
            frames.append(now.frames.copy())
            games.act(np.full(len(now.frames), action, dtype=np.int32))
            rewards.append(games.observe().rewards.copy())
    return np.stack(frames), np.stack(rewards)


@pytest.fixture(params=[pytest.param(SQUARE, id="square"), ATARI])
def any_game(request: pytest.FixtureRequest) -> EnvGame:
    if request.param is SHORT:
        pytest.importorskip("ale_py")
    return request.param


def test_a_level_starts_again_equal_and_another_one_differs(any_game: EnvGame) -> None:
    levels = [10_003, 10_004, 10_003]
    games = any_game.open_levels(levels)
    frames, rewards = play_on(games, seed=1)
    games.close()
    half = len(frames) // 2
    assert half == any_game.max_episode_steps
    assert np.array_equal(frames[:half], frames[half:]), "the level begins again as it began"
    assert np.array_equal(rewards[:half], rewards[half:])
    assert np.array_equal(frames[:, 0], frames[:, 2]), "one seed is one level"
    assert (frames[0, 0] != frames[0, 1]).any(), "levels differ from their first frame on"
    again = any_game.open_levels(levels[:1])
    assert np.array_equal(play_on(again, seed=1)[0][:, 0], frames[:, 0]), "whatever else is played beside it"
    again.close()


@pytest.mark.parametrize("levels", LEVELS)
def test_random_levels_are_of_their_set(levels: str) -> None:
    games = SQUARE.open_games(levels, num_envs=3, seed=0)
    first, number = LEVELS[levels]
    seen = set()
    for _ in range(40):
        games.act(np.zeros(3, dtype=np.int32))
        seen |= set(games.observe().level_seeds.tolist())
    assert len(seen) > 3
    assert all(first <= level < first + number for level in seen)


def test_recordings_are_of_training_levels_and_begin_like_these(any_game: EnvGame, tmp_path: Path) -> None:
    (path,) = any_game.record("training", "random", tmp_path, frames=90, seed=0, num_envs=2)
    require_levels(path, "training")
    shard = Shard(path)
    assert shard.frame_size == any_game.frame_size
    level = int(shard.level_seeds[0])
    assert np.array_equal(shard.read(0, 1)[0], any_game.open_levels([level]).observe().frames[0])


def test_returns_score_from_the_goal_on_and_are_told() -> None:
    game: Game = SQUARE
    assert (game.num_actions, game.frame_size, game.max_episode_steps) == (3, (64, 64), 6)
    assert game.moves.tolist() == [0, 1, 2]
    assert game.score_returns(np.array([0, 129.5, 130, 400])).tolist() == [0, 0, 1, 1]
    outcome = play_levels(play_constant(1), game, choose_levels("test", 12))
    assert (outcome.solved == (outcome.returns >= 130)).all()
    assert 0 < outcome.solved.mean() < 1
    assert outcome.env_steps.tolist() == [6] * 12
    assert set(outcome.outcomes) == {1, 2}, "solved, or cut off"


def test_a_player_plays_what_it_would_record(tmp_path: Path) -> None:
    """It sees the environment's own observations, of all games, so that it may remember them."""
    path = tmp_path / "watcher.py"
    path.write_text(WATCHER)
    player = SQUARE.find_player(f"{path}:watch").player(0)
    play_levels(PlayerAgent(player), SQUARE, [1, 2])
    assert set(player.shapes) == {(2, 48, 32, 3)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("spec", ["search", "skilled", "expert", "nobody", "breakout"])
def test_players_of_other_games_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=rf"player '?{spec}'?"):
        SQUARE.find_player(spec)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: EnvGame(config=RecordConfig(), goal=1), r"EnvGame.config.env must be the id"),
        (lambda: EnvGame(config=replace(CONFIG, episode_steps=0), goal=1), r"episode_steps must be positive"),
        (lambda: EnvGame(config=CONFIG, goal=float("nan")), r"EnvGame.goal must be a finite number, got nan"),
        (lambda: vary("actions=continuous").num_actions, r"must be Discrete with actions from 0 on.* got Box"),
        (lambda: vary("actions=shifted").moves, r"must be Discrete with actions from 0 on"),
        (lambda: SQUARE.open_levels([1], paint_velocity=True), r"paint_velocity must be False with env"),
        (lambda: SQUARE.open_games("test", 1, 0, paint_velocity=True), r"paint_velocity must be False with env"),
        (lambda: SQUARE.open_levels([]), r"levels must be one or more level seeds"),
        (lambda: SQUARE.open_games("tests", 1, 0), r"levels must be one of"),
        (lambda: SQUARE.open_levels([1]).save(), r"neither saved nor restored.*player_seen_latents and search"),
        (lambda: SQUARE.open_levels([1]).restore([b""]), r"neither saved nor restored.*player_seen_latents and search"),
        (lambda: RecordConfig(random_start=1), r"random_start must be left out with Procgen"),
        (lambda: RecordConfig(episode_steps=1), r"episode_steps must be left out with Procgen"),
        (lambda: replace(CONFIG, random_start=-1), r"random_start must be 0 or more"),
        (lambda: replace(CONFIG, episode_steps=-1), r"episode_steps must be 0 or more"),
    ],
)
def test_what_cannot_be_played_is_refused(make: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()


def vary(*arguments: str) -> EnvGame:
    return replace(SQUARE, config=replace(CONFIG, env_arguments=arguments))


def test_random_starts_that_end_the_episode_leave_a_whole_one() -> None:
    short = replace(CONFIG, env_arguments=("length=2",), random_start=2, episode_steps=3)
    outcome = play_levels(play_constant(0), EnvGame(config=short, goal=0), choose_levels("test", 20))
    assert set(outcome.env_steps) == {1, 2}


def test_the_scripted_player_beats_held_actions_in_breakout() -> None:
    pytest.importorskip("ale_py")
    levels = choose_levels("validation", 2)
    share = SHORT.find_player("skilled")
    assert share.name == "breakout"
    game = replace(SHORT, config=replace(SHORT.config, episode_steps=120), goal=1)
    assert play_levels(PlayerAgent(share.player(0)), game, levels).solved.all()
    assert not play_levels(play_constant(0), game, levels).solved.all()


@pytest.fixture
def square_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """The benchmark at ``smoke`` with the square environment in place of Breakout."""
    monkeypatch.setitem(game._NAMED, "breakout", replace(SQUARE, skilled="sticky(0.5)"))
    sizes = benchmark.BENCHMARK_SIZES["smoke"] | {"frames": 1024, "labelled_frames": 1024, "train_steps": 4}
    monkeypatch.setitem(benchmark.BENCHMARK_SIZES, "smoke", sizes)
    fast = tuple(name for name in CLONING_METHODS if "idm" not in name)  # inverse models learn for a minute
    return Benchmark(out=tmp_path / "out", work=tmp_path / "work", modes=("breakout",), methods=fast)


@pytest.mark.pipeline
def test_the_benchmark_plays_a_game_by_name(square_benchmark: Benchmark, capfd: pytest.CaptureFixture[str]) -> None:
    square_benchmark.run()
    assert [path.name for path in (square_benchmark.out / "results" / "smoke").iterdir()] == [
        "figure15_cloning_breakout.json"
    ]
    results = json.loads(square_benchmark.json.read_text())
    methods = {row["method"] for row in results["rows"]}
    wanted = {"player", "oracle", "lam", "lam_relabel", "labelled_only", "best_constant", "marginal"}
    assert wanted <= methods
    assert {method for method in methods if method.startswith("constant_")} == {f"constant_{n}" for n in range(3)}
    assert not methods & {"search", "player_seen_latents", "right_jump_0.5"}
    assert "breakout is not played by search, player_seen_latents, constant_3" in capfd.readouterr().out
    for row in results["rows"]:
        assert row["mode"] == "breakout"
        assert len(row["actions"]) == 3
        assert row["mean_return"] > 0
    assert square_benchmark.picture.exists()
    assert tabulate_cloning(results).startswith("Breakout levels solved, %")


def test_methods_that_cannot_play_a_game_are_named() -> None:
    alone = Benchmark(modes=("breakout",), methods=("search", "player_seen_latents"))
    with pytest.raises(ValueError, match=r"methods must be one or more that can play breakout, got \('search', 'pl"):
        alone.list_cells()


@pytest.mark.parametrize("modes", [("easy", "breakout"), ("breakout", "hard")])
def test_another_game_is_played_alone(modes: Any) -> None:
    with pytest.raises(ValueError, match=r"modes must be among \['breakout'\], one or more, got"):
        Benchmark(modes=modes).list_cells()


def test_players_of_another_game_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(game._NAMED, "breakout", SQUARE)
    rows = PlayerScoring(players=("random", "sticky"), modes=("breakout",), levels=8, out=tmp_path).run()
    assert [row["player"] for row in rows] == ["random", "sticky"]
    assert all(0 < row["mean_return"] < 6 * 48 for row in rows)
    assert make_game("breakout") is SQUARE
