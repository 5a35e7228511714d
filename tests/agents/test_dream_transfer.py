"""Agents trained in a world, evaluated in the real game: from recording to table at the preset ``smoke``."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import dream_transfer
from agents.dream_seen_levels import DreamOnSeenLevels
from agents.dream_transfer import DREAM_METHODS, DREAM_TRANSFER_SIZES, DreamTransfer
from agents.game import make_game
from experiments.lib.tables.agents import tabulate_dreams
from genie_gym.data.shards import Shard


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
    caption, table, pairs, costs = tabulate_dreams(results).split("\n\n")
    assert "3 test levels" in caption
    assert "core-hours" in costs
    assert len(table.splitlines()) == 2 + len(DREAM_METHODS)
    compared = [line.split(" | ")[0].strip("| ") for line in pairs.splitlines()[2:]]
    assert "dream - random_latents" in compared
    assert "dream_agreement - best blind" in compared

    # several processes make the same rows, of clones and reward models that they share
    shutil.rmtree(next((tmp_path / "work").rglob("easy-*")))
    shared = ("clone", "dream", "dream_clone")
    apart = replace(command, out=tmp_path / "apart", methods=shared, processes=2)
    apart.run()

    def by_method(rows: list[dict[str, Any]]) -> dict[str, str]:
        return {row["method"]: row["outcomes"] + row["core_outcomes"] for row in rows if row["method"] in shared}

    assert by_method(json.loads(apart.json.read_text())["rows"]) == by_method(rows)


@pytest.mark.pipeline
def test_dreams_on_seen_levels_start_from_the_first_frames_of_the_levels_played(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    command = DreamOnSeenLevels(checkpoint=str(tiny_checkpoint), out=tmp_path / "out", work=tmp_path / "work")
    command.run()
    results = json.loads(command.json.read_text())
    assert results["level_set"] == "validation"
    assert {row["method"] for row in results["rows"]} == set(command.methods)
    (path,) = (tmp_path / "work").rglob("first-frames/*.h5")
    shard, levels = Shard(path), command.choose_levels("easy")
    assert shard.level_seeds[::4].tolist() == levels
    assert all(10_000 <= level < 11_000 for level in levels)
    frames = shard.read(0, shard.num_frames).reshape(len(levels), 4, *shard.frame_size, 3)
    games = make_game("easy").open_levels(levels)
    assert np.array_equal(frames[:, 0], games.observe().frames)
    assert (frames[:, 0] != frames[:, -1]).any(axis=(1, 2, 3)).all()  # they move
    games.close()


def test_what_was_learned_by_other_sizes_or_settings_is_not_reused(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, full = DreamTransfer(checkpoint=str(tiny_checkpoint), work=tmp_path), DREAM_TRANSFER_SIZES["smoke"]
    folders = [command.open("easy").work]
    for name in ("frames", "labelled_frames", "judge_labels", "clone_steps"):
        monkeypatch.setitem(DREAM_TRANSFER_SIZES, "smoke", {**full, name: full[name] + 1})
        folders.append(command.open("easy").work)
    monkeypatch.setitem(DREAM_TRANSFER_SIZES, "smoke", full)
    monkeypatch.setattr(dream_transfer, "_METHODS", dream_transfer._METHODS[:-1])
    folders.append(command.open("easy").work)
    assert len(set(folders)) == len(folders)
    for name in ("seeds", "levels", "core_levels"):
        monkeypatch.setitem(DREAM_TRANSFER_SIZES, "smoke", {**full, name: full[name] + 1})
        assert command.open("easy").work == folders[-1], name


def test_dreams_of_other_levels_are_not_reused_on_seen_levels(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, full = DreamOnSeenLevels(checkpoint=str(tiny_checkpoint), work=tmp_path), DREAM_TRANSFER_SIZES["smoke"]
    before = command.open("easy").work
    for name in ("levels", "core_levels", "core_among"):
        monkeypatch.setitem(DREAM_TRANSFER_SIZES, "smoke", {**full, name: full[name] + 1})
        assert command.open("easy").work != before, name


def test_ppo_in_the_real_game_takes_hardly_more_steps_than_the_dream_has_labels(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: dict[str, Any] = {}

    def plan(**options: Any) -> None:
        planned.update(options)
        raise InterruptedError

    monkeypatch.setattr(dream_transfer, "PlayerTraining", plan)
    with pytest.raises(InterruptedError):
        DreamTransfer(preset="full", checkpoint=str(tiny_checkpoint), work=tmp_path).open("easy").train_real(0)
    update = planned["num_envs"] * planned["rollout_steps"]
    taken = -(-planned["env_steps"] // update) * update
    assert 1000 == planned["env_steps"] <= taken < 1032


def test_unknown_methods_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"methods must be among .* got \('magic',\)"):
        DreamTransfer(methods=("magic",), out=tmp_path).run()
