"""One recipe for several games: motion along an axis, starts that are equal for all keys, and a small run."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.games.five_games import FiveGames
from experiments.games.games import FIVE_GAMES, find_game, list_keys
from experiments.games.held_keys import HELD_STEPS, PROMPT_FRAMES, explain_axis, play_keys
from experiments.games.motions import SpriteFinder, find_thrust, see_camera, see_paddle
from experiments.games.recipe import SIZES, build_recipe
from genie_gym.configs import MovingActionConfig
from genie_gym.data.clips import Batch
from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import Games
from genie_gym.data.procgen_state import read_position
from genie_gym.metrics.action_groups import PROCGEN_GROUPS

SIZE = 64


def scroll_by(right: int, up: int, frames: int = 3) -> torch.Tensor:
    """Return a (1, 1, T, C, H, W) video of a camera that moves over a picture."""
    picture = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    corners = [(32 - up * step, 32 + right * step) for step in range(frames)]
    return torch.stack([picture[:, top : top + SIZE, left : left + SIZE] for top, left in corners])[None, None]


def test_a_camera_that_moves_right_carries_the_player_right() -> None:
    assert see_camera(scroll_by(2, 1)).tolist() == [[[0, 2, 4]]]


def test_thrust_counts_along_its_own_direction_only() -> None:
    """From the first start thrust goes right, from the second up; from the third it moves nothing."""
    still = scroll_by(0, 0)[0]
    right, up = scroll_by(3, 0)[0], scroll_by(0, 3)[0]
    motion = find_thrust(torch.cat([right, up, still]), still.expand(3, -1, -1, -1, -1))
    seen = motion.see(torch.stack([torch.cat([right, right, right]), torch.cat([up, up, up])]))[..., -1]
    np.testing.assert_allclose(seen, [[6, 0, np.nan], [0, 6, np.nan]])


def test_a_paddle_is_seen_by_its_colour_and_an_unseen_one_has_not_moved() -> None:
    videos = torch.zeros(1, 2, 3, 3, SIZE, SIZE)
    for frame, left in enumerate((20, 24, 28)):
        videos[0, 0, frame, 0, 57:59, left : left + 6] = 0.8
    np.testing.assert_allclose(see_paddle(videos), [[[0, 4, 8], [0, 0, 0]]])


def test_the_share_that_actions_explain() -> None:
    told = torch.tensor([[-3.0, -3.1, -2.9], [0.1, 0.0, -0.1], [3.0, 2.9, 3.1]])
    assert explain_axis(told.double()) > 0.95
    assert explain_axis(told[:, [0, 1, 2]].T.double()) < 0.1
    assert explain_axis(torch.zeros(3, 4).double()) == 0


def test_a_sprite_is_found_in_the_column_that_was_taught() -> None:
    """A white square on noise; the network learns from half of the frames, and finds it in the others."""
    torch.manual_seed(0)
    columns, rows = torch.randint(4, 60, (128,)), torch.randint(4, 60, (128,))
    frames = 0.3 * torch.rand(128, 3, SIZE, SIZE)
    for frame, row, column in zip(frames, rows, columns, strict=True):
        frame[:, row - 2 : row + 3, column - 2 : column + 3] = 1
    finder = SpriteFinder(columns[:64].float())
    optimizer = torch.optim.Adam(finder.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        finder.loss(Batch(frames[:64, None], torch.arange(64))).loss.backward()
        optimizer.step()
    errors = (finder.eval().find(frames[64:]) - columns[64:]).abs()
    assert errors.median() < 2
    moved = finder.see(frames[64:].view(1, 1, 64, 3, SIZE, SIZE))[0, 0]
    assert (moved - (columns[64:] - columns[64])).abs().median() < 4


def test_saved_states_of_another_game_tell_where_its_player_is() -> None:
    """A player of Climber that is held to the right goes to the right, unless a wall stops it."""
    with contextlib.closing(find_game("climber").open("training", 0, 8)) as games:
        assert isinstance(games, Games)
        before = [read_position(state, "climber").x for state in games.save()]
        for _ in range(6):
            games.act(np.full(8, 7))
        after = [read_position(state, "climber").x for state in games.save()]
    assert np.median(np.subtract(after, before)) > 1
    with pytest.raises(ValueError, match="game of a state must be coinrun, got 'climber'"):
        read_position(games_state("climber"))


def games_state(name: str) -> bytes:
    """Return the state of a game at a start."""
    with contextlib.closing(find_game(name).open("training", 0, 1)) as games:
        assert isinstance(games, Games)
        return games.save()[0]


@pytest.mark.parametrize("name", ["coinrun", "breakout"])
def test_all_keys_are_held_from_the_same_starts(name: str) -> None:
    """Up to the start, and in its frame, all is equal; then keys differ."""
    game = find_game(name)
    game = replace(game, config=replace(game.config, num_envs=2))
    keys = [1, 4, 7] if name == "coinrun" else [0, 2, 3]
    play = play_keys(game, keys, "validation", 4, 0)
    assert play.prompts.shape[1:] == (PROMPT_FRAMES, SIZE, SIZE, 3)
    assert play.frames.shape[2] == 1 + HELD_STEPS
    assert (play.frames[:, :, 0] == play.prompts[:, -1]).all()
    assert (play.frames[0, :, -1] != play.frames[-1, :, -1]).any(axis=(1, 2, 3)).mean() > 0.5
    again = play_keys(game, keys, "validation", 4, 0)
    assert (play.frames == again.frames).all()


def test_keys_are_one_of_each_kind() -> None:
    assert list_keys(PROCGEN_GROUPS) == list(range(9))


def test_an_unknown_game_is_refused() -> None:
    with pytest.raises(ValueError, match="game must be one of"):
        FiveGames(game="pong").run()


def test_the_recipe_holds_no_fact_of_a_game() -> None:
    """The agent's box and the border are found, and no game's name decides anything that is trained."""
    part = build_recipe(SIZES["full"], 0).world.latent_action_model
    assert isinstance(part, MovingActionConfig)
    assert (part.agent_box, part.border) == ("find", "find")
    assert {find_game(name).share_player().name for name in FIVE_GAMES} == {"sticky(0.9)", "sticky(0.9, 0)"}
    assert all(
        replace(find_game(name).config, game="coinrun") == RecordConfig(mode="easy")
        for name in FIVE_GAMES
        if find_game(name).config.env is None
    )


@pytest.mark.slow
def test_a_small_run_is_whole_and_stands(tmp_path: Path) -> None:
    experiment = FiveGames(out=tmp_path / "out", work=tmp_path / "work", game="climber")
    experiment.run()
    (row,) = json.loads(experiment.json.read_text())["rows"]
    wanted = (
        "axis_kept all_kept held_explained keys_explained t4_psnr t4_copy dpsnr axis_chance axis_ceiling perplexity"
    )
    assert set(wanted.split()) <= set(row)
    assert row["measurable"]
    assert [each["actions"] for each in row["by_actions"]] == [2, 4, 8, 16, 32, 32]
    assert (experiment.picture.with_name("games-climber.png")).stat().st_size > 0
    experiment.run()
    assert json.loads(experiment.json.read_text())["rows"] == [row]
