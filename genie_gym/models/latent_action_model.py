"""The latent action model: one discrete code per transition, learned without labels (Genie, sec. 2.1, C.1).

- Latents are batch-normalised, then quantized by cosine distance; the quantizer keeps every code in use.
- There are three backbones. ``st`` is the paper's. ``conv`` and ``moving`` see the last frames alone, and learn in
  minutes on a CPU. The decoder of ``moving`` mixes shifted copies of the last frame with painted pixels: codes select
  changes of the shifts, and paint the agent in its ``agent_box``.
- On pixels the squared error is divided by that of copying the last frame, so that its weight against the commitment
  loss does not depend on how much a video moves.
"""

from functools import partial
from typing import NamedTuple, NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import (
    ConvActionConfig,
    LatentActionConfig,
    MovingActionConfig,
    TransformerActionConfig,
    WorldConfig,
)
from genie_gym.models.base import LossOutput, Model, require_ids, require_videos
from genie_gym.nn.convolution import SteeredUNet, StridedEncoder, encode_transitions, stack_past
from genie_gym.nn.layers import BatchNorm, Embedding, Linear
from genie_gym.nn.moving import MovingDecoder, box_index, find_border, find_box
from genie_gym.nn.patches import patchify, unpatchify
from genie_gym.nn.quantizer import Quantized, build_quantizer, code_shares, latent_dim, perplexity
from genie_gym.nn.ranks import draw_rows, mean_over_ranks
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.real_actions import RealActionConfig

_FEATURES = 128
"""Features per transition of a ``moving`` encoder."""
_MOTION = 32
"""Features of the previous transition's motion that a ``moving`` decoder sees."""


class TransitionFeatures(NamedTuple):
    """An encoder's output for the transitions of videos."""

    latents: Tensor
    """(B, T - 1, dim) latents to quantize."""
    features: Tensor
    """(B, T - 1, D) features from which one linear layer computes the latents, or the latents themselves."""
    motion: Tensor | None = None
    """(B, T - 1, motion) continuous features of the previous transition, zeros for the first one; a decoder may see
    them, since they describe the past. None if the decoder takes none."""


class LatentActionModel(Model):
    """A VQ-VAE over transitions with one code each.

    The encoder maps frames up to t + 1 to one latent; the decoder reconstructs frame t + 1 from its code and the frames
    up to t. After training only the labels and the codebook matter.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        self.part = part = require_learned(config)
        self.backbone = _build_backbone(config, part)
        self.latent_norm = BatchNorm(latent_dim(part.quantizer))
        self.quantizer = build_quantizer(part.quantizer)
        codes, actions, dim = part.quantizer.codes, config.num_latent_actions, latent_dim(part.quantizer)
        has_centres = isinstance(part, MovingActionConfig) and part.merging == "latents"
        self.centres = nn.Buffer(torch.zeros(actions, dim)) if has_centres else None
        """(A, dim): the centre of each latent action, if latents are merged; it is found at the end of training."""
        is_merged = actions != codes and not has_centres
        self.action_of_code = nn.Buffer(torch.arange(codes) * actions // codes) if is_merged else None
        """(codes,) int64: the latent action of each code, if codes are merged."""

    @property
    def merged(self) -> dict[str, Tensor]:
        """What the end of training finds, by name: which codes or latents are merged; empty if nothing is merged."""
        found = {"action_of_code": self.action_of_code, "centres": self.centres}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @property
    def reads_tokens(self) -> bool:
        """Whether ``loss`` and ``label`` take tokens (the paper's table 2) instead of videos."""
        return isinstance(self.backbone, TokenBackbone)

    @property
    def frames_seen(self) -> int:
        """Number of frames up to t on which the label of the transition from t depends; with ``st`` in each block."""
        part = self.part
        return self.config.context_length if isinstance(part, TransformerActionConfig) else part.history

    @torch.no_grad()
    def label(self, videos: Tensor) -> Tensor:
        """Return the latent action of every transition.

        Args:
            videos: (B, T, C, H, W) float in [0, 1]; (B, T, N) tokens if ``reads_tokens``.

        Returns:
            (B, T - 1) int64 in [0, A); entry t takes frame t to t + 1.

        Raises:
            ValueError: If there are fewer than two frames, or they have another size.
        """
        return self.label_and_encode(videos)[0]

    @torch.no_grad()
    def encode(self, videos: Tensor) -> Tensor:
        """Return the code of every transition, (B, T - 1) int64; arguments and errors as for ``label``."""
        return self.label_and_encode(videos)[1]

    @torch.no_grad()
    def label_and_encode(self, videos: Tensor) -> tuple[Tensor, Tensor]:
        """Return the results of ``label`` and ``encode`` from one pass; arguments and errors as for ``label``."""
        latents = self.latents(videos)
        codes = cast(Quantized, self.quantizer(latents)).tokens
        return self._label(latents, codes), codes

    @torch.no_grad()
    def latents(self, videos: Tensor) -> Tensor:
        """Return the normalised latent of every transition, (B, T - 1, dim); arguments and errors as for ``label``."""
        return self._normalise(self.backbone.encode(self._check(videos), self.precision).latents)

    @torch.no_grad()
    def features(self, videos: Tensor) -> Tensor:
        """Return continuous features of every transition, (B, T - 1, D) float32; arguments and errors as for ``label``.

        They tell more than the code: what quantisation leaves out, too.
        """
        return self.backbone.encode(self._check(videos), self.precision).features.float()

    def loss(self, videos: Tensor) -> LossOutput:
        """Return the loss of reconstructing each frame from earlier ones and one code, plus the quantizer's loss."""
        return self.loss_and_labels(videos)[0]

    def loss_and_labels(self, videos: Tensor) -> tuple[LossOutput, Tensor]:
        """Return ``loss`` and, from the same pass, ``label``'s result (B, T - 1), which carries no gradient."""
        self._check(videos)
        features = self.backbone.encode(videos, self.precision)  # latents (B, T - 1, dim)
        latents = self._normalise(features.latents)
        quantized: Quantized = self.quantizer(latents)
        codes = quantized.codes.to(self.precision)  # (B, T - 1, dim)
        error, metrics = self.backbone.reconstruction_loss(videos, codes, features.motion)
        num_codes = self.part.quantizer.codes
        use = code_shares(quantized.tokens, num_codes)
        metrics |= {"perplexity": perplexity(quantized.tokens, num_codes), "least_used": use.min()}
        metrics |= {"commitment": quantized.loss.detach()}
        return LossOutput(error + quantized.loss, metrics), self._label(latents.detach(), quantized.tokens)

    def _normalise(self, latents: Tensor) -> Tensor:
        flat = self.latent_norm(latents.float().flatten(0, 1))  # (B, T - 1, dim) -> (B (T - 1), dim)
        return cast(Tensor, flat.view_as(latents))

    def _label(self, latents: Tensor, codes: Tensor) -> Tensor:
        """Return the latent actions (B, T - 1) of latents (B, T - 1, dim) and their codes (B, T - 1)."""
        if self.centres is not None:
            return torch.cdist(latents, self.centres.float()).argmin(dim=-1)
        return codes if self.action_of_code is None else self.action_of_code[codes]

    def _check(self, videos: Tensor) -> Tensor:
        if self.reads_tokens:
            require_ids("tokens", videos, self.config.tokenizer.quantizer.codes)
        else:
            require_videos(videos, 3, self.config.height, self.config.width)
        if videos.shape[1] < 2:
            raise ValueError(f"videos must have at least 2 frames to hold a transition, got {videos.shape[1]}")
        return videos


class ConvBackbone(nn.Module):
    """A strided encoder over the last frames, the next one and their difference; a U-Net steered by the code."""

    def __init__(self, config: WorldConfig, part: ConvActionConfig) -> None:
        super().__init__()
        self.history, dim = part.history, latent_dim(part.quantizer)
        self.encoder = StridedEncoder(3 * (part.history + 2), part.width, dim, (config.height, config.width))
        self.decoder = SteeredUNet(3 * part.history, part.width, 3, dim)

    def encode(self, videos: Tensor, precision: torch.dtype) -> TransitionFeatures:
        """Return the latents of the transitions of videos (B, T, C, H, W)."""
        latents = encode_transitions(self.encoder, videos, self.history, precision)
        return TransitionFeatures(latents, latents)

    def reconstruction_loss(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> LossOutput:
        """Return the error of frames 1 to T - 1, predicted as changes of the frames before, and metrics."""
        changes = self.decoder(_stack_flat(videos, self.history, codes.dtype), codes.flatten(0, 1)).float()
        return _error_over_copying(changes.unflatten(0, codes.shape[:2]), videos)  # (B (T - 1), ...) -> (B, T - 1, ...)


class MovingBackbone(nn.Module):
    """A strided encoder, and a decoder that shifts the last frame by the code and by the motion seen before.

    Since the decoder sees the past motion, the code need not repeat it. Inside the ``agent_box`` the decoder sees the
    frames averaged with their mirror images.
    """

    def __init__(self, config: WorldConfig, part: MovingActionConfig) -> None:
        super().__init__()
        self.part = part
        self.encoder = StridedEncoder(3 * (part.history + 2), part.width, _FEATURES, (config.height, config.width))
        self.decoder = MovingDecoder(part, _MOTION)
        self.latent_out = Linear(_FEATURES, latent_dim(part.quantizer))
        self.motion_out = Linear(_FEATURES, _MOTION)

    def encode(self, videos: Tensor, precision: torch.dtype) -> TransitionFeatures:
        """Return the latents of the transitions of videos (B, T, C, H, W), and the motion of the ones before."""
        features = F.relu(encode_transitions(self.encoder, videos, self.part.history, precision))
        motion = self.motion_out(features)[:, :-1]  # (B, T - 1, _FEATURES) -> (B, T - 2, _MOTION)
        return TransitionFeatures(self.latent_out(features), features, F.pad(motion, (0, 0, 1, 0)))

    def reconstruction_loss(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> LossOutput:
        """Return the error of frames 1 to T - 1, predicted by moving the frames before, and metrics.

        The first of several transitions is left out: no motion is known before it.
        """
        assert motion is not None
        shown = self._hide_direction(videos)
        past, motion = _stack_flat(shown, self.part.history, codes.dtype), motion.to(codes.dtype).flatten(0, 1)
        moved = self.decoder(past, motion, codes.flatten(0, 1)).unflatten(0, codes.shape[:2])  # (B, T - 1, C, H, W)
        changes = shown[:, :-1] + moved - videos[:, :-1]
        first = min(1, changes.shape[1] - 1)
        changes, videos = changes[:, first:], videos[:, first:]
        border, (height, width) = find_border(self.part), videos.shape[-2:]
        inner = ..., slice(border, height - border), slice(border, width - border)
        error, metrics = _error_over_copying(changes[inner], videos[inner])
        if self.part.agent_box is not None:
            box = box_index(find_box(self.part))
            box_error, _ = _error_over_copying(changes[box], videos[box])
            error, metrics = error + self.part.agent_weight * box_error, metrics | {"agent_box": box_error.detach()}
        return LossOutput(error, metrics)

    def _hide_direction(self, videos: Tensor) -> Tensor:
        """Return the videos with the agent's box averaged with its mirror image."""
        if self.part.agent_box is None:
            return videos
        box, shown = box_index(find_box(self.part)), videos.clone()
        shown[box] = (videos[box] + videos[box].flip(-1)) / 2
        return shown


class TransformerBackbone(nn.Module):
    """The paper's ST-transformers; subclasses define the features of a frame and the loss."""

    def __init__(self, config: WorldConfig, part: TransformerActionConfig, features: int, positions: int) -> None:
        super().__init__()
        encoder, decoder, dim = part.encoder, part.decoder, latent_dim(part.quantizer)
        self.part = part
        self.frame_in = Linear(features, encoder.width)
        self.encoder_position_embeddings = nn.Parameter(0.02 * torch.randn(positions, encoder.width))
        self.encoder = SpatioTemporalTransformer(encoder, config.context_length)
        self.latent_out = Linear(encoder.width, dim)
        self.decoder_in = Linear(features, decoder.width)
        self.decoder_position_embeddings = nn.Parameter(0.02 * torch.randn(positions, decoder.width))
        self.hidden_frame = nn.Parameter(0.02 * torch.randn(decoder.width))
        self.code_in = Linear(dim, decoder.width)
        self.decoder = SpatioTemporalTransformer(decoder, config.context_length)

    def encode(self, videos: Tensor, precision: torch.dtype) -> TransitionFeatures:
        """Return one latent per transition, pooled over the frame that the transition leads to."""
        frames = self.features(videos).to(precision)  # (B, T, ...) -> (T, B, N, features)
        embedded = self.frame_in(frames) + self.encoder_position_embeddings.to(precision)  # (T, B, N, D)
        features, _ = self.encoder(embedded)
        pooled = features[1:].mean(dim=2).transpose(0, 1)  # (T, B, N, D) -> (B, T - 1, D)
        return TransitionFeatures(self.latent_out(pooled), pooled)

    def decode(self, videos: Tensor, codes: Tensor) -> Tensor:
        """Return features (T - 1, B, N, D) of frames 1 to T - 1, from the frames before and codes (B, T - 1, dim)."""
        frames = self.decoder_in(self.features(videos)[:-1].to(codes.dtype))  # (T - 1, B, N, D)
        if self.training and self.part.hidden_frames > 0:
            draw = partial(torch.rand, device=frames.device)
            hidden = draw_rows(draw, frames.shape[:2], dim=1) < self.part.hidden_frames
            hidden[0] = False
            frames = torch.where(hidden[..., None, None], self.hidden_frame.to(frames.dtype), frames)
        steering = self.code_in(codes).transpose(0, 1)[:, :, None]  # (B, T - 1, dim) -> (T - 1, B, 1, D)
        return self.decoder(frames + self.decoder_position_embeddings.to(codes.dtype) + steering)[0]

    def features(self, videos: Tensor) -> Tensor:
        """Return the features of each patch or token: (B, T, ...) -> (T, B, N, features)."""
        raise NotImplementedError


class PixelBackbone(TransformerBackbone):
    """ST-transformers on pixels, which the paper finds best (table 2): patches in, sigmoid out."""

    def __init__(self, config: WorldConfig, part: TransformerActionConfig) -> None:
        patch = part.patch_size
        self.grid = -(-config.height // patch), -(-config.width // patch)
        super().__init__(config, part, 3 * patch**2, self.grid[0] * self.grid[1])
        self.out = Linear(part.decoder.width, 3 * patch**2)

    def features(self, videos: Tensor) -> Tensor:
        """Return flattened patches; frames are padded to whole patches."""
        return patchify(videos.float(), self.part.patch_size)

    def reconstruction_loss(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> LossOutput:
        """Return the squared error of frames 1 to T - 1 in units of copying, and metrics."""
        patches = self.out(self.decode(videos, codes)).float().sigmoid()  # (T - 1, B, N, 3 p p)
        frames = unpatchify(patches, self.part.patch_size, self.grid)  # (B, T - 1, C, H, W), padded
        return _error_over_copying(frames[..., : videos.shape[-2], : videos.shape[-1]] - videos[:, :-1], videos)


class TokenBackbone(TransformerBackbone):
    """ST-transformers on tokens, for the paper's table 2: embeddings in, cross-entropy out."""

    def __init__(self, config: WorldConfig, part: TransformerActionConfig) -> None:
        super().__init__(config, part, part.encoder.width, config.tokens_per_frame)
        self.embedding = Embedding(config.tokenizer.quantizer.codes, part.encoder.width)
        self.out = Linear(part.decoder.width, config.tokenizer.quantizer.codes)

    def features(self, videos: Tensor) -> Tensor:
        """Return token embeddings."""
        return self.embedding(videos.transpose(0, 1))  # (B, T, N) -> (T, B, N, D)

    def reconstruction_loss(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> LossOutput:
        """Return the cross-entropy of the tokens of frames 1 to T - 1."""
        logits = self.out(self.decode(videos, codes)).float()  # (T - 1, B, N, K)
        loss = mean_over_ranks(F.cross_entropy(logits.flatten(0, 2), videos[:, 1:].transpose(0, 1).flatten()))
        return LossOutput(loss, {"cross_entropy": loss.detach()})


def require_learned(config: WorldConfig) -> LatentActionConfig:
    """Return the config of a world's latent action model; ``ValueError`` if it has none."""
    if isinstance(config.latent_action_model, RealActionConfig):
        raise ValueError(
            f"the world has no latent action model, so nothing can be labelled: it was trained with --actions real, on "
            f"the {config.num_latent_actions} real actions of a recording"
        )
    return config.latent_action_model


class NoLatentActionModel(LatentActionModel):
    """What stands for the latent action model in a world of real actions: no weights, and an error at each use."""

    def __init__(self, config: WorldConfig) -> None:
        Model.__init__(self)
        self.config, self.action_of_code, self.centres = config, None, None

    @property
    def reads_tokens(self) -> bool:
        """False: nothing is read."""
        return False

    @property
    def frames_seen(self) -> int:
        """A ``ValueError``, as of all that only a latent action model can tell."""
        return self._refuse()

    def encode(self, videos: Tensor) -> Tensor:
        """Raise ``ValueError``: no transition has a code."""
        return self._refuse()

    def latents(self, videos: Tensor) -> Tensor:
        """Raise ``ValueError``: no transition has a latent, so none has a label either."""
        return self._refuse()

    def features(self, videos: Tensor) -> Tensor:
        """Raise ``ValueError``: no transition has features."""
        return self._refuse()

    def loss_and_labels(self, videos: Tensor) -> tuple[LossOutput, Tensor]:
        """Raise ``ValueError``: there is nothing to train."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        require_learned(self.config)
        raise AssertionError(self.config)


def build_action_model(config: WorldConfig) -> LatentActionModel:
    """Return the untrained latent action model of a world, or what stands for it in a world of real actions."""
    is_real = isinstance(config.latent_action_model, RealActionConfig)
    return (NoLatentActionModel if is_real else LatentActionModel)(config)


def _build_backbone(
    config: WorldConfig, part: LatentActionConfig
) -> "ConvBackbone | MovingBackbone | PixelBackbone | TokenBackbone":
    if isinstance(part, MovingActionConfig):
        return MovingBackbone(config, part)
    if isinstance(part, ConvActionConfig):
        return ConvBackbone(config, part)
    return (PixelBackbone if part.inputs == "pixels" else TokenBackbone)(config, part)


def _stack_flat(videos: Tensor, history: int, precision: torch.dtype) -> Tensor:
    """Return the past of every transition: (B, T, C, H, W) -> (B (T - 1), history C, H, W)."""
    return stack_past(videos, history).flatten(0, 1).to(precision).contiguous(memory_format=torch.channels_last)


def _error_over_copying(changes: Tensor, videos: Tensor) -> LossOutput:
    """Return the squared error of predicted changes (B, T - 1, C, H, W) divided by that of copying, and metrics."""
    true = videos[:, 1:] - videos[:, :-1]
    error, copied = mean_over_ranks(F.mse_loss(changes, true)), mean_over_ranks(true.square().mean()).clamp(min=1e-6)
    return LossOutput(error / copied, {"psnr": -10 * error.detach().log10(), "copy_last_psnr": -10 * copied.log10()})
