"""Convert many generated videos, kill the command, resume it, and train on them and on 500 hours in little memory.

    python -m experiments.scale.convert_many --preset full

The videos have odd sizes and several frame rates, one in ten is a GIF, and one in a hundred is cut off. Where 500 hours
are measured, the folder holds many names of one file.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from genie_gym.data.clips import ClipDataset, draw_numbers
from genie_gym.data.config import ConvertConfig
from genie_gym.data.frames import resize
from genie_gym.data.video import iterate_video, write_video
from genie_gym.data.video_shards import ClipIndex, VideoFile, VideoShard
from genie_gym.results.experiment import Experiment

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"videos": 200, "hours": 0.5, "seconds": 0.5, "steps": 3},
    "full": {"videos": 10_000, "hours": 500, "seconds": 10, "steps": 50},
}
"""By preset: number of videos, hours of the large corpus, seconds of each reading, training steps."""
_RATES, _FPS, _CLIP = (10, 15, 24, 30, 60), 10, 8
"""Frame rates of the videos, of the clips, and frames in a clip of the preset ``tiny``."""
_LONG_FRAMES, _LONG_EPISODES = 6_000, 6
"""Frames and episodes of the file that the large corpus repeats."""


@dataclass(frozen=True, kw_only=True)
class ManyVideos(Experiment):
    """Convert many small videos, resume after a kill, and train on them."""

    name = "convert_many"
    workers: int = 2
    """number of converting processes"""

    def run(self) -> None:
        """Generate, convert, kill, resume, read and train; print and write the results."""
        size, videos, clips = _SIZES[self.preset], self.run_folder / "videos", self.run_folder / "clips"
        broken = generate_videos(videos, size["videos"], self.seed)
        shutil.rmtree(clips, ignore_errors=True)
        results = {"videos": size["videos"], "broken": len(broken), "fps": _FPS, "workers": self.workers}
        results |= self._convert(videos, clips, size["videos"] // 256)
        report = json.loads((clips / "clips.json").read_text())["report"]
        if set(report["broken"]) != set(broken):
            raise RuntimeError(f"videos found broken are others than {broken}: {report['broken']}")
        results |= {"frames": report["frames"], "bytes_a_frame": report["bytes"] / report["frames"]}
        results["clips_per_second"] = self._read(videos, clips, set(broken), size["seconds"])
        results["train"] = self._train(clips, size["steps"])
        long = self.run_folder / "long"
        write_long(long, round(size["hours"] * 3600 * _FPS))
        results["long"] = {"hours": size["hours"], **self._train(long, size["steps"])}
        self.write(results)
        print(json.dumps(results, indent=1))

    def _convert(self, videos: Path, clips: Path, kill_after: int) -> dict[str, Any]:
        command = ["convert", str(videos), "--out", str(clips), "--fps", str(_FPS), "--on-broken", "skip"]
        command += ["--workers", str(self.workers), "--clip-length", str(_CLIP)]
        started, killed = time.time(), run_watched(command, lambda: len(list(clips.glob("*.h5"))) >= max(1, kill_after))
        done = {path: path.stat().st_mtime_ns for path in clips.glob("*.h5")}
        resumed = run_watched(command)
        kept = sum(path.is_file() and path.stat().st_mtime_ns == changed for path, changed in done.items())
        if kept < len(done):
            raise RuntimeError(f"{len(done) - kept} of {len(done)} finished shards were written again")
        again = run_watched(command)
        return {
            "convert_seconds": time.time() - started - again["seconds"],
            "convert_peak_mb": max(killed["peak_mb"], resumed["peak_mb"]),
            "shards_before_kill": len(done),
            "shards": len(list(clips.glob("*.h5"))),
            "nothing_to_do_seconds": again["seconds"],
        }

    def _read(self, videos: Path, clips: Path, broken: set[str], seconds: float) -> dict[str, float]:
        """Return random clips a second from the shards and from the videos, in one thread."""
        dataset = ClipDataset(clips, clip_length=_CLIP)
        names = sorted(path for path in videos.rglob("*.*") if path.relative_to(videos).as_posix() not in broken)
        rng = np.random.default_rng(self.seed)

        def read_video_clip() -> None:
            path = names[rng.integers(len(names))]
            frames = [resize(frame, 64, 64) for frame in iterate_video(path, _FPS)]
            start = rng.integers(max(1, len(frames) - _CLIP + 1))
            np.stack(frames[start : start + _CLIP])

        def read_shard_clip() -> None:
            dataset[int(draw_numbers(len(dataset), 1, self.seed, int(rng.integers(1 << 30)))[0])]

        return {"shards": count_rate(read_shard_clip, seconds), "videos": count_rate(read_video_clip, seconds)}

    def _train(self, data: Path, steps: int) -> dict[str, Any]:
        out = self.run_folder / f"train-{data.name}"
        shutil.rmtree(out, ignore_errors=True)
        command = ["train", "--data", str(data), "--out", str(out), "--preset", "tiny", "--start-clips", "8"]
        measured = run_watched([*command, "--tokenizer-steps", str(steps), "--world-steps", str(steps)])
        if not (out / "checkpoint").is_dir():
            raise RuntimeError(f"training on {data} ended without a checkpoint")
        frames = ClipDataset(data, clip_length=_CLIP).num_frames
        return {"steps": steps, "train_frames": frames, **measured}


def generate_videos(folder: Path, count: int, seed: int) -> list[str]:
    """Write ``count`` videos of a second unless they are there, and return the names of those that are cut off."""
    rng, broken = np.random.default_rng(seed), []
    for number in tqdm(range(count), desc="videos", unit="video"):
        height, width = rng.integers(48, 128, size=2)
        fps, shade = int(rng.choice(_RATES)), rng.integers(256, size=(5, 5, 3), dtype=np.uint8)
        path = folder / f"{number // 1000:02d}" / f"{number:05d}{'.gif' if number % 10 == 9 and fps < 50 else '.mp4'}"
        if number % 100 == 50:
            broken.append(path.relative_to(folder).as_posix())
        if path.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        backdrop = resize(shade, int(height), int(width))
        frames = np.repeat(backdrop[None], fps, axis=0)
        for time_step, frame in enumerate(frames):
            left = int(time_step / fps * (width - 16))
            frame[height // 2 - 8 : height // 2 + 8, left : left + 16] = 255
        whole = path.with_name(f"whole{path.suffix}")
        write_video(whole, frames // 52 * 52 if path.suffix == ".gif" else frames, fps)
        if number % 100 == 50:
            whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        whole.rename(path)
    return broken


def write_long(folder: Path, frames: int) -> None:
    """Write a folder of shards of ``frames`` frames or a little more, which are names of one file."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "source").mkdir(parents=True)
    length = _LONG_FRAMES // _LONG_EPISODES
    pixels = np.zeros((1000, 64, 64, 3), np.uint8)
    for number, frame in enumerate(pixels):
        frame[24:40, number % 48 : number % 48 + 16] = 200
    write_video(folder / "source" / "a.mp4", pixels, _FPS)
    path = folder / "source" / "a.mp4"
    video = VideoFile(str(path), "a.mp4", path.stat().st_size, 0, ((0, length),))
    settings = ConvertConfig(fps=_FPS).settings()
    first = VideoShard((video,) * _LONG_EPISODES, settings)
    first.write(str(folder))
    names = [f"clips-{number:016x}.h5" for number in range(-(-frames // _LONG_FRAMES))]
    for name in names:
        os.link(folder / first.name, folder / name)
    (folder / first.name).unlink()
    shutil.rmtree(folder / "source")
    sizes = {name: (folder / name).stat().st_size for name in names}
    counts = {"videos": _LONG_EPISODES * len(names), "frames": _LONG_FRAMES * len(names), "bytes": sum(sizes.values())}
    about = {"settings": json.loads(settings.to_json()), "fitted": {}, "broken": {}, "clip_length": _CLIP, "short": {}}
    ClipIndex(folder, "", sizes, {**about, **counts}).write()


def run_watched(arguments: list[str], is_over: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Run ``genie-gym`` and return its seconds and the peak memory of it and its processes, in MB.

    If ``is_over`` becomes true, it is killed.

    Raises:
        RuntimeError: If it fails, or ends before it could be killed.
    """
    started, peak, killed = time.monotonic(), 0, False
    process = subprocess.Popen([sys.executable, "-m", "genie_gym.cli", *arguments])
    while process.poll() is None:
        peak = max(peak, _count_memory(process.pid))
        killed = killed or is_over()
        if killed:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.1)
    if process.returncode and not killed:
        raise RuntimeError(f"genie-gym {' '.join(arguments)} failed with exit status {process.returncode}")
    return {"seconds": time.monotonic() - started, "peak_mb": peak / 1e6}


def _count_memory(pid: int) -> int:
    """Return the resident bytes of a process and its children; pages that they share count once."""
    tasks, total = [pid], 0
    while tasks:
        folder = Path(f"/proc/{tasks.pop()}")
        try:
            proportional = [line for line in (folder / "smaps_rollup").read_text().splitlines() if line[:4] == "Pss:"]
            children = [(task / "children").read_text().split() for task in (folder / "task").iterdir()]
        except OSError:
            continue  # it has ended
        total += sum(1024 * int(line.split()[1]) for line in proportional)
        tasks += [int(child) for each in children for child in each]
    return total


def count_rate(read: Callable[[], None], seconds: float) -> float:
    """Call a function for some seconds, and return the number of calls a second."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        read()
        count += 1
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    tyro.cli(ManyVideos).run()
