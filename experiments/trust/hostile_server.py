"""Attack the page's server in every way that we know, beside a player who plays on.

    python -m experiments.trust.hostile_server --preset full

A server is started as ``genie-gym play`` starts it. Before each attack, a player's steps are timed undisturbed: they
are the control. The same player is timed during the attack. Then the attackers leave, and the server's memory is
compared with that before the attack. Attackers run with the lowest priority, since real ones run on other machines.
"""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from experiments.trust.attacks import ATTACKS, draw_grey
from genie_gym.play.limits import DEFAULT_LIMITS
from genie_gym.results.experiment import Row, WorldExperiment

MOST_GROWTH = 1.1
"""Bound of the memory after an attack by that before it."""
_SECONDS = {"smoke": 2.0, "full": 4.0}
"""Length of each control and of each attack by preset."""
_PACE = 0.05
"""Seconds from one step of the player to the next; a step that takes longer delays the next one."""
_SETTLING = 6.0
"""Seconds after which the server has dealt with what came before, and returned its memory."""
_REST = 15.0
"""Most seconds in which the memory must come back."""


@dataclass(frozen=True, kw_only=True)
class HostileServer(WorldExperiment):
    """Time a player of the page's server under each attack, beside an undisturbed control."""

    name = "hostile_server"
    attacks: tuple[str, ...] = tuple(ATTACKS)
    """attacks to make, by name"""

    def run(self) -> None:
        """Make the attacks one after the other; print and write a row for each."""
        rows = []
        with _serve(self.checkpoint) as server:
            _fill_house(server.address)  # what a full house needs is no attack's doing
            _time_steps(server.address, 2 * _SECONDS[self.preset])  # the first steps are slower
            for name in self.attacks:
                rows.append(_measure(server, name, _SECONDS[self.preset]))
                Console().print(rows[-1])
        self.write({"checkpoint": self.checkpoint, "pace_seconds": _PACE, "rows": rows})


@dataclass(frozen=True, kw_only=True)
class ServerProcess:
    """A server in a process of its own."""

    address: str
    """host and port"""
    process: "subprocess.Popen[bytes]"
    """process of the server"""
    log: Path
    """file of all that the server has said"""

    @property
    def memory(self) -> float:
        """Return the memory that the process holds, in megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextlib.contextmanager
def _serve(checkpoint: str) -> Iterator[ServerProcess]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, command = f"127.0.0.1:{port}", [sys.executable, "-m", "genie_gym.cli", "play"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            command += ["--checkpoint", checkpoint, "--port", str(port)]
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            while True:
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.2)
            yield ServerProcess(address=address, process=process, log=log)
        finally:
            process.terminate()
            process.wait(timeout=60)


def _measure(server: ServerProcess, name: str, seconds: float) -> Row:
    control = _time_steps(server.address, seconds)
    time.sleep(_SETTLING)
    memory, log = server.memory, server.log.stat().st_size
    attack = subprocess.Popen(
        [sys.executable, "-m", "experiments.trust.attacks", name, server.address, str(seconds + 4)]
    )
    time.sleep(2)  # until it has started
    attacked = _time_steps(server.address, seconds)
    peak = server.memory
    attack.wait(timeout=600)
    time.sleep(_SETTLING)
    deadline = time.monotonic() + _REST
    while server.memory > MOST_GROWTH * memory and time.monotonic() < deadline:
        time.sleep(0.5)
    return {
        "attack": name,
        "control_ms": _summarize(control),
        "attacked_ms": _summarize(attacked),
        "slowdown": round(statistics.median(attacked) / statistics.median(control), 2),
        "memory_mb": {"before": round(memory), "during": round(peak), "after": round(server.memory)},
        "memory_ratio": round(server.memory / memory, 3),
        "log_bytes": server.log.stat().st_size - log,
    }


def _fill_house(address: str) -> None:
    """Let as many players as there is room for start on a picture each, and step at the same time."""
    with contextlib.ExitStack() as stack:
        players = [stack.enter_context(_join(address)) for _ in range(DEFAULT_LIMITS.visitors)]
        for message, answers in ((draw_grey(64, 64), 2), ('{"do": "step", "action": 1}', 1)):
            for player in players:
                player.send(message)
            for player in players:
                for _ in range(answers):
                    player.recv(timeout=60)


def _time_steps(address: str, seconds: float) -> list[float]:
    """Return how long each step of a player took, in seconds, from the message to the frame."""
    times: list[float] = []
    with _join(address) as player:
        player.send('{"do": "start"}')
        player.recv(timeout=60)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            player.send('{"do": "step", "action": 1}')
            player.recv(timeout=60)
            times.append(time.monotonic() - began)
            time.sleep(max(0.0, _PACE - times[-1]))
    return times


@contextlib.contextmanager
def _join(address: str) -> Iterator[Any]:
    """Open a WebSocket as soon as the server has room, within a minute."""
    from websockets.sync.client import connect

    deadline = time.monotonic() + 60
    while True:
        with connect(f"ws://{address}/play", open_timeout=60) as player:
            if json.loads(player.recv(timeout=60))["kind"] == "world":
                yield player
                return
        assert time.monotonic() < deadline, "there is no room"
        time.sleep(0.2)


def _summarize(times: list[float]) -> dict[str, Any]:
    """Return the number of frames, and the median, the 95th percentile and the longest of their times in ms."""
    percentile = statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
    values = {"median": statistics.median(times), "p95": percentile, "longest": max(times)}
    return {"frames": len(times), **{name: round(1_000 * value, 1) for name, value in values.items()}}


if __name__ == "__main__":
    tyro.cli(HostileServer).run()
