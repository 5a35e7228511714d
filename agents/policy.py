"""Policies pi(action | last frames, past actions) of latent actions, or of real ones (Genie, appendix E)."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from agents.config import PolicyConfig
from genie_gym.checks import is_integer, require
from genie_gym.config_io import from_dict, to_dict
from genie_gym.models.base import Model, require_ids, require_pixels, require_videos
from genie_gym.nn.convolution import CompactEncoder, ImpalaEncoder
from genie_gym.nn.layers import LayerNorm, Linear, zero_
from genie_gym.nn.patches import patchify
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.nn.weights import load_described, read_description, save_described

_FORMAT = 1
"""Version of the saved files."""
_MOST_ACTIONS = 65_536
"""Bound of the actions of a saved policy."""


class LatentPolicy(Model):
    """A network from frames and past actions to logits of the next action.

    For the time before an episode, frames repeat its first one and actions are ``num_actions``, which means none.

    Args:
        config: Sizes of the network.
        num_actions: Number of latent or real actions that it chooses from, A.
        label_source: Origin of the labels it is cloned from: a digest of the latent action model, or "real".
    """

    def __init__(self, config: PolicyConfig, num_actions: int, label_source: str = "") -> None:
        super().__init__()
        require(num_actions >= 2, "num_actions", num_actions, "2 or more")
        self.config, self.num_actions, self.label_source = config, num_actions, label_source
        self.network = _NETWORKS[config.network](config, num_actions)
        self.head = zero_(Linear(config.features, num_actions))

    @property
    def device(self) -> torch.device:
        """The device of the weights, where inputs must be too."""
        return self.head.weight.device

    def forward(self, videos: Tensor, past_actions: Tensor) -> Tensor:
        """Compute logits of the action to take in the last frame.

        Args:
            videos: (B, T, C, H, W) float in [0, 1], oldest frame first; T is the config's ``context_length``.
            past_actions: (B, T - 1) int64 in [0, A]: entry t is the action from frame t to t + 1; A means none.

        Returns:
            (B, A) float32.

        Raises:
            ValueError: If a shape, type or range is wrong.
        """
        return self.head(self.features(videos, past_actions))

    def features(self, videos: Tensor, past_actions: Tensor) -> Tensor:
        """Compute the features (B, D) that the linear layer ``head`` maps to logits; arguments as for ``forward``."""
        require_videos(videos, 3, *self.config.frame_size)
        require_pixels("videos", videos)
        require_ids("past_actions", past_actions, self.num_actions + 1)
        length = self.config.context_length
        if videos.shape[1] != length or tuple(past_actions.shape) != (len(videos), length - 1):
            shapes = tuple(videos.shape[:2]), tuple(past_actions.shape)
            raise ValueError(f"videos and past_actions must have {length} and {length - 1} entries, got {shapes}")
        chosen = F.one_hot(past_actions, self.num_actions + 1)[..., :-1]  # (B, T - 1, A), zeros for no action
        pixels = (videos - 0.5).to(self.precision)
        return self.network(pixels, chosen.to(self.precision) * self.config.sees_actions).float()


class CompactFeatures(nn.Module):
    """A compact encoder of frames stacked in channels; embedded past actions are added, and the sum is normalised."""

    def __init__(self, config: PolicyConfig, num_actions: int) -> None:
        super().__init__()
        fine, coarse, last = config.widths
        channels = 3 * config.context_length
        widths, dropout = (fine, coarse, last), config.dropout
        self.encoder = CompactEncoder(channels, widths, config.features, config.frame_size, dropout)
        self.actions = Linear((config.context_length - 1) * num_actions, config.features, bias=False)
        self.norm = LayerNorm(config.features)

    def forward(self, pixels: Tensor, chosen: Tensor) -> Tensor:
        features = self.encoder(_stack(pixels))  # (B, T C, H, W) -> (B, features)
        return self.norm(features + self.actions(chosen.flatten(1)) if chosen.shape[1] else features)


class ImpalaFeatures(nn.Module):
    """IMPALA's convolutions over frames stacked in channels; embedded past actions are added to the features."""

    def __init__(self, config: PolicyConfig, num_actions: int) -> None:
        super().__init__()
        channels = 3 * config.context_length
        self.encoder = ImpalaEncoder(channels, config.widths, config.features, config.frame_size)
        self.actions = Linear((config.context_length - 1) * num_actions, config.features, bias=False)

    def forward(self, pixels: Tensor, chosen: Tensor) -> Tensor:
        features = self.encoder(_stack(pixels))  # (B, T C, H, W) -> (B, features)
        return features + self.actions(chosen.flatten(1)) if chosen.shape[1] else features


class TransformerFeatures(nn.Module):
    """The paper's ST-ViViT over patches, with additive past actions and a mean over the last frame's patches."""

    def __init__(self, config: PolicyConfig, num_actions: int) -> None:
        super().__init__()
        assert config.transformer is not None
        width, patch = config.transformer.width, config.patch_size
        if any(side % patch for side in config.frame_size):
            raise ValueError(f"PolicyConfig.patch_size must divide {config.frame_size}, got {patch}")
        self.patch_size, patches = patch, config.frame_size[0] * config.frame_size[1] // patch**2
        self.embed = Linear(3 * patch**2, width)
        self.places = nn.Parameter(0.02 * torch.randn(patches, width))  # position embeddings
        self.actions = Linear(num_actions, width, bias=False)
        self.transformer = SpatioTemporalTransformer(config.transformer, config.context_length)
        self.out = Linear(width, config.features)

    def forward(self, pixels: Tensor, chosen: Tensor) -> Tensor:
        patches = patchify(pixels, self.patch_size)  # (B, T, C, H, W) -> (T, B, N, 3 p p)
        features = self.embed(patches) + self.places.to(pixels.dtype)  # (T, B, N, D)
        previous = rearrange(self.actions(chosen), "b t d -> t b 1 d")  # (B, T - 1, A) -> (T - 1, B, 1, D)
        previous = F.pad(previous, (0, 0, 0, 0, 0, 0, 1, 0))  # (T, B, 1, D), zeros for the first frame
        seen, _ = self.transformer(features + previous)
        return F.relu(self.out(seen[-1].mean(dim=1)))  # (T, B, N, D) -> (B, features)


_NETWORKS = {"compact": CompactFeatures, "impala": ImpalaFeatures, "st-vivit": TransformerFeatures}


def _stack(pixels: Tensor) -> Tensor:
    """Stack frames in channels: (B, T, C, H, W) -> (B, T C, H, W), channels last in memory, which is faster."""
    return rearrange(pixels, "b t c h w -> b (t c) h w").contiguous(memory_format=torch.channels_last)


def save_policy(policy: LatentPolicy, folder: Path) -> Path:
    """Write weights and ``config.json`` into a folder, made if missing, and return the folder."""
    about = {"format": _FORMAT, "num_actions": policy.num_actions, "label_source": policy.label_source}
    return save_described(policy, folder, {**about, "policy": to_dict(policy.config)})


def load_policy(folder: Path) -> LatentPolicy:
    """Load a policy that ``save_policy`` wrote, frozen.

    Raises:
        ValueError: If there is no policy, or it is damaged or of another format.
    """
    about: Any = read_description(folder, "policy", _FORMAT)
    config = from_dict(PolicyConfig, about.get("policy"))
    actions, source = about.get("num_actions"), about.get("label_source")
    require(
        is_integer(actions, 2, _MOST_ACTIONS), f"policy {str(folder)!r}: num_actions", actions, "a number of actions"
    )
    require(isinstance(source, str), f"policy {str(folder)!r}: label_source", source, "a text")
    return load_described(lambda: LatentPolicy(config, actions, source), folder, "policy")
