"""A small version of the kills at random moments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genie_gym.results.files import ROOT


@pytest.mark.pipeline
@pytest.mark.skipif(sys.platform != "linux", reason="reads the states of processes from Linux's /proc")
@pytest.mark.parametrize("operation", ["save", "record", "train"])
def test_a_killed_command_leaves_no_process_and_is_resumed_byte_by_byte(tmp_path: Path, operation: str) -> None:
    """In a process of its own, since it forks."""
    pytest.importorskip("procgen")
    command = [sys.executable, "-m", "experiments.trust.kills", "--moments", "3", "--operations", operation]
    command += ["--out", str(tmp_path), "--work", str(tmp_path / "work")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=1500)
    (row,) = json.loads((tmp_path / "results" / "smoke" / "kills.json").read_text())["operations"]
    assert row["moments"] == 3
    assert (row["orphans"], row["not_equal"], row["left_over"]) == (0, 0, 0)


def test_every_kill_of_the_full_run_was_made_good() -> None:
    """As docs/trust.md says."""
    rows = json.loads((ROOT / "experiments" / "results" / "kills.json").read_text())["operations"]
    assert {row["operation"] for row in rows} == {"save", "record", "train", "benchmark"}
    assert all((row["orphans"], row["not_equal"], row["left_over"]) == (0, 0, 0) for row in rows)
