"""The release scripts, whole, at the size of a toy."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import clips
from experiments.readme_tables import fill
from experiments.release import evaluate, lengthen, train
from genie_gym.configs import RecordConfig
from genie_gym.data.players import parse_shares
from genie_gym.data.record import record
from genie_gym.models.loading import load

pytestmark = pytest.mark.pipeline


def test_train_then_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    release = train.Release(out=out, preset="tiny", frames=4096, tokenizer_steps=4, world_steps=4)
    release.run()
    release.run()
    monkeypatch.setattr(clips, "FRAMES", 4096)
    results, picture = tmp_path / "results.json", tmp_path / "picture.png"
    evaluate.Evaluation(
        checkpoint=str(out / "checkpoint"), player="random", clips=16, json=results, picture=picture
    ).run()
    scores = json.loads(results.read_text())
    assert picture.stat().st_size > 0
    assert scores["clips"] == 16
    assert {name: part["clips"] for name, part in scores["sets"].items()} == {"sticky": 8, "player": 8}
    assert [row["t"] for row in scores["rollout"]] == [1, 2, 4, 8, 10, 15]
    assert {"command", "commit", "seed"} <= set(scores)


def test_lengthening_trains_the_dynamics_and_nothing_else(tmp_path: Path, tiny_checkpoint: Path) -> None:
    config = RecordConfig(frames=2048, num_envs=8)
    record(config, parse_shares(["random=1"]), tmp_path / "data")
    settings: dict[str, Any] = {"data": tmp_path / "data", "out": tmp_path / "run", "checkpoint": str(tiny_checkpoint)}
    for minutes in (0.0, None):
        lengthen.Lengthening(**settings, clip_length=20, train_steps=4, batch_size=2, minutes=minutes).run()
        assert (tmp_path / "run" / "checkpoint").exists() == (minutes is None)
    before, after = (load(folder, precision="float32") for folder in (tiny_checkpoint, tmp_path / "run" / "checkpoint"))
    changed = {
        name.split(".")[0]
        for name, weights in after.state_dict().items()
        if not torch.equal(weights, before.state_dict()[name])
    }
    assert changed == {"dynamics"}


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="levels"):
        evaluate.Evaluation(levels="tests").run()


def test_tables_go_between_the_markers() -> None:
    document = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"
    assert fill(document, "new") == "before\n<!-- results -->\nnew\n<!-- /results -->\nafter\n"
    with pytest.raises(ValueError, match="results"):
        fill("no markers", "new")
