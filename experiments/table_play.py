"""How fast is a world on its page? Frames a second and milliseconds a frame in headless Chromium, a key held.

python -m experiments.table_play

The server is ``genie-gym play``, on the same machine as the browser, which takes its share of the cores.
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
from genie_gym.results.files import write_results

WARM_UP = 3.0
"""Seconds of play before it counts."""
START = 120.0
"""Seconds that a server may take to serve."""


@dataclass(frozen=True, kw_only=True)
class PlayTable:
    """Play on one page, and on several at once."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    pages: tuple[int, ...] = (1, 2, 4)
    """How many play at once."""
    seconds: float = 20.0
    """Of play that count."""
    port: int = 8017
    """Of the server."""
    browser: str | None = None
    """Path of a Chromium; the one in PATH where not given."""
    json: Path = Path("experiments/results/play.json")
    """File of results."""

    def run(self) -> None:
        """Play, print, write.

        Raises:
            ValueError: If there is no browser.
        """
        browser = self.browser or shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            raise ValueError("browser must be given where no chromium is in PATH, got None")
        rows = []
        with serve(self.checkpoint, self.port) as address, sync_playwright() as library:
            chromium = library.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            for pages in self.pages:
                opened = [_visit(chromium, address) for _ in range(pages)]
                rows.append({"pages": pages, **_measure(opened, self.seconds)})
                Console().print(rows[-1])
                for page in opened:
                    page.close()
            version = chromium.version
            chromium.close()
        machine = describe_machine(torch.device("cpu"))
        about = {"checkpoint": self.checkpoint, "chromium": version, "seconds": self.seconds, "machine": machine}
        write_results(self.json, {**about, "rows": rows})


@contextlib.contextmanager
def serve(checkpoint: str, port: int) -> Iterator[str]:
    """The address of a server that ends with the block."""
    command = [sys.executable, "-m", "genie_gym.cli", "play", "--port", str(port), "--checkpoint", checkpoint]
    server, address = subprocess.Popen(command), f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START
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
    """Frames a second of each page, and the milliseconds from an action to its frame."""
    time.sleep(WARM_UP)
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
