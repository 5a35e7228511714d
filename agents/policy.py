"""pi(action | last frames, past actions): of latent actions, or of real ones for the oracle (Genie, appendix E)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from agents.config import PolicyConfig
from genie_gym.config_io import from_dict, to_dict
from genie_gym.data.procgen import FRAME_SIZE
from genie_gym.models.base import require_ids, require_pixels, require_videos
from genie_gym.nn.convolution import ImpalaEncoder
from genie_gym.nn.layers import Linear, zero_
from genie_gym.nn.patches import patchify
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.nn.weights import load_described, read_description, save_described

FORMAT = 1
SIZE = (FRAME_SIZE, FRAME_SIZE)
"""Height and width."""


class LatentPolicy(nn.Module):
    """Frames and past actions to logits of the next action.

    Before an episode's first frame that frame stands for the missing ones, and ``num_actions`` for no action.

    Args:
        config: Sizes.
        num_actions: A, of the latent actions (or real ones) it chooses from.
        label_source: What says which labels it was cloned from: a digest of the latent action model, or "real".
    """

    def __init__(self, config: PolicyConfig, num_actions: int, label_source: str = "") -> None:
        super().__init__()
        if num_actions < 2:
            raise ValueError(f"num_actions must be 2 or more, got {num_actions}")
        self.config, self.num_actions, self.label_source = config, num_actions, label_source
        self.network = (ConvolutionalFeatures if config.network == "impala" else TransformerFeatures)(
            config, num_actions
        )
        self.head = zero_(Linear(config.features, num_actions))

    @property
    def device(self) -> torch.device:
        """Where its weights lie, and videos and actions must."""
        return self.head.weight.device

    def forward(self, videos: Tensor, past_actions: Tensor) -> Tensor:
        """Logits of the action to take in the last frame.

        Args:
            videos: (B, T, C, H, W) float in [0, 1], oldest frame first; T is the config's ``context_length``.
            past_actions: (B, T - 1) int64 in [0, A]; entry t led from frame t to t + 1, A where there was none.

        Returns:
            (B, A) float32.

        Raises:
            ValueError: If a shape, type or range is another.
        """
        return self.head(self.features(videos, past_actions)).float()

    def features(self, videos: Tensor, past_actions: Tensor) -> Tensor:
        """(B, D) that the logits are a linear function of; arguments as for ``forward``."""
        require_videos(videos, 3, *SIZE)
        require_pixels("videos", videos)
        require_ids("past_actions", past_actions, self.num_actions + 1)
        length = self.config.context_length
        if videos.shape[1] != length or tuple(past_actions.shape) != (len(videos), length - 1):
            shapes = tuple(videos.shape[:2]), tuple(past_actions.shape)
            raise ValueError(f"videos and past_actions must have {length} and {length - 1} entries, got {shapes}")
        chosen = F.one_hot(past_actions, self.num_actions + 1)[..., : self.num_actions]  # no action: all zero
        return self.network(videos - 0.5, chosen.to(videos.dtype) * self.config.sees_actions)


class ConvolutionalFeatures(nn.Module):
    """Frames stacked in channels; past actions, one-hot, added to the features."""

    def __init__(self, config: PolicyConfig, num_actions: int) -> None:
        super().__init__()
        channels = 3 * config.context_length
        self.encoder = ImpalaEncoder(channels, config.widths, config.features, SIZE, config.patch_size)
        self.actions = Linear((config.context_length - 1) * num_actions, config.features, bias=False)

    def forward(self, pixels: Tensor, chosen: Tensor) -> Tensor:
        stacked = rearrange(pixels, "b t c h w -> b (t c) h w").contiguous(memory_format=torch.channels_last)
        features = self.encoder(stacked)
        return features + self.actions(chosen.flatten(1)) if chosen.shape[1] else features


class TransformerFeatures(nn.Module):
    """The paper's: an ST-ViViT over patches, past actions one-hot and additive, a linear head over the last frame."""

    def __init__(self, config: PolicyConfig, num_actions: int) -> None:
        super().__init__()
        assert config.transformer is not None
        width, patch = config.transformer.width, config.patch_size
        if SIZE[0] % patch:
            raise ValueError(f"PolicyConfig.patch_size must divide {SIZE[0]}, got {patch}")
        self.patch_size, places = patch, (SIZE[0] // patch) * (SIZE[1] // patch)
        self.embed = Linear(3 * patch**2, width)
        self.places = nn.Parameter(0.02 * torch.randn(places, width))
        self.actions = Linear(num_actions, width, bias=False)
        self.transformer = SpatioTemporalTransformer(config.transformer, config.context_length)
        self.out = Linear(width, config.features)

    def forward(self, pixels: Tensor, chosen: Tensor) -> Tensor:
        features = self.embed(patchify(pixels, self.patch_size)) + self.places
        lead = F.pad(rearrange(self.actions(chosen), "b t d -> t b 1 d"), (0, 0, 0, 0, 0, 0, 1, 0))
        seen, _ = self.transformer(features + lead)
        return F.relu(self.out(seen[-1].mean(dim=1)))


def save_policy(policy: LatentPolicy, folder: Path) -> Path:
    """Write weights and ``config.json`` into the folder, made where missing; returns it."""
    about = {
        "format": FORMAT,
        "num_actions": policy.num_actions,
        "label_source": policy.label_source,
        "policy": to_dict(policy.config),
    }
    return save_described(policy, folder, about)


def load_policy(folder: Path) -> LatentPolicy:
    """The policy that ``save_policy`` wrote, frozen.

    Raises:
        ValueError: If there is none, or it is damaged or of another format.
    """
    about = read_description(folder, "policy", FORMAT)
    config = from_dict(PolicyConfig, about["policy"])
    policy = LatentPolicy(config, int(about["num_actions"]), str(about["label_source"]))
    return load_described(policy, folder, "policy")
