"""Agents trained in a world, evaluated in the real game: from recording to table at the preset ``smoke``."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agents.dream_transfer import DREAM_METHODS, DREAM_TRANSFER_SIZES, DreamTransfer
from experiments.lib.tables.agents import tabulate_dreams


@pytest.mark.pipeline
def test_dream_transfer_smoke(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = DreamTransfer(checkpoint=str(tiny_checkpoint), out=tmp_path / "out", work=tmp_path / "work")
    command.run()
    results = json.loads(command.json.read_text())
    rows = results["rows"]
    assert [row["method"] for row in rows] == list(DREAM_METHODS)
    assert all({"mode", "method", "seed", "levels", "solved", "real_labels"} <= set(row) for row in rows)
    assert all(0 <= row["solved"] <= 1 and row["levels"] == 3 for row in rows)
    mapped, rewarded = DREAM_TRANSFER_SIZES["smoke"]["mapping_labels"], DREAM_TRANSFER_SIZES["smoke"]["judge_labels"]
    labels = {row["method"]: row["real_labels"] for row in rows}
    assert labels == {
        "random": 0,
        "random_latents": mapped,
        "clone": mapped,
        "ppo_real": mapped + rewarded,
        "dream": mapped + rewarded,
        "dream_clone": mapped + rewarded,
        "dream_agreement": mapped,
    }
    assert len(tabulate_dreams(results).splitlines()) == 4 + len(DREAM_METHODS)

    # several processes make the same rows, of clones and reward models that they share
    shutil.rmtree(next((tmp_path / "work").rglob("easy-*")))
    shared = ("clone", "dream", "dream_clone")
    apart = replace(command, out=tmp_path / "apart", methods=shared, processes=2)
    apart.run()
    by_method = lambda rows: {row["method"]: row["solved_by_level"] for row in rows if row["method"] in shared}  # noqa: E731
    assert by_method(json.loads(apart.json.read_text())["rows"]) == by_method(rows)


def test_unknown_methods_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"methods must be among .* got \('magic',\)"):
        DreamTransfer(methods=("magic",), out=tmp_path).run()
