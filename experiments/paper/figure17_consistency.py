"""The paper's figure 17 for CoinRun: a latent action held from many starts should move all of them alike.

    python -m experiments.paper.figure17_consistency --preset full

Every latent action is held from the same frames of validation levels. Its motion is the shift with which the frames
before and after match best. Baselines are the same frames with shuffled actions, and the game's own nine moves, each
held from states of the game.
"""

from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor

import genie_gym
from experiments.lib.variants import record_play
from genie_gym.data.frames import contact_sheet, to_uint8, write_image
from genie_gym.metrics.motion import play_each_action, score_consistency
from genie_gym.metrics.real_moves import play_each_move
from genie_gym.results.experiment import WorldExperiment

_SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"starts": 4, "held": [1, 2], "modes": ["hard"]},
    "full": {"starts": 128, "held": [1, 2, 4, 8], "modes": ["easy", "hard"]},
}
"""By preset: number of starts of each mode, and numbers of frames that an action is held."""
_PICTURE_STARTS = 6  # drawn at most
_PRINTED = ("mode", "held", "explained", "explained_shuffled", "explained_real", "agreement", "chance")


@dataclass(frozen=True, kw_only=True)
class ConsistencyFigure(WorldExperiment):
    """Hold every latent action, measure the motion, and draw some starts."""

    name = "figure17_consistency"

    def run(self) -> None:
        """Record starts, play, write the results, draw the figure."""
        size, world = _SIZES[self.preset], genie_gym.load(self.checkpoint, self.device)
        rows: list[dict[str, Any]] = []
        for mode in size["modes"]:
            starts = record_play(size["starts"], self.seed, mode).videos[:, :1]
            played = play_each_action(world, starts, max(size["held"]), self.seed)
            real = play_each_move(mode, "validation", size["starts"], max(size["held"]), self.seed)
            for held in size["held"]:
                scores = compare_with_shuffled(played[:, :, : held + 1], self.seed)
                explained_real = score_consistency(real[:, :, : held + 1])["explained"]
                rows.append({"mode": mode, "held": held, **scores, "explained_real": explained_real})
        self.write({"checkpoint": self.checkpoint, **size, "rows": rows})
        for row in rows:
            print({name: row[name] for name in _PRINTED})
        # A row of the picture for each latent action: some starts, each with the frames after it.
        chosen = torch.linspace(0, played.shape[1] - 1, min(_PICTURE_STARTS, played.shape[1])).round().long()
        frames = to_uint8(played[:, chosen][:, :, [0, *size["held"]]].flatten(1, 2))
        write_image(self.picture, contact_sheet(frames, [f"action {action}" for action in range(len(frames))]))


def compare_with_shuffled(played: Tensor, seed: int) -> dict[str, Any]:
    """Score (A, M, T, C, H, W) roll-outs, and the motion explained if roll-outs are assigned to random actions."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(played.shape[0] * played.shape[1], generator=generator)
    ends = played[:, :, [0, -1]]
    shuffled = ends.flatten(0, 1)[order].unflatten(0, played.shape[:2])
    return {**score_consistency(played), "explained_shuffled": score_consistency(shuffled)["explained"]}


if __name__ == "__main__":
    tyro.cli(ConsistencyFigure).run()
