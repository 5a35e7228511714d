"""Tests of Procgen's games as arrays."""

import builtins
import contextlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from genie_gym.data import procgen
from genie_gym.data.config import RecordConfig
from genie_gym.data.procgen import GAMES, NUM_REAL_ACTIONS, direction, open_games, vertical
from genie_gym.extras import MissingExtraError


def test_actions_map_to_directions() -> None:
    actions = np.arange(NUM_REAL_ACTIONS)
    assert direction(actions).tolist() == [-1] * 3 + [0] * 3 + [1] * 3 + [0] * 6
    assert vertical(actions).tolist() == [-1, 0, 1] * 3 + [0] * 6
    assert direction(np.zeros((2, 3), np.int32)).shape == (2, 3)


@pytest.mark.parametrize("actions", [np.array([15]), np.array([0, -1]), np.array([0.0])])
def test_wrong_actions_are_refused(actions: np.ndarray) -> None:
    for function in (direction, vertical):
        with pytest.raises(ValueError, match="real_actions must be"):
            function(actions)


def test_tables_agree_with_procgen() -> None:
    env = open_games(RecordConfig(), seed=0, num_envs=1)._env
    for action, keys in enumerate(env.combos):
        assert direction(np.array(action)) == ("RIGHT" in keys) - ("LEFT" in keys)
        assert vertical(np.array(action)) == ("UP" in keys) - ("DOWN" in keys)
    assert len(env.combos) == NUM_REAL_ACTIONS
    assert len(GAMES) == 16


def test_only_the_velocity_square_differs() -> None:
    clean, painted = (open_games(RecordConfig(), seed=5, num_envs=4, paint_velocity=paint) for paint in (False, True))
    rng, differed = np.random.default_rng(0), False
    for _ in range(60):
        one, two = clean.observe(), painted.observe()
        different = (one.frames != two.frames).any(-1)
        assert not different[:, 16:].any()
        assert not different[:, :, 32:].any()
        differed |= bool(different.any())
        np.testing.assert_array_equal(one.episode_starts, two.episode_starts)
        np.testing.assert_array_equal(one.level_seeds, two.level_seeds)
        actions = rng.integers(NUM_REAL_ACTIONS, size=4, dtype=np.int32)
        clean.act(actions)
        painted.act(actions)
    assert differed


def test_levels_without_end_keep_their_start() -> None:
    games = open_games(RecordConfig(start_level=100_000, num_levels=0), seed=0, num_envs=32)
    seeds = games.observe().level_seeds
    assert seeds.min() >= 100_000
    assert len(set(seeds.tolist())) > 30


def test_unknown_games_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"RecordConfig.game must be .* got 'pong'"):
        open_games(RecordConfig(game="pong"), seed=0, num_envs=1)
    with pytest.raises(ValueError, match="num_levels must be below"):
        open_games(RecordConfig(start_level=2**31 - 2, num_levels=5), seed=0, num_envs=1)


def test_without_procgen_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def fail(name: str, *args: object) -> object:
        if name == "procgen":
            raise ImportError(name)
        return real_import(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MissingExtraError, match=r"pip install 'genie-gym\[procgen\]'"):
        procgen.import_procgen()


def test_import_is_lazy_and_silent() -> None:
    pytest.importorskip("procgen")
    code = (
        "import sys; from genie_gym.data import procgen; assert 'procgen' not in sys.modules;"
        "procgen.import_procgen(); assert 'procgen' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout == ""


def test_an_action_that_lasts_shows_every_second_frame() -> None:
    """Frames, rewards and episode starts are those of the game stepped one by one; a game that ends stays."""
    config = RecordConfig(game="coinrun", mode="easy", num_levels=3)
    actions = np.random.default_rng(0).integers(9, size=(60, 4)).astype(np.int32)
    with (
        contextlib.closing(open_games(config, seed=1, num_envs=4)) as single,
        contextlib.closing(open_games(replace(config, action_repeat=2), seed=1, num_envs=4)) as double,
    ):
        for chosen in actions:
            earned, has_begun = np.zeros(4, np.float32), np.zeros(4, bool)
            for _ in range(2):
                single.act(np.where(has_begun, 4, chosen).astype(np.int32))
                now = single.observe()
                earned += now.rewards
                has_begun |= now.episode_starts
            double.act(chosen)
            seen = double.observe()
            assert np.array_equal(seen.frames, now.frames)
            assert np.array_equal(seen.level_seeds, now.level_seeds)
            assert np.array_equal(seen.rewards, earned)
            assert np.array_equal(seen.episode_starts, has_begun)


def test_a_game_that_ends_while_an_action_lasts_is_marked_and_stays() -> None:
    """Holding right and jump, easy levels are solved within 200 steps, not all of them at an even step."""
    config = RecordConfig(game="coinrun", mode="easy", num_levels=20, action_repeat=3)
    hold, ends, rewards = np.full(16, 8, np.int32), 0, 0.0
    with contextlib.closing(open_games(config, seed=0, num_envs=16)) as games:
        for _ in range(70):
            games.act(hold)
            earned, has_begun = games.outcomes()
            ends, rewards = ends + int(has_begun.sum()), rewards + float(earned[has_begun].sum())
            assert not earned[~has_begun].any()
    assert ends > 16
    assert rewards > 50


def test_recordings_without_repeated_actions_keep_their_identity() -> None:
    """A recording from before may grow; one with another repeat is another recording."""
    assert "action_repeat" not in RecordConfig().identify()
    assert RecordConfig(action_repeat=2).identify()["action_repeat"] == 2
