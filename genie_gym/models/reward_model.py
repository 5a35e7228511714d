"""A small network that judges transitions by their two frames: what rewards of a world without any are made of."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genie_gym.models.base import require_videos
from genie_gym.nn.convolution import StridedEncoder, stack_transitions
from genie_gym.nn.weights import load_described, read_description, save_described

FORMAT = 1


class RewardModel(nn.Module):
    """Frames before and after to a logit for each thing that may be so.

    Args:
        outputs: What the logits are of.
        height: Of frames, a multiple of 16.
        width: Of frames, a multiple of 16.
        channels: Of the first convolution.

    Raises:
        ValueError: If there are no outputs or two of one name, or a size is no such multiple.
    """

    def __init__(self, outputs: Sequence[str], height: int, width: int, channels: int = 16) -> None:
        super().__init__()
        if not outputs or len(set(outputs)) != len(outputs):
            raise ValueError(f"outputs must be one or more different names, got {tuple(outputs)}")
        if height < 16 or width < 16 or height % 16 or width % 16:
            raise ValueError(f"height and width must be multiples of 16, got {height} and {width}")
        self.outputs, self.size, self.channels = tuple(outputs), (height, width), channels
        self.encoder = StridedEncoder(9, channels, len(self.outputs), self.size)

    def forward(self, videos: Tensor) -> Tensor:
        """Logits (B, T - 1, outputs) of the transitions of (B, T, C, H, W) videos in [0, 1].

        Raises:
            ValueError: If the videos have another size.
        """
        require_videos(videos, 3, *self.size)
        stacked = stack_transitions(videos, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.encoder(stacked).unflatten(0, (len(videos), -1))


def save_reward_model(judge: RewardModel, folder: Path) -> Path:
    """Write weights and ``config.json`` into the folder, made where missing; returns it."""
    height, width = judge.size
    about = {
        "format": FORMAT,
        "outputs": list(judge.outputs),
        "height": height,
        "width": width,
        "channels": judge.channels,
    }
    return save_described(judge, folder, about)


def load_reward_model(folder: Path) -> RewardModel:
    """The judge that ``save_reward_model`` wrote, frozen.

    Raises:
        ValueError: If there is none, or it is damaged or of another format.
    """
    about = read_description(folder, "judge", FORMAT)
    judge = RewardModel(about["outputs"], about["height"], about["width"], about["channels"])
    return load_described(judge, folder, "judge")
