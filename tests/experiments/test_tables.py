"""The tables and figures of how the shipped world is played, each at the size of a toy."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.figure_context import ContextFigure, rollout_rebuilt
from experiments.figure_growth import GrowthFigure
from experiments.readme.speed import tell_play
from experiments.table_memory import Memory
from experiments.table_play import PlayTable
from genie_gym.metrics import held_out
from genie_gym.models.uncached import rollout_uncached

pytestmark = pytest.mark.pipeline


@pytest.fixture
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "RECORDED_FRAMES", 4096)


def read(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(path.read_text())
    assert {"command", "commit"} <= set(results)
    return results


def test_the_cache_equals_a_window_up_to_the_context(few_frames: None, tiny_checkpoint: Path, tmp_path: Path) -> None:
    paths = {"json": tmp_path / "out.json", "picture": tmp_path / "out.png"}
    ContextFigure(checkpoint=str(tiny_checkpoint), clips=2, frames=12, rebuild_every=(2,), **paths).run()
    results = read(paths["json"])
    within = [row for row in results["rows"] if row["t"] < results["context_length"]]
    assert len(within) == 7
    for name in ("cached_psnr", "rebuilt_2_psnr"):
        assert all(row[name] == pytest.approx(row["recomputed_psnr"], abs=1e-3) for row in within)
    assert results["all_frames"]["recomputed"]["clip_psnr_lost"] == 0
    assert paths["picture"].stat().st_size > 0


def test_rebuilt_at_every_frame_is_recomputed(make_world: Any, random_videos: Any) -> None:
    """In a world whose decoder looks at single frames; rebuilt less often it is something else."""
    world, prompt, actions = make_world("spatial"), random_videos(2, 1), torch.arange(40).reshape(2, 20) % 8
    windowed = rollout_uncached(world, prompt, actions, 3, window=world.config.context_length)
    rebuilt = {every: rollout_rebuilt(world, prompt, actions, 3, every) for every in (1, 5)}
    torch.testing.assert_close(rebuilt[1], windowed, atol=1e-4, rtol=0)
    assert (rebuilt[5] - windowed).abs().max() > 0.01


def test_growth_has_its_expected_order_beside_it(tmp_path: Path) -> None:
    paths = {"json": tmp_path / "out.json", "picture": tmp_path / "out.png"}
    small: dict[str, Any] = {"context_lengths": (2, 16), "sizes": (32, 64), "num_envs": (1, 2), "widths": (64, 256)}
    GrowthFigure(seconds=0.001, **small, **paths).run()
    curves = read(paths["json"])["curves"]
    assert [row["value"] for row in curves["environments"]] == [1, 2]
    one, two = curves["environments"]
    assert two["gflop"] == pytest.approx(2 * one["gflop"])
    assert two["expected_ms"] == pytest.approx(2 * one["ms"])
    assert all(row["ms"] > 0 for rows in curves.values() for row in rows)


def test_memory_is_read_when_asked(tiny_checkpoint: Path, tmp_path: Path) -> None:
    table = Memory(checkpoint=str(tiny_checkpoint), env_steps=(2, 5), json=tmp_path / "out.json")
    table.run()
    assert list(read(table.json)["resident_mb"]) == ["2", "5"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to play in: apt-get install chromium")
def test_play_on_a_page_is_timed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    table = PlayTable(checkpoint=str(tiny_checkpoint), pages=(1, 2), seconds=1, port=port, json=tmp_path / "out.json")
    table.run()
    results = read(table.json)
    one, two = results["rows"]
    assert (len(one["frames_per_second"]), len(two["frames_per_second"])) == (1, 2)
    assert min(*one["frames_per_second"], *two["frames_per_second"]) > 0
    assert "2 at once" in tell_play(results)
