"""Processes that play for an experiment and answer its questions, a line of JSON each."""

import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class PlayingProcess:
    """A process that reads questions from standard input and writes answers to standard output."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name, self.process = name, process

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a question and return the answer.

        Raises:
            ValueError: If the process has ended; what it wrote to standard error stands above.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{json.dumps(question)}\n".encode())
            answer = self.process.stdout.readline().decode()
        except BrokenPipeError:
            answer = ""
        if not answer.startswith("{"):
            said = f" and said {answer.strip()!r}" if answer else ""
            raise ValueError(f"{self.name} cannot play{said}: its error is above")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextmanager
def open_player(name: str, command: list[str], checkout: Path, threads: int) -> Iterator[PlayingProcess]:
    """Yield a player that imports from a checkout, in its folder, with a number of threads; it ends with the block."""
    path, count = str(checkout.absolute()), str(threads)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    with subprocess.Popen(
        command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=checkout, env=environment
    ) as process:
        try:
            yield PlayingProcess(name, process)
        finally:
            process.kill()


def ask_in_turn(players: Mapping[str, PlayingProcess], seconds: float, number: int) -> dict[str, dict[str, float]]:
    """Ask each player for the time of a frame, in reverse order in every other round, and return the answers."""
    names = list(players)[:: 1 - 2 * (number % 2)]
    answers = {name: players[name].ask({"seconds": seconds}) for name in names}
    return {name: answers[name] for name in players}


def take_medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median over rounds of each number."""
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
