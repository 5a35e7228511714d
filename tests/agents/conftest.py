"""A little play to try agents on."""

from pathlib import Path

import pytest

from agents.demonstrations import DemonstrationFolders, Demonstrations


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> DemonstrationFolders:
    """A little of the shipped player's play."""
    out: Path = tmp_path_factory.mktemp("demonstrations")
    return Demonstrations(out=out, frames=2048, labelled_frames=1024, num_envs=8).run()
