"""Small LeRobot datasets as its library writes them: a file for each episode, or several episodes in a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym.data.video import write_video

FPS = 30
CAMERAS = ("observation.images.front", "observation.images.wrist")


def write_dataset(folder: Path, version: str, lengths: Sequence[int], cameras: Sequence[str] = CAMERAS[:1]) -> Path:
    """Write a dataset whose episode e of camera c has plain frames of the brightness 100 c + 20 e + t."""
    (folder / "meta").mkdir(parents=True)
    features: dict[str, Any] = {name: {"dtype": "video", "shape": [16, 16, 3], "names": None} for name in cameras}
    features["action"] = {"dtype": "float32", "shape": [6], "names": None}
    info = {"codebase_version": version, "fps": FPS, "total_episodes": len(lengths), "features": features}
    (_write_joined if version == "v3.0" else _write_files)(folder, info, lengths, cameras)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


def make_frames(camera: int, episode: int, length: int) -> np.ndarray:
    """Return the frames of an episode."""
    values = 100 * camera + 20 * episode + np.arange(length, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None, None], (length, 16, 16, 3)).copy()


def _write_files(folder: Path, info: dict[str, Any], lengths: Sequence[int], cameras: Sequence[str]) -> None:
    info["chunks_size"] = 2
    info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    lines = [{"episode_index": number, "tasks": ["push"], "length": length} for number, length in enumerate(lengths)]
    (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for camera, name in enumerate(cameras):
        for number, length in enumerate(lengths):
            path = folder / "videos" / f"chunk-{number // 2:03d}" / name / f"episode_{number:06d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, make_frames(camera, number, length), fps=FPS)


def _write_joined(folder: Path, info: dict[str, Any], lengths: Sequence[int], cameras: Sequence[str]) -> None:
    info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    rows: dict[str, list[Any]] = {
        "episode_index": [*range(len(lengths))],
        "tasks": [["push"]] * len(lengths),
        "length": [*lengths],
    }
    for camera, name in enumerate(cameras):
        columns: dict[str, list[Any]] = {
            key: [] for key in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        }
        for part in range(0, len(lengths), 2):  # two episodes in a file
            numbers, start = range(part, min(part + 2, len(lengths))), 0
            for number in numbers:
                ends = start / FPS, (start + lengths[number]) / FPS
                for key, value in zip(columns, (0, part // 2, *ends), strict=True):
                    columns[key].append(value)
                start += lengths[number]
            path = folder / "videos" / name / "chunk-000" / f"file-{part // 2:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(
                path, np.concatenate([make_frames(camera, number, lengths[number]) for number in numbers]), fps=FPS
            )
        rows |= {f"videos/{name}/{key}": values for key, values in columns.items()}
    write_rows(folder, rows)


def episode_file(folder: Path) -> Path:
    """Return the list of episodes of a dataset of version 3.0."""
    return folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"


def write_rows(folder: Path, rows: dict[str, list[Any]]) -> None:
    """Write the list of episodes of a dataset of version 3.0."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    episode_file(folder).parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(rows), episode_file(folder))


def read_rows(folder: Path) -> dict[str, list[Any]]:
    """Return the list of episodes of a dataset of version 3.0."""
    return pytest.importorskip("pyarrow.parquet").read_table(episode_file(folder)).to_pydict()
