"""Latent action models trained on other games: the benchmark with one, and what their labels tell of CoinRun."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents import other_games, transfer_labels
from agents.benchmark import Benchmark
from agents.labelling import digest_labels
from agents.other_games import ATTEMPTS, Attempt, change_colours
from agents.transfer import Transfer
from agents.transfer_labels import TransferLabels, measure_bits
from experiments.lib.tables.agents import tabulate_transfer
from genie_gym.data.clips import Batch
from genie_gym.data.shards import Shard
from genie_gym.serving import load_world


@pytest.mark.pipeline
def test_it_learns_from_other_games_and_is_benchmarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_games, "MODES", ("hard",))
    ran: list[Benchmark] = []
    monkeypatch.setattr(Benchmark, "run", ran.append)
    command = Transfer(out=tmp_path / "out", work=tmp_path / "work", attempt="five games")
    command.run()
    (benchmarked,) = ran
    assert benchmarked.json.name == "figure15_transfer.json"
    world, shipped = (
        load_world(benchmarked.checkpoint, precision="float32"),
        load_world(command.checkpoint, precision="float32"),
    )
    assert digest_labels(world) != digest_labels(shipped)
    for name, weight in world.tokenizer.state_dict().items():
        assert torch.equal(weight, shipped.tokenizer.state_dict()[name]), name
    seen = {Shard(path).attributes["game"] for path in (tmp_path / "work").rglob("*.h5")}
    assert seen == set(ATTEMPTS["five games"].games)
    assert "coinrun" not in seen

    command.run()  # trains nothing again
    assert len(ran) == 2
    assert json.loads((Path(benchmarked.checkpoint) / "config.json").read_text())["format"] == 1

    replace(command, attempt="ninja, codes not merged").run()  # another model, not the one that is there
    unmerged = load_world(ran[-1].checkpoint, precision="float32")
    assert digest_labels(unmerged) != digest_labels(world)
    assert (world.config.num_latent_actions, unmerged.config.num_latent_actions) == (8, 32)


@pytest.mark.pipeline
def test_labels_are_asked_about_the_true_moves_of_coinrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_labels, "MODES", ("easy",))
    command = TransferLabels(out=tmp_path / "out", work=tmp_path / "work", attempts=("coinrun", "ninja"))
    command.run()
    rows = json.loads(command.json.read_text())["rows"]
    assert [row["attempt"] for row in rows] == ["coinrun", "ninja"]
    assert all(0 <= row["bits"] <= row["code_bits"] <= row["move_bits"] <= math.log2(9) for row in rows)
    assert [(row["actions"], row["codes"]) for row in rows] == [(8, 32), (8, 32)]


def test_labels_that_are_the_moves_tell_all_and_shuffled_ones_nothing() -> None:
    moves = torch.randint(9, (20_000,), generator=torch.Generator().manual_seed(0))
    told, entropy = measure_bits(moves, moves)
    assert told == pytest.approx(entropy) == pytest.approx(math.log2(9), abs=0.01)
    shuffled, _ = measure_bits(moves[torch.randperm(len(moves))], moves)
    assert 0 <= shuffled < 0.02
    halved, _ = measure_bits(moves % 2, moves)
    assert 0.9 < halved < 1


def test_attempts_become_a_table_beside_the_model_that_saw_coinrun() -> None:
    told = {("coinrun", "easy"): 0.8, ("coinrun", "hard"): 0.4, ("a", "easy"): 0.2, ("a", "hard"): 0.1}
    told |= {("b", "easy"): 0.6, ("b", "hard"): 0.1}
    rows = [
        {"attempt": name, "mode": mode, "actions": 8, "codes": 32, "bits": bits, "code_bits": 1.0, "move_bits": 2.5}
        for (name, mode), bits in told.items()
    ]
    about = {"frames": 9, "player": "skilled", "level_set": "test", "command": "run", "commit": "abc"}
    table = tabulate_transfer({**about, "machine": {"cpu": "CPU"}, "rows": rows}).splitlines()
    assert [line.split(" | ")[0] for line in table[-3:]] == ["| CoinRun itself: the checkpoint", "| b", "| a"]
    assert table[-2] == "| b | 8 | 0.600 (75 %) | 0.100 (25 %) | 1.000 (100 %) | 1.000 (100 %) |"


def test_an_attempt_that_learns_from_coinrun_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTEMPTS, "cheat", Attempt(("ninja", "coinrun"), {}))
    folders = {"out": tmp_path / "out", "work": tmp_path / "work"}
    with pytest.raises(ValueError, match="attempt must be one that learns from games other than coinrun, got 'cheat'"):
        Transfer(attempt="cheat", **folders).run()
    with pytest.raises(ValueError, match=r"attempt must be one of \('five games', .*, got 'pong'"):
        TransferLabels(attempts=("coinrun", "pong"), **folders).run()


def test_colours_change_alike_in_a_clip_and_stay_with_the_batch_number() -> None:
    """Two frames that are equal stay equal, clips differ, and a resumed run draws what an uninterrupted one does."""
    clip = torch.rand(3, 1, 3, 4, 4).repeat(1, 2, 1, 1, 1)

    def batches(first: int, number: int) -> Iterator[Batch]:
        yield from (Batch(clip, torch.arange(3)) for _ in range(number))

    drawn = [batch.videos for batch in change_colours(batches, 0)(0, 3)]
    assert torch.equal(drawn[0][:, 0], drawn[0][:, 1])
    assert not torch.equal(drawn[0], clip)
    assert not torch.equal(drawn[0], drawn[1])
    (resumed,) = change_colours(batches, 0)(2, 1)
    assert torch.equal(resumed.videos, drawn[2])
    assert not torch.equal(next(change_colours(batches, 1)(0, 1)).videos, drawn[0])
