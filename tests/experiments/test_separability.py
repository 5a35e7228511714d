"""How often latent actions separate moves that lead to different frames."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.ablations.separability import PAIRS, Separability, play_moments, separate_moves, summarise_pair


class Constant:
    """A labeller that ignores the frames."""

    def label(self, videos: Tensor) -> Tensor:
        return torch.zeros(len(videos), videos.shape[1] - 1, dtype=torch.int64)


class Attentive:
    """A labeller with its own action for each next frame."""

    def label(self, videos: Tensor) -> Tensor:
        weights = torch.arange(videos[0, 0].numel(), dtype=torch.float64) + 1
        return (videos[:, 1:].flatten(2).double() @ weights * 1000).round().long()


def test_moves_with_different_frames_can_be_separated() -> None:
    moments = list(play_moments("easy", "sticky", past=2, games=16, steps=40, every=10, seed=0))
    assert all(moment.past.shape[1:] == (2, 64, 64, 3) for moment in moments)
    best, worst = separate_moves(Attentive().label, iter(moments)), separate_moves(Constant().label, iter(moments))
    assert set(best) == set(PAIRS)
    shows = {pair: summarise_pair("easy", pair, *told, seed=0)["shows"] for pair, told in best.items()}
    assert shows["left or right"] > 0.8 > shows["jump running"] > 0  # in mid-air nobody can jump
    for pair in PAIRS:
        assert best[pair][1].mean() == 1
        assert worst[pair][1].mean() == 0
        assert len(best[pair][1]) == len(worst[pair][1]) <= best[pair][0]


def test_a_pair_whose_frames_never_differ_has_no_share() -> None:
    row = summarise_pair("easy", "jump running", 5, torch.empty(0), seed=0)
    assert (row["shows"], row["told_apart"], row["interval"]) == (0, None, None)


@pytest.mark.pipeline
def test_separability_smoke(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = Separability(checkpoint=str(tiny_checkpoint), out=tmp_path)
    command.run()
    rows = json.loads(command.json.read_text())["rows"]
    assert [row["mode"] for row in rows] == ["easy"] * len(PAIRS) + ["hard"] * len(PAIRS)
    assert all(row["told_apart"] is None or 0 <= row["told_apart"] <= 1 for row in rows)
