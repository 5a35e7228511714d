"""The speed of the page, at the size of a toy."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from experiments.lib.tables.speed import describe_play
from experiments.release.table_play import PlayTable

pytestmark = pytest.mark.pipeline


def read(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(path.read_text())["rows"][0]
    assert {"command", "commit"} <= set(results)
    return results


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
    assert "2 at once" in describe_play({"rows": [results]})
