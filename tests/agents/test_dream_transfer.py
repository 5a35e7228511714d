"""Agents trained in a world, evaluated in the real game: from recording to table at the preset ``smoke``."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.dream_transfer import DREAM_METHODS, DREAM_TRANSFER_SIZES, DreamTransfer
from experiments.lib.tables.agents import tabulate_dreams


@pytest.mark.pipeline
def test_dream_transfer_smoke(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = DreamTransfer(checkpoint=str(tiny_checkpoint), out=tmp_path / "out", work=tmp_path / "work")
    command.run()
    results = json.loads(command.json.read_text())
    rows = results["rows"]
    assert {row["method"] for row in rows} == set(DREAM_METHODS)
    assert all(row["levels"] == 3 == row["solved"] + row["deaths"] + row["timeouts"] for row in rows)
    assert all(row["core_levels"] == len(row["core_outcomes"]) == 2 for row in rows)
    assert all(row["core_solved"] == 0 for row in rows if row["method"] == "best_constant")
    mapped, rewarded = DREAM_TRANSFER_SIZES["smoke"]["mapping_labels"], DREAM_TRANSFER_SIZES["smoke"]["judge_labels"]
    labels = {row["method"]: row["labels"] for row in rows if row["labels"] is not None}
    own = {
        "random_latents": mapped,
        "clone": mapped,
        "ppo_real": mapped + rewarded,
        "dream": mapped + rewarded,
        "dream_clone": mapped + rewarded,
        "dream_agreement": mapped,
    }
    twins = {f"blind_twin_{method}": number for method, number in own.items() if method != "random_latents"}
    assert labels == {**own, **twins, "marginal": mapped}
    assert {"recording", "labelling", "training", "playing", "core"} == set(results["cpu_seconds"])
    assert sum(line.startswith("| ") for line in tabulate_dreams(results).splitlines()) == 2 + len(DREAM_METHODS)

    # several processes make the same rows, of clones and reward models that they share
    shutil.rmtree(next((tmp_path / "work").rglob("easy-*")))
    shared = ("clone", "dream", "dream_clone")
    apart = replace(command, out=tmp_path / "apart", methods=shared, processes=2)
    apart.run()

    def by_method(rows: list[dict[str, Any]]) -> dict[str, str]:
        return {row["method"]: row["outcomes"] + row["core_outcomes"] for row in rows if row["method"] in shared}

    assert by_method(json.loads(apart.json.read_text())["rows"]) == by_method(rows)


def test_unknown_methods_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"methods must be among .* got \('magic',\)"):
        DreamTransfer(methods=("magic",), out=tmp_path).run()
