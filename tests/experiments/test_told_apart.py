"""Whether latent actions tell moves apart, where the game shows them."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.told_apart import PAIRS, ToldApart, play_moments, tell_apart, tell_pair


class Constant:
    """Says the same of everything."""

    def label(self, videos: Tensor) -> Tensor:
        return torch.zeros(len(videos), videos.shape[1] - 1, dtype=torch.int64)


class Attentive:
    """Has an action for every next frame there is."""

    def label(self, videos: Tensor) -> Tensor:
        weights = torch.arange(videos[0, 0].numel(), dtype=torch.float64) + 1
        return (videos[:, 1:].flatten(2).double() @ weights * 1000).round().long()


def test_what_shows_can_be_told_apart() -> None:
    moments = list(play_moments("easy", "sticky", past=2, games=16, steps=40, every=10, seed=0))
    assert all(moment.past.shape[1:] == (2, 64, 64, 3) for moment in moments)
    best, worst = tell_apart(Attentive(), iter(moments)), tell_apart(Constant(), iter(moments))
    assert set(best) == set(PAIRS)
    shows = {pair: tell_pair("easy", pair, *told, seed=0)["shows"] for pair, told in best.items()}
    assert shows["left or right"] > 0.8 > shows["jump running"] > 0  # in mid-air nobody can jump
    for pair in PAIRS:
        assert best[pair][1].mean() == 1
        assert worst[pair][1].mean() == 0
        assert len(best[pair][1]) == len(worst[pair][1]) <= best[pair][0]


def test_a_pair_that_never_shows_has_no_share() -> None:
    row = tell_pair("easy", "jump running", 5, torch.empty(0), seed=0)
    assert (row["shows"], row["told_apart"], row["interval"]) == (0, None, None)


@pytest.mark.pipeline
def test_told_apart_smoke(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = ToldApart(checkpoint=str(tiny_checkpoint), out=tmp_path)
    command.run()
    rows = json.loads(command.json.read_text())["rows"]
    assert [row["mode"] for row in rows] == ["easy"] * len(PAIRS) + ["hard"] * len(PAIRS)
    assert all(row["told_apart"] is None or 0 <= row["told_apart"] <= 1 for row in rows)
