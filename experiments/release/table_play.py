"""Measure the speed of the page of ``genie-gym play``, in headless Chromium with a key held down.

    python -m experiments.release.table_play

Server and browser share the machine's cores.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from genie_gym.bench.machine import describe_machine
from genie_gym.results.files import write_by_machine

_WARM_UP, _START = 3.0, 120.0
"""Seconds of play before the measurement, and most seconds that the server may take to start."""


@dataclass(frozen=True, kw_only=True)
class PlayTable:
    """Measure the speed of one page, and of several at once."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a checkpoint's folder"""
    pages: tuple[int, ...] = (1, 2, 4)
    """numbers of pages to measure that play at once"""
    seconds: float = 20.0
    """seconds of play that are measured"""
    port: int = 8017
    """port of the server"""
    browser: str | None = None
    """path of a Chromium binary; None for the one in PATH"""
    json: Path = Path("experiments/results/play.json")
    """JSON file with a row for each kind of machine"""

    def run(self) -> None:
        """Play each number of pages, print and write the results.

        Raises:
            ValueError: If no browser is found.
        """
        browser = self.browser or shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            raise ValueError("browser must be the path of a Chromium if none is in PATH, got None")
        rows = []
        with serve_page(self.checkpoint, self.port) as address, sync_playwright() as library:
            chromium = library.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            for pages in self.pages:
                opened = [_visit(chromium, address) for _ in range(pages)]
                rows.append({"pages": pages, **_measure(opened, self.seconds)})
                Console().print(rows[-1])
                for page in opened:
                    page.close()
            version = chromium.version
            chromium.close()
        about = {"checkpoint": self.checkpoint, "chromium": version, "seconds": self.seconds}
        write_by_machine(self.json, {**about, "machine": describe_machine(torch.device("cpu")), "rows": rows})


@contextlib.contextmanager
def serve_page(checkpoint: str, port: int) -> Iterator[str]:
    """Start a server in a process of its own and yield its address; it stops when the ``with`` block ends."""
    command = [sys.executable, "-m", "genie_gym.cli", "play", "--port", str(port), "--checkpoint", checkpoint]
    server, address = subprocess.Popen(command), f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _START
        while not _is_served(address):
            assert server.poll() is None, f"{command} ended"
            assert time.monotonic() < deadline, f"{command} does not serve"
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


def _is_served(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/world") as answer:
            return "names" in json.loads(answer.read())
    except OSError:
        return False


def _visit(chromium: Any, address: str) -> Page:
    page: Page = chromium.new_page()
    page.goto(address)
    page.wait_for_selector("#screen[data-steps]")
    page.select_option("#speed", "0")
    page.locator("#screen").focus()
    page.keyboard.down("2")
    return page


def _measure(pages: list[Page], seconds: float) -> dict[str, Any]:
    """Return the frames per second of each page, and the median milliseconds from an action to its frame."""
    time.sleep(_WARM_UP)
    began, before = time.perf_counter(), [_steps(page) for page in pages]
    time.sleep(seconds)
    after, took = [_steps(page) for page in pages], time.perf_counter() - began
    waits = [page.evaluate("() => latencies") for page in pages]
    frames = [(last - first) / took for first, last in zip(before, after, strict=True)]
    return {"frames_per_second": frames, "latency_ms": float(np.median(np.concatenate(waits)))}


def _steps(page: Page) -> int:
    return int(page.get_attribute("#screen", "data-steps") or 0)


if __name__ == "__main__":
    tyro.cli(PlayTable).run()
