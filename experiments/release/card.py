"""The card of a checkpoint that the release script made: what it learned from, for how long, and how good it is."""

from collections.abc import Sequence
from typing import Any

from experiments.readme import quality
from experiments.readme.markdown import write_table
from genie_gym.configs import Preset, TrainConfig


def write_card(
    preset: Preset, action_names: Sequence[str], frames: int, machine: dict[str, Any], scores: dict[str, Any]
) -> str:
    """Markdown.

    Args:
        preset: As it was trained.
        action_names: Of its latent actions.
        frames: Recorded for training.
        machine: As ``describe_machine`` has it.
        scores: Of ``genie-gym evaluate``.
    """
    phases = {
        "tokenizer": preset.tokenizer_training,
        "latent actions": preset.action_training,
        "dynamics": preset.world_training,
    }
    rows = [["data", f"{frames:,} frames of Procgen CoinRun, training levels 0..9,999; no actions, no rewards"]]
    rows += [[name, _tell(training)] for name, training in phases.items() if training is not None]
    rows += [
        ["actions", ", ".join(f"{number} {name}" for number, name in enumerate(action_names))],
        ["hardware", f"{machine['device']}, {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}"],
        ["commit", f"`{scores['commit']}`"],
    ]
    tables = (quality.tell_clips, quality.tabulate_figures, quality.tabulate_rollout, quality.tabulate_actions)
    faults = [f"- {fault}" for fault in scores["faults"]] or ["- none of the evaluator's bars is missed"]
    return (
        "\n\n".join(
            [
                "# Model card",
                write_table(["", ""], rows),
                *(table(scores) for table in tables),
                "What falls short:",
                "\n".join(faults),
            ]
        )
        + "\n"
    )


def _tell(training: TrainConfig) -> str:
    steps, clips, frames = training.train_steps, training.batch_size, training.clip_length
    return f"{steps:,} steps of {clips} clips x {frames} frames = {steps * clips * frames:,} frames"
