"""Does the cache drift? Roll-outs four contexts long, with it, rebuilt now and then, and recomputed in a window.

    python -m experiments.figure_context --player "players.py:load_player(name)"

The cache equals a recomputation in which every layer sees ``context_length`` frames of the layer below, so that a
little of older frames still comes through. A recomputation over the last ``context_length`` frames alone, at every
frame, forgets them. In between, the cache can be rebuilt from its last frames every so many. All are played from the
same frames, latent actions and noise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import tyro
from torch import Tensor

import genie_gym
from genie_gym.metrics.controllability import bootstrap_interval
from genie_gym.metrics.held_out import join_clips, record_clips_by_player
from genie_gym.metrics.image import pooled_psnr, psnr
from genie_gym.models.uncached import rollout_uncached
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.results.files import write_results


@dataclass(frozen=True, kw_only=True)
class ContextFigure:
    """Play long, in several ways; draw PSNR by frame."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    player: str | None = None
    """Spec of a trained player for half of the clips."""
    mode: str = "hard"
    """Procgen's distribution mode."""
    clips: int = 48
    """Clips in all."""
    frames: int = 64
    """Frames generated."""
    rebuild_every: tuple[int, ...] = (8, 16)
    """Frames after which the dynamics' cache is rebuilt."""
    seed: int = 0
    """Of recording, sampling and intervals."""
    json: Path = Path("experiments/results/context.json")
    """File of results."""
    picture: Path = Path("experiments/figures/context.png")
    """File of the figure."""

    def run(self) -> None:
        """Record, play, write, draw."""
        world = genie_gym.load(self.checkpoint)
        clips = record_clips_by_player(self.player, "validation", self.mode, self.clips, self.seed, self.frames + 1)
        videos = join_clips(clips).videos
        labels, window = world.label(videos), world.config.context_length
        prompts = videos[:, :1]
        played = {"cached": world.rollout(prompts, labels, self.seed)}
        for every in self.rebuild_every:
            played[f"rebuilt_{every}"] = rollout_rebuilt(world, prompts, labels, self.seed, every)
        played["recomputed"] = rollout_uncached(world, prompts, labels, self.seed, window=window)
        rows = [self._score(videos, played, frame) for frame in range(1, self.frames + 1)]
        settings = {"checkpoint": self.checkpoint, "mode": self.mode, "player": self.player, "seed": self.seed}
        settings |= {"clips": len(videos), "context_length": window, "precision": str(world.dynamics.precision)}
        spans = {"beyond_the_context": window, "all_frames": 1}
        summaries = {name: self._compare(videos, played, first) for name, first in spans.items()}
        write_results(self.json, {**settings, **summaries, "rows": rows})
        self._draw(rows, window)

    def _score(self, videos: Tensor, played: dict[str, Tensor], frame: int) -> dict[str, Any]:
        real = videos[:, frame]
        scores = {f"{name}_psnr": pooled_psnr(each[:, frame], real) for name, each in played.items()}
        return {"t": frame, **scores, "copy_last_psnr": pooled_psnr(videos[:, 0], real)}

    def _compare(self, videos: Tensor, played: dict[str, Tensor], first: int) -> dict[str, Any]:
        """From frame ``first`` on: PSNR, and what is lost against the recomputation, a mean over clips."""
        real = videos[:, first:]
        best = psnr(played["recomputed"][:, first:], real)
        summary: dict[str, Any] = {"frames": real.shape[1]}
        for name, each in played.items():
            lost = (best - psnr(each[:, first:], real)).mean(dim=1)
            summary[name] = {
                "psnr": pooled_psnr(each[:, first:], real),
                "clip_psnr_lost": float(lost.mean()),
                "interval": bootstrap_interval(lost, self.seed),
            }
        return summary

    def _draw(self, rows: list[dict[str, Any]], context_length: int) -> None:
        names = {
            "cached_psnr": "with the cache",
            **{f"rebuilt_{every}_psnr": f"rebuilt every {every} frames" for every in self.rebuild_every},
            "recomputed_psnr": f"recomputed over the last {context_length} frames",
            "copy_last_psnr": "copying the first frame",
        }
        figure, axes = plt.subplots(figsize=(7, 4))
        for name, label in names.items():
            axes.plot([row["t"] for row in rows], [row[name] for row in rows], label=label)
        axes.axvline(context_length, color="grey", linewidth=0.8, linestyle=":")
        axes.set(xlabel="frame generated", ylabel="PSNR, dB", title=f"{self.checkpoint}: beyond the context")
        axes.legend()
        self.picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.picture, dpi=120, bbox_inches="tight")


@torch.no_grad()
def rollout_rebuilt(
    world: GenieWorldModel, prompt_videos: Tensor, latent_actions: Tensor, seed: int, every: int
) -> Tensor:
    """``GenieWorldModel.rollout`` from one frame, its dynamics' cache rebuilt from the last frames every so many.

    The decoder's is left as it is: the frames that it forgets less than a window does change nothing.
    """
    rows, kept = range(len(prompt_videos)), world.config.context_length - 1
    state, frame = world.reset(prompt_videos, range(seed, seed + len(prompt_videos)))
    frames, tokens, lead = [frame], [state.tokens], [state.previous_actions]
    for age, actions in enumerate(latent_actions.unbind(dim=1)):
        if age >= kept and (age - kept) % every == 0:
            past, led = torch.cat(tokens[-kept:-1], dim=1), torch.cat(lead[-kept:-1], dim=1)
            state.dynamics.begin(rows, past.shape[1], world.dynamics(past, led)[1])
            state = state._replace(version=state.dynamics.version)
        state, frame = world.step(state, actions)
        frames.append(frame)
        tokens.append(state.tokens)
        lead.append(state.previous_actions)
    return torch.stack(frames, dim=1)


if __name__ == "__main__":
    tyro.cli(ContextFigure).run()
