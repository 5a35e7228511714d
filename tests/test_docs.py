"""Tests that every block of code in the docs runs and that Sphinx builds them without a warning."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from experiments.lib.pages import BLOCK, RUNNABLE, find_blocks, write_block

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NEED_PROCGEN = ("agents", "train_in_a_dream")
"""Pages whose code records real games."""
IN_THEIR_OWN_ENVIRONMENTS = "compatibility"
"""Page whose programs need other packages each; ``make compat`` runs them."""
WITH_A_HUB = "first_hour"
"""Page whose code needs a hub and takes minutes; ``tests/experiments/test_first_hour.py`` runs it."""
DIFF = "diff"
"""Language of blocks that are applied to a copy of the package before the page runs."""
SERVES = re.compile(r"genie-gym play --port (\d+)[^\n]*\n")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and text of every block, in order."""
    return find_blocks(page.read_text())


def environment(*folders: Path) -> dict[str, str]:
    """Return variables under which ``genie-gym`` and ``agents`` are found: in ``folders``, then in this clone.

    Programs compute with one thread: beside other tests, two threads wait for each other, and a page took ten minutes.
    """
    commands, paths = str(Path(sys.executable).parent), os.pathsep.join(map(str, [*folders, ROOT]))
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": paths, "PATH": path, "OMP_NUM_THREADS": "1"}


def edit_copy(page: Path, copy: Path) -> list[Path]:
    """Apply the page's diffs to a copy of the package; the folder to import it from, none if there are no diffs."""
    diffs = [text for language, text in blocks(page) if language == DIFF]
    if not diffs:
        return []
    package = ROOT / "genie_gym"
    shutil.copytree(package, copy / "genie_gym", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    (copy / "genie_gym" / "weights").symlink_to(package / "weights")
    for diff in diffs:
        done = subprocess.run(["git", "apply", "-"], cwd=copy, input=diff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{diff}"
    return [copy]


def serve(command: str, port: int, folder: Path) -> None:
    """Start the server of a web page, wait until it answers, and interrupt it."""
    script = f"exec {command.strip()}"
    server = subprocess.Popen(["bash", "-euc", script], cwd=folder, env=environment())
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/world") as answer:
                    assert b'"names"' in answer.read()
                break
            except OSError:
                assert server.poll() is None, f"{command} ended with {server.returncode}"
                assert time.monotonic() < deadline, f"{command} does not answer"
                time.sleep(0.2)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


RUNNING = [page for page in PAGES if blocks(page) and page.stem not in (IN_THEIR_OWN_ENVIRONMENTS, WITH_A_HUB)]


@pytest.mark.pipeline
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    if page.stem in NEED_PROCGEN:
        pytest.importorskip("procgen")
    program, served, edited = "", [], edit_copy(page, tmp_path / "edited")
    for language, text in blocks(page):
        if match := SERVES.fullmatch(text):
            served.append((text, int(match[1])))
        elif language in RUNNABLE:
            program += write_block(language, text)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(*edited),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for command, port in served:
        serve(command, port, tmp_path)
    for picture in re.findall(r"out=runs / \"(.+?\.gif)\"", program):
        assert (tmp_path / "runs" / "tutorial" / picture).stat().st_size > 0


def test_every_block_is_tested() -> None:
    """Indented blocks and other languages would not be found."""
    for page in PAGES:
        text = page.read_text()
        assert text.count("\n```") + text.startswith("```") == 2 * text.count("```{") + 2 * len(blocks(page)), page
        assert {language for language, _ in blocks(page)} <= {*RUNNABLE, DIFF}, page
        assert not re.search(r"^    \S", BLOCK.sub("", text), flags=re.MULTILINE), page


def test_each_change_edits_the_files_that_it_names() -> None:
    changes = (DOCS / "extend.md").read_text().split("\n## ")[1:]
    assert len(changes) == 5
    for change in changes:
        named = re.search(r"^Files: (.+?)\n\n", change, flags=re.DOTALL | re.MULTILINE)
        assert named, change
        edited = set(re.findall(r"^\+\+\+ b/(.+)$", change, flags=re.MULTILINE))
        assert edited == {path for path in re.findall(r"`(.+?)`", named[1]) if (ROOT / path).exists()}


def test_sphinx_builds_the_pages_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "doctrees")]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "html")], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "GenieWorldModel" in (tmp_path / "html" / "api.html").read_text()
