"""Who plays what worlds of a release learn from, and what latent actions say of that play."""

import os
from pathlib import Path
from typing import Literal

from torch import Tensor, cat

from genie_gym.configs import RecordConfig
from genie_gym.data.record import record
from genie_gym.metrics.held_out import EvaluationClips, restrict
from genie_gym.metrics.latent_actions import fit_maps, score_labels, score_use
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.players.specs import PlayerShare, parse_shares

Mode = Literal["easy", "hard"]
RANDOM_PLAY = ("sticky=0.5", "random=0.1")
PLAYER_WEIGHT = 0.4
"""Share of the games that a trained player plays."""
SCORED, CHUNK = 512, 32
"""Clips of each mode that labels are scored on, half to fit their maps, and those labelled at once."""


def mix_players(player: str = "expert") -> list[PlayerShare]:
    """Random play beside a trained player's; all is random where none is named."""
    return parse_shares((*RANDOM_PLAY, *((f"{player}={PLAYER_WEIGHT}",) if player else ())))


def record_mix(folder: Path, levels: str, config: RecordConfig, player: str = "expert") -> Path:
    """Record their play on ``training``, ``validation`` or ``test`` levels, by all cores, what is missing of it."""
    record(restrict(config, levels), mix_players(player), folder, workers=os.cpu_count() or 1)
    return folder


def label_play(model: GenieWorldModel | LatentActionModel, play: EvaluationClips, device: str = "cpu") -> Tensor:
    """(B, T - 1) int64, on the CPU, by a model on the device."""
    return cat([model.label(part.to(device)).cpu() for part in play.videos.split(CHUNK)])


def score_play(labels: Tensor, play: EvaluationClips, actions: int) -> dict[str, float]:
    """What the second half's labels say of its real actions, by maps of the first half."""
    half, real = len(labels) // 2, play.real_actions
    assert real is not None
    told = score_labels(labels[half:], real[half:], fit_maps(labels[:half], real[:half], actions))
    accuracies = {name: round(told[name]["accuracy"], 3) for name in ("direction", "up", "effective")}
    return {**accuracies, "perplexity": round(score_use(labels, actions)["perplexity"], 2)}
