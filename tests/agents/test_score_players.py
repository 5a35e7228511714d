"""Scores of players in the real game."""

import json
from pathlib import Path

import pytest

from agents.score_players import PlayerScoring


def test_a_player_that_searches_beats_one_that_draws(tmp_path: Path) -> None:
    path = tmp_path / "players.json"
    scoring = PlayerScoring(
        players=("random", "search"), modes=("easy",), levels=6, out=tmp_path, json=path, level_set="validation"
    )
    chance, search = scoring.run()
    assert search["solved"] > chance["solved"]
    for row in (chance, search):
        assert row["levels"] == 6 == row["solved"] + row["deaths"] + row["timeouts"]
        assert row["core_solved"] <= row["core_levels"] < 6
        assert row["interval"][0] <= row["solved"] / 6 <= row["interval"][1]
    assert [row["player"] for row in json.loads(path.read_text())["rows"]] == ["random", "search"]


def test_an_unknown_player_is_named_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody"):
        PlayerScoring(players=("random", "nobody"), out=tmp_path).run()
    assert not list(tmp_path.iterdir())
