"""The questions that the ladder asks, and their answers to try: short names for changes of the preset ``study``."""

from typing import Any, Literal, NamedTuple

from genie_gym.config_io import to_dict
from genie_gym.configs import MovingActionConfig, TransformerActionConfig
from genie_gym.presets import PRESETS

Part = Literal["tokenizer", "actions", "dynamics"]


class Variant(NamedTuple):
    """One answer."""

    overrides: dict[str, Any]
    """Of the preset ``study``, by dotted path."""
    frame_step: int = 1
    """Game steps that a transition spans."""
    compute: float = 1.0
    """In units of the usual answer's."""


class Rung(NamedTuple):
    """A question to one of the models, and its answers; the first is what ``study`` says."""

    part: Part
    variants: dict[str, Variant]


USUAL = Variant({})
TOKENIZER, ACTIONS, DYNAMICS = "world.tokenizer", "world.latent_action_model", "world.dynamics"
OPTIMIZER = "world_training.optimizer"
FINE = {f"{TOKENIZER}.patch_size": 4}
CONVOLUTIONS = {
    **FINE,
    **{f"{TOKENIZER}.{part}.{name}": value for part in ("encoder", "decoder") for name, value in
       {"attention": "conv", "width": 96, "feed_forward_width": 96}.items()},
}  # fmt: skip
"""256 tokens, two convolutional layers on either side."""


STUDY = PRESETS["study"].world
MOVES: dict[str, Any] = {
    ACTIONS: to_dict(MovingActionConfig(quantizer=STUDY.latent_action_model.quantizer, width=16, error_margin=8))
}
"""A decoder that moves frames, whose border does not count."""
PLAYER: dict[str, Any] = {
    **MOVES,
    f"{ACTIONS}.centre": 6,
    f"{ACTIONS}.centre_weight": 1.5,
    f"{ACTIONS}.quantizer.diversity_weight": 0.05,
}
"""It knows the player only from the clip's start."""
MIRRORED = {f"{ACTIONS}.centre_shown": "mirrored"}
"""It knows the player but for the way it faces."""
ACCELERATES = PLAYER | MIRRORED | {f"{ACTIONS}.centre_weight": 0.8, f"{ACTIONS}.accelerates": True}
"""Its codes say what changes of the motion."""
LATE = {f"{ACTIONS}.quantizer.start_after": 250}
"""Codes are clusters of what a decoder has learned to need."""
AXES = {f"{ACTIONS}.quantizer.levels": (4, 2), f"{ACTIONS}.quantizer.diversity_weight": 0.0}
"""Four codes along columns, two along rows, which need not be used alike: jumps are rare."""


def _in_clips_of(frames: int) -> dict[str, Any]:
    """As many frames a batch as ``study`` has, in clips of so many."""
    return {"tokenizer_training.clip_length": frames, "tokenizer_training.batch_size": 128 // frames}


RUNGS: dict[str, Rung] = {
    "tokens": Rung(
        "tokenizer",
        {
            "64": USUAL,
            "256": Variant(FINE),
            "256, folded": Variant({**FINE, f"{TOKENIZER}.fold": 2}),
            **{f"256, conv, {frames}": Variant(CONVOLUTIONS | _in_clips_of(frames)) for frames in (16, 4, 1)},
        },
    ),
    "quantizer": Rung(
        "tokenizer",
        {
            "VQ": USUAL,
            "FSQ": Variant({f"{TOKENIZER}.quantizer": {"kind": "fsq", "codes": 1024, "levels": (8, 8, 4, 4)}}),
        },
    ),
    "tokenizer depth": Rung(
        "tokenizer",
        {
            "2 + 2": USUAL,
            "1 + 3": Variant({f"{TOKENIZER}.encoder.layers": 1, f"{TOKENIZER}.decoder.layers": 3}),
            "4 + 4": Variant({f"{TOKENIZER}.encoder.layers": 4, f"{TOKENIZER}.decoder.layers": 4}),
        },
    ),
    "tokenizer rate": Rung(
        "tokenizer",
        {
            rate: Variant({"tokenizer_training.optimizer.learning_rate": float(rate)} if rate != "1e-3" else {})
            for rate in ("1e-3", "3e-4", "3e-3")
        },
    ),
    "action clips": Rung(
        "actions",
        {
            "8 x 16": USUAL,
            "24 x 6": Variant({"world_training.clip_length": 6, "world_training.batch_size": 24}),
            "60 x 3": Variant({"world_training.clip_length": 3, "world_training.batch_size": 60}),
        },
    ),
    "action codes": Rung(
        "actions",
        {
            "VQ, 16": USUAL,
            "VQ, 2": Variant({f"{ACTIONS}.quantizer.dim": 2}),
            "VQ, 3": Variant({f"{ACTIONS}.quantizer.dim": 3}),
            **{
                f"FSQ, {' x '.join(map(str, levels))}": Variant(
                    {f"{ACTIONS}.quantizer": {"kind": "fsq", "codes": 8, "levels": levels}}
                )
                for levels in ((2, 2, 2), (4, 2))
            },
        },
    ),
    "moves": Rung(
        "actions",
        {
            "paints": USUAL,
            "moves": Variant(MOVES | {f"{ACTIONS}.error_margin": 0}),
            "moves, margin": Variant(MOVES),
            "moves, margin, player": Variant(PLAYER),
        },
    ),
    "player": Rung(
        "actions",
        {
            "paints": USUAL,
            "6 px, 1.5": Variant(PLAYER),
            "6 px, 0.5": Variant(PLAYER | {f"{ACTIONS}.centre_weight": 0.5}),
            "6 px, 5": Variant(PLAYER | {f"{ACTIONS}.centre_weight": 5.0}),
            "12 px, 1.5": Variant(PLAYER | {f"{ACTIONS}.centre": 12}),
        },
    ),
    "player shown": Rung(
        "actions",
        {
            "paints": USUAL,
            "first": Variant(PLAYER),
            "mirrored": Variant(PLAYER | MIRRORED),
            "mirrored, 0.4": Variant(PLAYER | MIRRORED | {f"{ACTIONS}.centre_weight": 0.4}),
            "mirrored, 0.8, accelerates": Variant(ACCELERATES),
            "the same, 8 codes that start late": Variant(ACCELERATES | LATE),
            "the same, 4 x 2 codes that start late": Variant(ACCELERATES | LATE | AXES),
        },
    ),
    "player training": Rung(
        "actions",
        {"paints": USUAL} | {f"{compute:g}": Variant(PLAYER, compute=compute) for compute in (0.5, 1, 2, 4)},
    ),
    "span": Rung("actions", {"1": USUAL, "2": Variant({}, 2), "4": Variant({}, 4)}),
    "history": Rung(
        "actions",
        {"3": USUAL, "1": Variant({f"{ACTIONS}.history": 1}), "5": Variant({f"{ACTIONS}.history": 5})},
    ),
    "diversity": Rung(
        "actions",
        {
            "0.2": USUAL,
            "0": Variant({f"{ACTIONS}.quantizer.diversity_weight": 0.0}),
            "1": Variant({f"{ACTIONS}.quantizer.diversity_weight": 1.0}),
        },
    ),
    "action training": Rung("actions", {"1": USUAL, "4": Variant({}, compute=4.0)}),
    "tokenizer training": Rung(
        "tokenizer",
        {"1": USUAL, **{
            f"256, conv, {compute}": Variant(CONVOLUTIONS | _in_clips_of(1), compute=compute) for compute in (0.5, 1, 4)
        }},
    ),
    "backbone": Rung(
        "actions",
        {
            "convolutions": USUAL,
            "ST": Variant(
                {
                    ACTIONS: to_dict(
                        TransformerActionConfig(
                            quantizer=STUDY.latent_action_model.quantizer,
                            patch_size=8,
                            encoder=STUDY.tokenizer.encoder,
                            decoder=STUDY.tokenizer.decoder,
                            hidden_frames=0.5,
                        )
                    )
                }
            ),
        },
    ),
    "masking": Rung(
        "dynamics",
        {
            "per frame, half clean": USUAL,
            "per frame": Variant({f"{DYNAMICS}.clean_frames": 0.0}),
            "per video": Variant(
                {
                    f"{DYNAMICS}.mask_ratio_per": "sample",
                    f"{DYNAMICS}.clean_frames": 0.0,
                    f"{DYNAMICS}.min_mask_ratio": 0.5,
                }
            ),
        },
    ),
    "corruption": Rung(
        "dynamics",
        {
            "0.1": USUAL,
            "0": Variant({f"{DYNAMICS}.context_corruption": 0.0}),
            "0.3": Variant({f"{DYNAMICS}.context_corruption": 0.3}),
        },
    ),
    "optimizer": Rung(
        "dynamics",
        {
            "AdamW, 1e-3": USUAL,
            "AdamW, 3e-3": Variant({f"{OPTIMIZER}.learning_rate": 3e-3}),
            **{
                f"Muon, {rate}": Variant({f"{OPTIMIZER}.kind": "muon", f"{OPTIMIZER}.learning_rate": float(rate)})
                for rate in ("1e-3", "3e-3", "6e-3")
            },
        },
    ),
    "dynamics shape": Rung(
        "dynamics",
        {
            "4 x 128": USUAL,
            "8 x 96": Variant(
                {f"{DYNAMICS}.transformer.{name}": value for name, value in
                 {"layers": 8, "width": 96, "heads": 3, "feed_forward_width": 192}.items()}
            ),
            "2 x 192": Variant(
                {f"{DYNAMICS}.transformer.{name}": value for name, value in
                 {"layers": 2, "width": 192, "heads": 6, "feed_forward_width": 384}.items()}
            ),
        },
    ),
}  # fmt: skip
"""By name; action conditioning has a table of its own, ``experiments.ablation_actions``."""
