"""The benchmark with a latent action model trained on other games."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents import transfer
from agents.benchmark import Benchmark
from agents.labelling import digest_labels
from agents.transfer import PLATFORMERS, Transfer
from genie_gym.data.shards import Shard
from genie_gym.serving import load_world


@pytest.mark.pipeline
def test_it_learns_from_other_games_and_is_benchmarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_MODES", ("hard",))
    ran: list[Benchmark] = []
    monkeypatch.setattr(Benchmark, "run", ran.append)
    command = Transfer(out=tmp_path / "out", work=tmp_path / "work")
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
    assert seen == set(PLATFORMERS)
    assert "coinrun" not in seen

    command.run()  # trains nothing again
    assert len(ran) == 2
    assert json.loads((Path(benchmarked.checkpoint) / "config.json").read_text())["format"] == 1

    replace(command, games=("ninja",)).run()  # another model, not the one that is there
    assert digest_labels(load_world(ran[-1].checkpoint, precision="float32")) != digest_labels(world)


def test_a_recipe_that_trains_no_actions_alone_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"recipe must be a preset .* got 'study'"):
        Transfer(out=tmp_path / "out", work=tmp_path / "work", recipe="study").run()


@pytest.mark.parametrize("games", [(), ("ninja", "coinrun")])
def test_the_game_that_is_labelled_is_not_learned_from(games: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"games must be .* other than coinrun"):
        Transfer(out=tmp_path / "out", work=tmp_path / "work", games=games).run()
