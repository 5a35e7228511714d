"""What all experiments share: their command line, where results lie, and the rivals' training, cell by cell."""

import functools
import json
import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from genie_gym.bench.machine import describe_machine
from genie_gym.parallel import run_in_processes
from genie_gym.results.files import ROOT, require_place, write_results

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An artefact of the paper at our size."""

    preset: Literal["smoke", "full"] = "smoke"
    """``smoke`` takes minutes and shows that all works; ``full`` is what the README's numbers come from."""
    out: Path = ROOT / "experiments"
    """Folder whose ``results`` and ``figures`` are written; those of ``smoke`` lie apart."""
    work: Path = ROOT / "runs" / "experiments"
    """Folder of recordings and of runs that are not finished."""
    seed: int = 0
    """Of everything; rivals that are trained have seeds from this one on."""
    device: str = "cpu"
    """Where to train and to play."""

    @property
    def name(self) -> str:
        """Of the artefact's files."""
        raise NotImplementedError

    @property
    def json(self) -> Path:
        """File of results."""
        return self._place("results") / f"{self.name}.json"

    @property
    def picture(self) -> Path:
        """File of the figure, in a folder that is there."""
        folder = self._place("figures")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.name}.png"

    @property
    def run_folder(self) -> Path:
        """Of this preset's unfinished runs."""
        return self.work / self.preset / self.name

    def _place(self, kind: str) -> Path:
        return self.out / kind if self.preset == "full" else self.out / kind / "smoke"

    def write(self, results: Row) -> None:
        """Write the results with preset, seed, machine, command and commit."""
        about = {"preset": self.preset, "seed": self.seed, "machine": describe_machine(torch.device(self.device))}
        write_results(self.json, {**about, **results})


@dataclass(frozen=True, kw_only=True)
class TrainedExperiment(Experiment):
    """One that trains: a row of results for each run, written when it is done."""

    def finish_rows(
        self, cells: Iterable[Row], settings: Row, work: Callable[[Row], Row], processes: int = 1
    ) -> list[Row]:
        """One row for each cell; those in the file of results stand, and each new one is written at once.

        Args:
            cells: What tells one row from the others, in the order of work.
            settings: What all rows share, beside preset and seed. Rows of other settings do not stand.
            work: From a cell to the rest of its row; picklable where processes are several.
            processes: That work at once, on a share of torch's threads each.

        Returns:
            The cells' rows in order, then those of other cells that stood in the file.

        Raises:
            ValueError: If the file holds rows of other settings.
        """
        cells = list(cells)
        require_place(self.json)
        rows = self._read_rows(settings)
        missing = self.find_missing(cells, settings)
        cpu = describe_machine(torch.device(self.device))["cpu"]
        for cell, told in self._work_on(missing, work, processes):
            rows.append({**cell, **told, "cpu": cpu})
            self.write({**settings, "rows": rows})
        wanted = [next(row for row in rows if _is_of(row, cell)) for cell in cells]
        return wanted + [row for row in rows if row not in wanted]

    def find_missing(self, cells: Iterable[Row], settings: Row) -> list[Row]:
        """The cells that have no row yet; arguments and errors as for ``finish_rows``."""
        rows = self._read_rows(settings)
        return [cell for cell in cells if not any(_is_of(row, cell) for row in rows)]

    def take_over(self, path: Path, cells: Iterable[Row], settings: Row, beside: Container[str] = ()) -> None:
        """Write the rows of another file, each with the commit that made it, for those cells that have none yet.

        Args:
            path: A file of results.
            cells: As for ``finish_rows``.
            settings: As for ``finish_rows``; the other file's are the same.
            beside: Names of settings that may be others there.

        Raises:
            ValueError: If there is no such file, or it or the file of results holds rows of other settings.
        """
        require_place(self.json)
        if not path.is_file():
            raise ValueError(f"results {str(path)!r} must be a file")
        found = self._read(path, {name: value for name, value in settings.items() if name not in beside})
        missing = self.find_missing(cells, settings)
        known = [row for row in found["rows"] if any(_is_of(row, cell) for cell in missing)]
        if known:
            dated = [{"commit": found["commit"], **row} for row in known]
            self.write({**settings, "rows": self._read_rows(settings) + dated})

    def _work_on(self, cells: list[Row], work: Callable[[Row], Row], processes: int) -> Iterator[tuple[Row, Row]]:
        timed = functools.partial(_time, work)
        if processes > 1:
            with tqdm(total=len(cells), unit="row") as bar:
                for cell, told in run_in_processes(
                    timed, cells, processes, max(1, torch.get_num_threads() // processes)
                ):
                    bar.update()
                    yield cell, told
            return
        for number, cell in enumerate(cells):
            tqdm.write(f"{self.name}: {number + 1} of {len(cells)} that are missing: {cell}")
            yield cell, timed(cell)

    def _read_rows(self, settings: Row) -> list[Row]:
        if not self.json.exists():
            return []
        return list(self._read(self.json, settings, ": move it away to begin anew")["rows"])

    def _read(self, path: Path, settings: Row, advice: str = "") -> Row:
        found: Row = json.loads(path.read_text())
        wanted = json.loads(json.dumps({"preset": self.preset, "seed": self.seed, **settings}))
        for name, value in wanted.items():
            if found.get(name) != value:
                was = f"{name} {found.get(name)!r}, not {value!r}"
                raise ValueError(f"{path} holds rows of other settings, {was}{advice}")
        return found


def _is_of(row: Row, cell: Row) -> bool:
    return cell.items() <= row.items()


def _time(work: Callable[[Row], Row], cell: Row) -> Row:
    """The work's row with the minutes it took."""
    began = time.monotonic()
    return {**work(cell), "minutes": round((time.monotonic() - began) / 60, 2)}


@dataclass(frozen=True, kw_only=True)
class RivalExperiment(TrainedExperiment):
    """One that trains rivals over several seeds."""

    seeds: int | None = None
    """Seeds of each rival for now, the others later; all of the preset's where not given."""

    def pair(self, key: str, rivals: Iterable[str], seeds: int) -> list[Row]:
        """A cell for each seed and rival, the first seed of all rivals first."""
        return self.repeat([{key: rival} for rival in rivals], seeds)

    def repeat(self, cells: list[Row], seeds: int) -> list[Row]:
        """Each cell with each seed wanted now, of ``seeds`` in all; the first seed of all cells first."""
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"seeds must be positive, got {self.seeds}")
        wanted = range(seeds if self.seeds is None else min(seeds, self.seeds))
        return [{**cell, "seed": self.seed + seed} for seed in wanted for cell in cells]
