"""Two checkouts timed in turn, at the size of a toy: this one beside itself."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.ablations.against import AgainstComparison, compare_frames
from experiments.lib.tables.speed import tabulate_against
from genie_gym.results.files import ROOT


@pytest.mark.pipeline
def test_a_checkout_beside_itself_plays_equal_frames(tiny_checkpoint: Path, tmp_path: Path) -> None:
    comparison = AgainstComparison(checkpoint=str(tiny_checkpoint), other=ROOT, precision="float32", out=tmp_path)
    comparison.run()
    results = json.loads(comparison.json.read_text())
    row = results["rows"][0]
    assert [each["num_envs"] for each in row["by_envs"]] == [1, 2]
    for each in row["by_envs"]:
        assert (each["different_frames"], each["different_pixels"]) == (0, 0)
        assert each["frames"] == 4 * each["num_envs"]
        assert min(each["own"]["cpu_ms"], each["other"]["fps"], each["ratio"], each["matmul_tflops"]) > 0
    assert "0 of 8 frames" in tabulate_against(results)


def test_frames_that_differ_are_counted() -> None:
    own = np.zeros((2, 3, 4, 4, 3), np.uint8)
    other = own.copy()
    other[1, 2, 0, 0] = 255
    other[1, 2, 3, 3, 1] = 7
    found = compare_frames(other, own)
    assert found == {"frames": 6, "different_frames": 1, "different_pixels": 2, "largest_difference": 255}


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"other must be the folder of a checkout.*{tmp_path.name}"):
        AgainstComparison(other=tmp_path, out=tmp_path).run()


def test_a_checkout_that_cannot_play_is_named(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "genie_gym").mkdir()
    (tmp_path / "genie_gym" / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    with pytest.raises(ValueError, match=f"{tmp_path.name} cannot play"):
        AgainstComparison(checkpoint=str(tiny_checkpoint), other=tmp_path, out=tmp_path).run()
