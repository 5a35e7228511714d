"""MaskGIT step counts compared with the largest one."""

from pathlib import Path

import pytest

from genie_gym.metrics.held_out import ClipPool
from genie_gym.metrics.maskgit_steps import compare_maskgit_steps
from genie_gym.serving import load_world


def test_step_counts_are_compared_with_the_last(tiny_checkpoint: Path, coinrun_pool: ClipPool) -> None:
    shares: list[float] = []
    rows, speed = compare_maskgit_steps(
        load_world(tiny_checkpoint), coinrun_pool.draw(8, 0).videos, (1, 3), 0, shares.append
    )
    assert [row["maskgit_steps"] for row in rows] == [1, 3]
    assert set(speed) == {"1", "3"}
    assert shares == [pytest.approx(1 / 4), 1]
    fewer, most = rows
    assert all(part["less_than_most"] == 0 for part in (*most["rollout"], *most["delta_psnr"]))
    assert any(part["less_than_most"] != 0 for part in fewer["rollout"])
    for part in fewer["delta_psnr"]:
        assert part["interval"][0] <= part["less_than_most"] <= part["interval"][1]
    assert fewer["fvd_procgen"] != most["fvd_procgen"]


def test_short_clips_have_no_video_distance(tiny_checkpoint: Path, coinrun_pool: ClipPool) -> None:
    rows, _ = compare_maskgit_steps(load_world(tiny_checkpoint), coinrun_pool.draw(4, 0).videos[:, :9], (1, 2), 0)
    assert [part["t"] for part in rows[0]["rollout"]] == [1, 4, 8]
    assert "fvd_procgen" not in rows[0]
