"""Compare formats for clips on disk: bytes a frame, exactness, and random clips a second over 64 shards.

    python -m experiments.scale.clip_formats --preset full --videos FOLDER

``tar`` is what webdataset reads, a member for each frame, here with an index of the members, without which it cannot be
read at random. Lance is measured if it is installed (``pip install pylance``, over 400 MB with its dependencies).
"""

import importlib.util
import io
import json
import shutil
import statistics
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from genie_gym.data.frames import resize
from genie_gym.data.shards import Recording, Shard, write_shard
from genie_gym.data.sources import find_data, read_ahead
from genie_gym.data.video import iterate_video
from genie_gym.results.experiment import Experiment

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"shards": 3, "frames": 40, "rounds": 2, "clips": 5, "sizes": ((16, 24),)},
    "full": {"shards": 64, "frames": 64, "rounds": 7, "clips": 60, "sizes": ((64, 64), (90, 160))},
}
"""By preset: number of shards, frames in each, rounds, clips that each format reads in a round, and frame sizes."""
_CLIP, _WORKERS = 16, (1, 4)
"""Frames in a clip, and numbers of threads that read."""

ReadClip = Callable[[int, int], np.ndarray]
"""A function (shard, first frame) -> clip (16, H, W, 3) uint8."""


class ClipFormat(Protocol):
    """A way to store frames."""

    def __call__(self, folder: Path, shards: Sequence[np.ndarray]) -> ReadClip:
        """Write shards of frames (F, H, W, 3) into a folder, and return the function that reads a clip."""


@dataclass(frozen=True, kw_only=True)
class FormatsTable(Experiment):
    """Write the same frames in each format, and read clips at random."""

    name = "clip_formats"
    by_machine = True
    videos: tuple[Path, ...] = ()
    """folders of videos to measure with, in addition to generated pixel art"""

    def run(self) -> None:
        """Measure, print and write the results."""
        size, rows = _SIZES[self.preset], []
        formats: dict[str, ClipFormat] = {"HDF5, gzip": write_hdf5, "tar, PNG": write_png, "tar, JPEG 95": write_jpeg}
        if importlib.util.find_spec("lance") is not None:
            formats |= {"Lance, JPEG 95": write_lance}
        for height, width in size["sizes"]:
            for kind, shards in self._gather(size, height, width).items():
                about = {"frames": kind, "size": f"{height}x{width}"}
                for name, row in self._measure(formats, shards, size).items():
                    rows.append({**about, "format": name, **row})
                    print(json.dumps(rows[-1]))
        settings = {"shards": size["shards"], "frames_a_shard": size["frames"], "clip_frames": _CLIP}
        self.write({**settings, "clip_formats": rows})
        Console().print(_tabulate(rows))

    def _gather(self, size: dict[str, Any], height: int, width: int) -> dict[str, list[np.ndarray]]:
        count = size["shards"] * size["frames"]
        given = {"pixel art": draw_pixel_art(height, width, self.seed)}
        if self.videos:
            given["video"] = (resize(f, height, width) for path in find_data(self.videos) for f in iterate_video(path))
        found = {}
        for kind, frames in given.items():
            taken = np.stack([frame for _, frame in zip(range(count), frames, strict=False)])
            taken = taken[np.arange(count) % len(taken)]
            found[kind] = list(taken.reshape(size["shards"], size["frames"], height, width, 3))
        return found

    def _measure(
        self, formats: dict[str, ClipFormat], shards: list[np.ndarray], size: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Write the shards in all formats, and read from them by turns: other work on the machine slows all alike."""
        count, readers = sum(map(len, shards)), dict[str, ReadClip]()
        rows: dict[str, dict[str, Any]] = {}
        for name, write in formats.items():
            folder = self.run_folder / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            started = time.process_time()
            read = readers[name] = write(folder, shards)
            written = time.process_time() - started
            stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            error = np.abs(read(1, 7).astype(int) - shards[1][7 : 7 + _CLIP]).mean()
            rows[name] = {"bytes_a_frame": stored / count, "mean_error": float(error)}
            rows[name]["write_cpu_ms_a_frame"] = 1000 * written / count
        rng = np.random.default_rng(self.seed)
        found = {(name, workers): list[tuple[float, float]]() for name in formats for workers in _WORKERS}
        for _ in range(size["rounds"]):
            wanted = rng.integers([0, 0], [len(shards), len(shards[0]) - _CLIP + 1], size=(size["clips"], 2)).tolist()
            for (name, workers), times in found.items():
                times.append(_time_clips(readers[name], wanted, workers))
        for name, row in rows.items():
            row["cpu_ms_a_clip"] = 1000 * statistics.median(cpu for cpu, _ in found[name, 1])
            row["clips_per_second"] = {
                str(n): 1 / statistics.median(wall for _, wall in found[name, n]) for n in _WORKERS
            }
        return rows


def _time_clips(read: ReadClip, wanted: list[list[int]], workers: int) -> tuple[float, float]:
    """Return the processor's and the clock's seconds a clip."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in read_ahead(lambda number: read(*wanted[number]), range(len(wanted)), workers):
        pass
    return (time.process_time() - cpu) / len(wanted), (time.perf_counter() - wall) / len(wanted)


def write_hdf5(folder: Path, shards: Sequence[np.ndarray]) -> ReadClip:
    """Write the shards of this project."""
    for number, frames in enumerate(shards):
        blank = Recording.allocate((len(frames),), 1, 1)
        arrays = {name: np.zeros_like(array) for name, array in blank._asdict().items()}
        recording = Recording(**{**arrays, "frames": frames, "episode_starts": np.arange(len(frames)) == 0})
        write_shard(folder / f"{number:03d}.h5", recording, ["none"])
    opened = [Shard(path) for path in sorted(folder.iterdir())]
    return lambda shard, first: opened[shard].read(first, first + _CLIP)


def write_png(folder: Path, shards: Sequence[np.ndarray]) -> ReadClip:
    """Write tars of PNG files, compressed quickly."""
    return _write_tars(folder, shards, {"format": "PNG", "compress_level": 1})


def write_jpeg(folder: Path, shards: Sequence[np.ndarray]) -> ReadClip:
    """Write tars of JPEG files of quality 95."""
    return _write_tars(folder, shards, {"format": "JPEG", "quality": 95, "subsampling": 0})


def _write_tars(folder: Path, shards: Sequence[np.ndarray], options: dict[str, Any]) -> ReadClip:
    places = []
    for number, frames in enumerate(shards):
        with tarfile.open(folder / f"{number:03d}.tar", "w") as tar:
            for index, frame in enumerate(frames):
                member, data = tarfile.TarInfo(f"{index:06d}"), _pack(frame, options)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        with tarfile.open(folder / f"{number:03d}.tar") as tar:
            places.append([(member.offset_data, member.size) for member in tar.getmembers()])

    def read(shard: int, first: int) -> np.ndarray:
        members = places[shard][first : first + _CLIP]
        with (folder / f"{shard:03d}.tar").open("rb", buffering=0) as file:
            file.seek(members[0][0])
            data = file.read(members[-1][0] + members[-1][1] - members[0][0])
        begin = members[0][0]
        return np.stack([_unpack(data[offset - begin : offset - begin + size]) for offset, size in members])

    return read


def write_lance(folder: Path, shards: Sequence[np.ndarray]) -> ReadClip:
    """Write a Lance dataset with a row for each frame, a JPEG of quality 95, and a fragment for each shard."""
    import lance
    import pyarrow as pa

    options = {"format": "JPEG", "quality": 95, "subsampling": 0}
    for number, frames in enumerate(shards):
        table = pa.table({"frame": pa.array([_pack(frame, options) for frame in frames], pa.binary())})
        lance.write_dataset(table, str(folder / "clips.lance"), mode="append" if number else "create")
    dataset, length = lance.dataset(str(folder / "clips.lance")), len(shards[0])

    def read(shard: int, first: int) -> np.ndarray:
        rows = list(range(shard * length + first, shard * length + first + _CLIP))
        return np.stack([_unpack(frame.as_py()) for frame in dataset.take(rows)["frame"]])

    return read


def draw_pixel_art(height: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """Yield frames of a camera that pans over tiles of few colours, with a figure that moves."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(256, size=(6, 3), dtype=np.uint8)
    tiles = palette[rng.integers(6, size=(8, 4, 4))].repeat(2, axis=1).repeat(2, axis=2)  # blocks of 2 x 2 pixels
    level = tiles[rng.integers(8, size=(height // 8 + 2, 64))].swapaxes(1, 2).reshape(-1, 512, 3)
    for number in range(1 << 30):
        left = number % (512 - width)
        frame = level[:height, left : left + width].copy()
        top = int((height - 8) * abs(np.sin(number / 9)))
        frame[top : top + 8, width // 2 : width // 2 + 8] = (250, 220, 60)
        yield frame


def _pack(frame: np.ndarray, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, **options)
    return file.getvalue()


def _unpack(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def _tabulate(rows: list[dict[str, Any]]) -> Table:
    heads = ["frames", "size", "format", "bytes a frame", "mean error", "CPU ms a clip", "clips/s: 1 thread", "4"]
    table = Table(*heads)
    for row in rows:
        rates = [f"{row['clips_per_second'][str(workers)]:.0f}" for workers in _WORKERS]
        measured = f"{row['bytes_a_frame']:.0f}", f"{row['mean_error']:.2f}", f"{row['cpu_ms_a_clip']:.2f}"
        table.add_row(row["frames"], row["size"], row["format"], *measured, *rates)
    return table


if __name__ == "__main__":
    tyro.cli(FormatsTable).run()
