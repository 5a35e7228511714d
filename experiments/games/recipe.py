"""The one recipe of ``experiments.games``: sizes and steps that are equal for all games.

It is that of the shipped world, smaller and shorter, and knows nothing of a game: whether the camera follows the
player, where it keeps it and how far it moves are found in the videos.
"""

from genie_gym.config_io import vary
from genie_gym.configs import Preset
from genie_gym.presets import PRESETS

SIZES: dict[str, dict[str, int]] = {
    "smoke": {
        "frames": 2_048,
        "scored_frames": 2_048,
        "clips": 16,
        "mapped_clips": 16,
        "starts": 4,
        "ceiling_steps": 4,
        "tokenizer_width": 16,
        "tokenizer_steps": 3,
        "action_clips": 2,
        "action_steps": 6,
        "world_width": 32,
        "world_clips": 2,
        "world_steps": 3,
        "least_gain_percent": -100,
    },
    "full": {
        "frames": 64_000,
        "scored_frames": 6_000,
        "clips": 192,
        "mapped_clips": 384,
        "starts": 32,
        "ceiling_steps": 2_000,
        "tokenizer_width": 96,
        "tokenizer_steps": 300,
        "action_clips": 16,
        "action_steps": 2_000,
        "world_width": 192,
        "world_clips": 4,
        "world_steps": 1_500,
        "least_gain_percent": 15,
    },
}
"""Sizes by preset: ``frames`` of training levels recorded, ``scored_frames`` of test levels; the ``clips`` of these
that are scored, ``mapped_clips`` of training levels on which latent actions are matched with true ones; ``starts`` of
held actions; widths of tokenizer and dynamics, clips a batch and numbers of training steps; and the gain of the
supervised model over chance, in hundredths of balanced accuracy, from which on a game counts as measurable."""
_CODES_START = 0.5
"""Share of the latent action model's training after which its codes start.

They start once latents carry what the decoder needs: in Breakout, where few pixels move, codes that start too early
collapse to two.
"""
_LATENT_ACTIONS = 16
"""Number of latent actions."""
_ACTION_OPTIMIZER = {"kind": "muon-conv", "learning_rate": 3e-3}
"""Optimiser of the latent action model: with Muon, the decoder learns in a third of the steps to move a few pixels."""
_WARM_UP = 0.06
"""Share of each phase in which the learning rate rises."""
_HEAD_DIM = 32
"""Features of an attention head, as in the preset ``coinrun``."""


def build_recipe(size: dict[str, int], seed: int) -> Preset:
    """Return the preset ``coinrun`` with a tokenizer, a dynamics and phases of these sizes."""
    steps = {"tokenizer": size["tokenizer_steps"], "action": size["action_steps"], "world": size["world_steps"]}
    width = size["world_width"]
    transformer = {"layers": 4, "width": width, "heads": width // _HEAD_DIM, "feed_forward_width": 2 * width}
    changes = {
        "world.latent_action_model.merged_actions": _LATENT_ACTIONS,
        "world.latent_action_model.merging": "latents",
        "world.latent_action_model.quantizer.start_after": round(_CODES_START * steps["action"]),
        "action_training.batch_size": size["action_clips"],
        **{f"action_training.optimizer.{name}": value for name, value in _ACTION_OPTIMIZER.items()},
        "world_training.batch_size": size["world_clips"],
        **{f"world.dynamics.transformer.{name}": value for name, value in transformer.items()},
        **{f"{phase}_training.train_steps": number for phase, number in steps.items()},
        **{f"{phase}_training.optimizer.warmup_steps": round(_WARM_UP * number) for phase, number in steps.items()},
        **{f"{phase}_training.seed": seed for phase in steps},
    }
    for part in ("encoder", "decoder"):
        changes |= {
            f"world.tokenizer.{part}.{name}": size["tokenizer_width"] for name in ("width", "feed_forward_width")
        }
    return vary(PRESETS["coinrun"], changes)
