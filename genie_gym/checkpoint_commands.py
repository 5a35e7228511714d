"""The commands ``genie-gym checkpoints`` and ``genie-gym push``; imports no torch."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class CheckpointsCommand:
    """List the checkpoints that can be loaded: shipped, fetched from the hub before, and in folders."""

    folders: tyro.conf.Positional[tuple[Path, ...]] = (Path(),)
    """folders to search, four levels deep; by default the current one"""

    def run(self) -> None:
        """Print a line for each checkpoint."""
        from genie_gym.models.listing import list_checkpoints

        rows = [("checkpoint", "where", "frames", "actions", "MB", "licence", "title")]
        for name, place, config, megabytes, licence, title in list_checkpoints(self.folders):
            frames, actions = "-", "-"
            if config is not None:
                frames, actions = f"{config.height}x{config.width}", str(config.num_latent_actions)
            rows.append((name, place, frames, actions, f"{megabytes:.1f}", licence or "-", title))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())


@dataclass(frozen=True, kw_only=True)
class PushCommand:
    """Upload a checkpoint to the Hugging Face hub, from where hf://USER/REPO loads it."""

    checkpoint: tyro.conf.Positional[str]
    """name of a shipped checkpoint, or its folder"""
    repository: tyro.conf.Positional[str]
    """USER/REPO to upload to, created if it does not exist"""
    private: bool = False
    """make the repository private if it is created"""

    def run(self) -> None:
        """Upload the checkpoint; ``hf auth login`` or HF_TOKEN says who does."""
        from genie_gym import push_to_hub

        print(f"uploaded {push_to_hub(self.checkpoint, self.repository, private=self.private)}")
