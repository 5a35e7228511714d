"""The release scripts, whole, at the size of a toy."""

import json
from pathlib import Path

import pytest

from experiments import clips
from experiments.readme_tables import fill
from experiments.release import evaluate, train

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


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="levels"):
        evaluate.Evaluation(levels="tests").run()


def test_tables_go_between_the_markers() -> None:
    document = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"
    assert fill(document, "new") == "before\n<!-- results -->\nnew\n<!-- /results -->\nafter\n"
    with pytest.raises(ValueError, match="results"):
        fill("no markers", "new")
