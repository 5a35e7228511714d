"""A short recording to test agents on."""

from pathlib import Path

import pytest

from agents.demonstrations import DemonstrationFolders, Demonstrations


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> DemonstrationFolders:
    """Two thousand frames of the shipped player, recorded once."""
    out: Path = tmp_path_factory.mktemp("demonstrations")
    return Demonstrations(out=out, frames=2048, labelled_frames=1024, num_envs=8).run()
