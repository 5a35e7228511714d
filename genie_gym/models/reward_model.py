"""A small classifier of transitions between two frames, from which rewards are made in a world that has none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from genie_gym.checks import is_integer, require
from genie_gym.models.base import Model, require_videos
from genie_gym.nn.convolution import StridedEncoder, encode_transitions
from genie_gym.nn.weights import load_described, read_description, save_described

_FORMAT = 1
"""Version of ``config.json``."""
_MOST = 4096
"""Bound of its sizes."""


class RewardModel(Model):
    """Map two consecutive frames to one logit per event, such as a reward or the end of an episode.

    Args:
        outputs: Names of the events.
        height: Frame height in pixels, a multiple of 16.
        width: Frame width in pixels, a multiple of 16.
        channels: Channels of the first convolution.

    Raises:
        ValueError: If there are no outputs or two of one name, or a size is not a multiple of 16.
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
        """Return float32 logits (B, T - 1, outputs) for the transitions of videos (B, T, C, H, W) in [0, 1].

        Raises:
            ValueError: If the videos have another size.
        """
        require_videos(videos, 3, *self.size)
        return encode_transitions(self.encoder, videos, 1, self.precision).float()


def save_reward_model(model: RewardModel, folder: Path) -> Path:
    """Write weights and ``config.json`` into the folder, which is created if missing, and return it."""
    (height, width), outputs = model.size, list(model.outputs)
    about = {"format": _FORMAT, "outputs": outputs, "height": height, "width": width, "channels": model.channels}
    return save_described(model, folder, about)


def load_reward_model(folder: Path) -> RewardModel:
    """Return the reward model that ``save_reward_model`` wrote, frozen.

    Raises:
        ValueError: If there is none, or it is damaged or of another format.
    """
    about: Any = read_description(folder, "reward model", _FORMAT)
    outputs, sizes = about.get("outputs"), {name: about.get(name) for name in ("height", "width", "channels")}
    where = f"reward model {str(folder)!r}"
    fits = isinstance(outputs, list) and len(outputs) <= _MOST and all(isinstance(each, str) for each in outputs)
    require(fits, f"{where}: outputs", outputs, "names")
    for name, value in sizes.items():
        require(is_integer(value, 1, _MOST), f"{where}: {name}", value, f"an integer in [1, {_MOST})")
    return load_described(lambda: RewardModel(outputs, **sizes), folder, "reward model")
