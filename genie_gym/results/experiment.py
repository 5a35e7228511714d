"""Base classes of the experiments: command-line options, result files, and tables that resume row by row.

A *cell* is the combination of settings that identifies one row of a table; its *row* adds the measurements.
"""

import functools
import json
import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from tqdm import tqdm

from genie_gym.bench.machine import describe_machine
from genie_gym.checks import require
from genie_gym.parallel import run_in_processes
from genie_gym.results.files import ROOT, current_commit, require_writable, write_by_machine, write_results
from genie_gym.system import lock_folder

Row = dict[str, Any]
_PATIENCE = 60.0  # seconds to wait while other runs add their rows


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment that writes one JSON file of results and usually one figure."""

    name: ClassVar[str]
    """name of the experiment, and by default of its files"""
    by_machine: ClassVar[bool] = False
    """whether the file has a row for each kind of machine, as for speeds"""
    preset: Literal["smoke", "full"] = "smoke"
    """size of the experiment: ``smoke`` tests it in minutes, ``full`` gives the published numbers"""
    out: Path = ROOT / "experiments"
    """folder for ``results`` and ``figures``; those of ``smoke`` go into subfolders"""
    work: Path = ROOT / "runs" / "experiments"
    """folder for recordings and unfinished runs"""
    seed: int = 0
    """first random seed; repeated runs use this one and those that follow"""
    device: str = "cpu"
    """torch device for training and playing"""

    @property
    def file_name(self) -> str:
        """Return the file name, without extension, of results and figure."""
        return self.name

    @property
    def json(self) -> Path:
        """Return the path of the results."""
        return self._place("results") / f"{self.file_name}.json"

    @property
    def picture(self) -> Path:
        """Return the path of the figure, and make its folder."""
        folder = self._place("figures")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.file_name}.png"

    @property
    def run_folder(self) -> Path:
        """Return the folder for the unfinished runs of this preset."""
        return self.work / self.preset / self.file_name

    def _place(self, kind: str) -> Path:
        return self.out / kind if self.preset == "full" else self.out / kind / "smoke"

    def write(self, results: Row) -> None:
        """Write the results with preset, seed, machine, command and commit."""
        machine = describe_machine(torch.device(self.device))
        write = write_by_machine if self.by_machine else write_results
        write(self.json, {"preset": self.preset, "seed": self.seed, "machine": machine, **results})


@dataclass(frozen=True, kw_only=True)
class WorldExperiment(Experiment):
    """An experiment on a world that is already trained."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a checkpoint's folder"""


@dataclass(frozen=True, kw_only=True)
class TrainedExperiment(Experiment):
    """An experiment whose results are a table; each row is written as soon as it is finished."""

    def finish_rows(
        self, cells: Iterable[Row], settings: Row, work: Callable[[Row], Row], processes: int = 1
    ) -> list[Row]:
        """Compute the rows that the results file lacks, write each at once, and return all rows.

        Args:
            cells: Settings that identify each row, in the order of work.
            settings: Settings that all rows share, in addition to preset and seed.
            work: Function from a cell to the rest of its row. Must be picklable if ``processes`` > 1.
            processes: Number of parallel processes; they share torch's threads equally.

        Returns:
            The rows of ``cells`` in order, then the file's rows of other cells.

        Raises:
            ValueError: If the file holds rows of other settings.
        """
        cells = list(cells)
        require_writable(self.json)
        missing = self.find_missing(cells, settings)
        cpu = describe_machine(torch.device(self.device))["cpu"]
        for cell, measured in self._measure(missing, work, processes):
            self._add_rows(settings, [{**cell, **measured, "cpu": cpu, "commit": current_commit()}])
        rows = self._read_rows(settings)
        wanted = [next(row for row in rows if _has_settings(row, cell)) for cell in cells]
        return wanted + [row for row in rows if row not in wanted]

    def find_missing(self, cells: Iterable[Row], settings: Row) -> list[Row]:
        """Return the cells that have no row yet; arguments and errors as in ``finish_rows``."""
        rows = self._read_rows(settings)
        return [cell for cell in cells if not any(_has_settings(row, cell) for row in rows)]

    def copy_rows(self, path: Path, cells: Iterable[Row], settings: Row, ignored: Container[str] = ()) -> None:
        """Copy the rows that are still missing here from another results file, each with the commit that made it.

        Args:
            path: Results file to copy from.
            cells: Cells whose rows to copy, as in ``finish_rows``.
            settings: Settings of both files, as in ``finish_rows``.
            ignored: Names of settings that may differ in the other file.

        Raises:
            ValueError: If ``path`` is no file, or either file holds rows of other settings.
        """
        require_writable(self.json)
        if not path.is_file():
            raise ValueError(f"results {str(path)!r} must be a file")
        found = self._read(path, {name: value for name, value in settings.items() if name not in ignored})
        missing = self.find_missing(cells, settings)
        known = [row for row in found["rows"] if any(_has_settings(row, cell) for cell in missing)]
        if known:
            self._add_rows(settings, [{"commit": found["commit"], **row} for row in known])

    def _add_rows(self, settings: Row, rows: list[Row]) -> None:
        """Add rows to those of the file; other runs may do so at the same time, such as one for each game mode."""
        with lock_folder(self.json.parent, _PATIENCE):
            self.write({**settings, "rows": [*self._read_rows(settings), *rows]})

    def _measure(self, cells: list[Row], work: Callable[[Row], Row], processes: int) -> Iterator[tuple[Row, Row]]:
        timed = functools.partial(_time, work)
        if processes > 1:
            threads = max(1, torch.get_num_threads() // processes)
            yield from tqdm(run_in_processes(timed, cells, processes, threads), total=len(cells), unit="row")
            return
        for number, cell in enumerate(cells):
            tqdm.write(f"{self.name}: missing row {number + 1} of {len(cells)}: {cell}")
            yield cell, timed(cell)

    def _read_rows(self, settings: Row) -> list[Row]:
        if not self.json.exists():
            return []
        return list(self._read(self.json, settings, "; move it away to start again")["rows"])

    def _read(self, path: Path, settings: Row, advice: str = "") -> Row:
        """Return the content of a results file, after checking that its settings are those of this run."""
        found: Row = json.loads(path.read_text())
        wanted = json.loads(json.dumps({"preset": self.preset, "seed": self.seed, **settings}))
        for name, value in wanted.items():
            if (present := found.get(name)) != value:
                raise ValueError(f"{path} holds rows of other settings, {name} {present!r}, not {value!r}{advice}")
        return found


def _has_settings(row: Row, cell: Row) -> bool:
    return cell.items() <= row.items()


def _time(work: Callable[[Row], Row], cell: Row) -> Row:
    """Return the result of ``work`` with the minutes it took."""
    began = time.monotonic()
    return {**work(cell), "minutes": round((time.monotonic() - began) / 60, 2)}


@dataclass(frozen=True, kw_only=True)
class VariantExperiment(TrainedExperiment):
    """An experiment that trains each of several variants with several seeds."""

    seeds: int | None = None
    """number of seeds to run now, the preset's by default; a later run adds the others"""

    def repeat_over_seeds(self, cells: list[Row], seeds: int) -> list[Row]:
        """Return a cell for each seed and each of ``cells``: all cells of the first seed, then those of the next.

        The option ``seeds`` may select the first few of the preset's ``seeds``.

        Raises:
            ValueError: If the option ``seeds`` is not positive.
        """
        require(self.seeds is None or self.seeds > 0, "seeds", self.seeds, "positive")
        wanted = range(seeds if self.seeds is None else min(seeds, self.seeds))
        return [{**cell, "seed": self.seed + seed} for seed in wanted for cell in cells]
