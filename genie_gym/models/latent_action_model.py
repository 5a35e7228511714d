"""The latent action model: two frames and their past to one code, learned without labels (Genie, sec. 2.1, C.1)."""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from genie_gym.configs import LatentActionConfig, TransformerConfig, WorldConfig
from genie_gym.models.base import LossOutput, Model, require_ids, require_videos
from genie_gym.nn.convolution import SteeredUNet, StridedEncoder, stack_past, stack_transitions
from genie_gym.nn.layers import Embedding, Linear
from genie_gym.nn.moving import AcceleratingDecoder, MovingDecoder
from genie_gym.nn.patches import patchify, unpatchify
from genie_gym.nn.quantizer import Quantized, build_quantizer, latent_dim, perplexity
from genie_gym.nn.st_transformer import SpatioTemporalTransformer

LEAST_UNIT = 0.1
"""What a transition's error is counted in, at least, in units of the batch's: where nothing moves is noise."""
LEAST_NOISE = 0.01
"""What is added to a transition's error before its logarithm, in the same units, so that none counts without end."""
FEATURES, MOTION = 128, 32
"""``moves``: features of a transition, and what of them tells the next one's decoder how things moved."""


class Seen(NamedTuple):
    """What an encoder makes of the transitions of videos."""

    latents: Tensor
    """(B, T - 1, dim), for the quantizer."""
    motion: Tensor | None = None
    """(B, T - 1, MOTION), unquantized, of the transition before: past, which the decoder may know. Zeros for the
    first; None where the decoder asks for none."""


class LatentActionModel(Model):
    """VQ-VAE over transitions: exactly one code each, and a decoder that needs it.

    The encoder sees frames up to t + 1 and emits one latent; its code and the frames up to t go to the decoder,
    which rebuilds frame t + 1. After training only the labels and the codebook matter.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        part = config.latent_action_model
        convolutions = MovingBackbone if part.moves else ConvBackbone
        builds = {"conv": convolutions, "st": PixelBackbone if part.inputs == "pixels" else TokenBackbone}
        self.backbone = builds[part.backbone](config)
        dim = latent_dim(part.quantizer)
        self.latent_norm = nn.BatchNorm1d(dim, affine=False)
        self.quantizer = build_quantizer(part.quantizer)

    @property
    def reads_tokens(self) -> bool:
        """Whether ``loss`` and ``label`` take tokens (the paper's table 2) and not videos."""
        return self.config.latent_action_model.inputs == "tokens"

    @property
    def frames_seen(self) -> int:
        """Frames up to t that the label of the transition from t on hangs on (``st``: in one block)."""
        part = self.config.latent_action_model
        return part.history if part.backbone == "conv" else self.config.context_length

    @torch.no_grad()
    def label(self, videos: Tensor) -> Tensor:
        """The latent action of every transition.

        Args:
            videos: (B, T, C, H, W) float in [0, 1]; or (B, T, N) tokens where ``reads_tokens``.

        Returns:
            (B, T - 1) int64 in [0, A); entry t takes frame t to t + 1.

        Raises:
            ValueError: If there are fewer than two frames, or they have another size.
        """
        return self._quantize(self.backbone.encode(self._check(videos), self.precision).latents).tokens

    def loss(self, videos: Tensor) -> LossOutput:
        """Reconstruction of frames 1.. from the frames before and one code each, plus the quantizer's loss.

        On pixels the squared error counts in units of that of copying, so that its weight against the
        commitment does not hang on how much a video moves.
        """
        return self.loss_and_labels(videos)[0]

    def loss_and_labels(self, videos: Tensor) -> tuple[LossOutput, Tensor]:
        """``loss`` and, from the same pass, the labels (B, T - 1), which carry no gradient."""
        self._check(videos)
        seen = self.backbone.encode(videos, self.precision)
        quantized = self._quantize(seen.latents)
        error, metrics = self.backbone.rebuild(videos, quantized.codes.to(self.precision), seen.motion)
        actions = self.config.num_latent_actions
        shares = torch.bincount(quantized.tokens.flatten(), minlength=actions) / quantized.tokens.numel()
        metrics |= {
            "perplexity": perplexity(quantized.tokens, actions),
            "least_used": shares.min(),
            "commitment": quantized.loss.detach(),
        }
        return LossOutput(error + quantized.loss, metrics), quantized.tokens

    def _quantize(self, latents: Tensor) -> Quantized:
        flat = self.latent_norm(latents.float().flatten(0, 1))
        return cast(Quantized, self.quantizer(flat.view_as(latents)))

    def _check(self, videos: Tensor) -> Tensor:
        if self.reads_tokens:
            require_ids("tokens", videos, self.config.tokenizer.quantizer.codes)
        else:
            require_videos(videos, 3, self.config.height, self.config.width)
        if videos.shape[1] < 2:
            raise ValueError(f"videos must have at least 2 frames to hold a transition, got {videos.shape[1]}")
        return videos


class ConvBackbone(nn.Module):
    """A strided encoder over the last frames, the next and their difference; a U-Net steered by the code."""

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        part = config.latent_action_model
        self.part, self.history, dim = part, part.history, latent_dim(part.quantizer)
        size = (config.height, config.width)
        self.encoder = StridedEncoder(3 * (self.history + 2), part.width, FEATURES if part.moves else dim, size)
        self.decoder = self._build_decoder(dim)

    def encode(self, videos: Tensor, precision: torch.dtype) -> Seen:
        """What is seen of videos (B, T, C, H, W)."""
        return Seen(self._encode(videos, precision))

    def rebuild(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of frames 1.., predicted as changes of the frames before."""
        changes = self.decoder(self._past(videos, codes.dtype), codes.flatten(0, 1)).float()
        changes = changes.unflatten(0, codes.shape[:2]).unflatten(2, (self.part.horizon, 3))
        return _against_copying(changes, videos, self.part)

    def _build_decoder(self, dim: int) -> nn.Module:
        return SteeredUNet(3 * self.history, self.part.width, 3 * self.part.horizon, dim)

    def _encode(self, videos: Tensor, precision: torch.dtype) -> Tensor:
        """(B, T - 1, features)."""
        pixels = stack_transitions(videos, self.history).flatten(0, 1)
        return self.encoder(_channels_last(pixels.to(precision))).unflatten(0, (len(videos), -1))

    def _past(self, videos: Tensor, precision: torch.dtype) -> Tensor:
        return _channels_last(stack_past(videos, self.history).flatten(0, 1).to(precision))


class MovingBackbone(ConvBackbone):
    """Its decoder moves frames, and knows how they moved before, so that the code need not repeat it.

    Where the player is kept in the ``centre`` it sees the player as ``centre_shown`` says.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__(config)
        self.latent_out = Linear(FEATURES, latent_dim(self.part.quantizer))
        self.motion_out = Linear(FEATURES, MOTION)

    def encode(self, videos: Tensor, precision: torch.dtype) -> Seen:
        """What is seen of videos (B, T, C, H, W)."""
        features = F.relu(self._encode(videos, precision))
        motion = self.motion_out(features)[:, :-1]
        return Seen(self.latent_out(features), F.pad(motion, (0, 0, 1, 0)))

    def rebuild(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of frames 1.., moved; not of the first of several, before which no motion is known."""
        assert motion is not None
        shown = self._hide_player(videos)
        past, motion = self._past(shown, codes.dtype), motion.to(codes.dtype).flatten(0, 1)
        rebuilt = shown[:, :-1] + self.decoder(past, motion, codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        known = slice(min(1, rebuilt.shape[1] - 1), None)
        changes, videos = (rebuilt - videos[:, :-1])[:, known], videos[:, known]
        error, metrics = _against_copying(changes[:, :, None], videos, self.part)
        if self.part.centre:
            rows, columns = self._centre(videos)
            centre = videos[..., rows, columns]
            share, _, _ = _error_ahead(changes[..., rows, columns], centre, 1, self.part)
            error, metrics = error + self.part.centre_weight * share, metrics | {"centre": share.detach()}
        return error, metrics

    def _hide_player(self, videos: Tensor) -> Tensor:
        """Videos with what the decoder may know of their centre."""
        if not self.part.centre:
            return videos
        rows, columns = self._centre(videos)
        shown, centre = videos.clone(), videos[..., rows, columns]
        is_first = self.part.centre_shown == "first"
        shown[..., rows, columns] = centre[:, :1] if is_first else (centre + centre.flip(-1)) / 2
        return shown

    def _centre(self, videos: Tensor) -> tuple[slice, slice]:
        """Rows and columns of the square in the middle."""
        starts = [(side - self.part.centre) // 2 for side in videos.shape[-2:]]
        rows, columns = (slice(start, start + self.part.centre) for start in starts)
        return rows, columns

    def _build_decoder(self, dim: int) -> nn.Module:
        part = self.part
        if part.accelerates:
            has_axes = part.quantizer.kind == "vq" and len(part.quantizer.levels) == 2
            return AcceleratingDecoder(
                self.history, part.width, MOTION, dim, part.moves, part.reach, part.centre, has_axes
            )
        return MovingDecoder(self.history, part.width, MOTION, dim, part.moves, part.reach, part.centre > 0)


class TransformerBackbone(nn.Module):
    """The paper's ST-transformers; what a frame's features are is left to the two that follow."""

    def __init__(self, config: WorldConfig, features: int, places: int) -> None:
        super().__init__()
        part = config.latent_action_model
        encoder, decoder = _transformers(part)
        self.part, dim = part, latent_dim(part.quantizer)
        self.frame_in = Linear(features, encoder.width)
        self.encoder_places = nn.Parameter(0.02 * torch.randn(places, encoder.width))
        self.encoder = SpatioTemporalTransformer(encoder, config.context_length)
        self.latent_out = Linear(encoder.width, dim)
        self.decoder_in = Linear(features, decoder.width)
        self.decoder_places = nn.Parameter(0.02 * torch.randn(places, decoder.width))
        self.hidden_frame = nn.Parameter(0.02 * torch.randn(decoder.width))
        self.code_in = Linear(dim, decoder.width)
        self.decoder = SpatioTemporalTransformer(decoder, config.context_length)

    def encode(self, videos: Tensor, precision: torch.dtype) -> Seen:
        """(B, T, ...) to one pooled vector a transition."""
        frames = self.features(videos).to(precision)
        features, _ = self.encoder(self.frame_in(frames) + self.encoder_places.to(precision))
        return Seen(rearrange(self.latent_out(features[1:].mean(dim=2)), "t b d -> b t d"))

    def decode(self, videos: Tensor, codes: Tensor) -> Tensor:
        """Frames up to t and codes (additive, as in the paper) to features (T - 1, B, N, D) of frames 1.. ."""
        frames = self.decoder_in(self.features(videos)[:-1].to(codes.dtype))
        if self.training and self.part.hidden_frames > 0:
            hidden = torch.rand(frames.shape[:2], device=frames.device) < self.part.hidden_frames
            hidden[0] = False
            frames = torch.where(hidden[..., None, None], self.hidden_frame.to(frames.dtype), frames)
        steered = frames + self.decoder_places.to(codes.dtype) + self.code_in(codes).transpose(0, 1)[:, :, None]
        return self.decoder(steered)[0]

    def features(self, videos: Tensor) -> Tensor:
        """(B, T, ...) -> (T, B, N, features)."""
        raise NotImplementedError

    def rebuild(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The reconstruction loss of frames 1.., and its metrics."""
        raise NotImplementedError


class PixelBackbone(TransformerBackbone):
    """On pixels, as the paper finds best (table 2): patches in, sigmoid out."""

    def __init__(self, config: WorldConfig) -> None:
        patch = config.latent_action_model.patch_size
        self.grid = -(-config.height // patch), -(-config.width // patch)
        super().__init__(config, 3 * patch**2, self.grid[0] * self.grid[1])
        self.out = Linear(_transformers(self.part)[1].width, self.part.horizon * 3 * patch**2)

    def features(self, videos: Tensor) -> Tensor:
        patch = self.part.patch_size
        edges = (0, -videos.shape[-1] % patch, 0, -videos.shape[-2] % patch)
        return patchify(F.pad(videos.float(), edges), patch)

    def rebuild(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        patches = self.out(self.decode(videos, codes)).float().sigmoid()
        rebuilt = unpatchify(patches, self.part.patch_size, self.grid)[..., : videos.shape[-2], : videos.shape[-1]]
        changes = rebuilt.unflatten(2, (self.part.horizon, 3)) - videos[:, :-1, None]
        return _against_copying(changes, videos, self.part)


class TokenBackbone(TransformerBackbone):
    """On tokens, for the paper's table 2: embeddings in, cross-entropy out."""

    def __init__(self, config: WorldConfig) -> None:
        encoder, decoder = _transformers(config.latent_action_model)
        super().__init__(config, encoder.width, config.tokens_per_frame)
        self.embedding = Embedding(config.tokenizer.quantizer.codes, encoder.width)
        self.out = Linear(decoder.width, config.tokenizer.quantizer.codes)

    def features(self, videos: Tensor) -> Tensor:
        return self.embedding(videos.transpose(0, 1))

    def rebuild(self, videos: Tensor, codes: Tensor, motion: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.out(self.decode(videos, codes)).float()
        loss = F.cross_entropy(logits.flatten(0, 2), videos[:, 1:].transpose(0, 1).flatten())
        return loss, {"cross_entropy": loss.detach()}


def _transformers(part: LatentActionConfig) -> tuple[TransformerConfig, TransformerConfig]:
    assert part.encoder is not None and part.decoder is not None
    return part.encoder, part.decoder


def _against_copying(changes: Tensor, videos: Tensor, part: LatentActionConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The squared error of changes (B, T - 1, horizon, C, H, W) in units of that of saying none.

    A mean over the horizon; the metrics are of the next frame. Both leave the margin out.
    """
    inner = slice(part.error_margin, -part.error_margin or None)
    changes, videos = changes[..., inner, inner], videos[..., inner, inner]
    ahead = range(1, min(changes.shape[2], videos.shape[1] - 1) + 1)
    parts = [_error_ahead(changes[:, : videos.shape[1] - each, each - 1], videos, each, part) for each in ahead]
    _, error, copied = parts[0]
    metrics = {"psnr": -10 * error.detach().log10(), "copy_last_psnr": -10 * copied.log10()}
    return torch.stack([share for share, _, _ in parts]).mean(), metrics


def _error_ahead(
    changes: Tensor, videos: Tensor, ahead: int, part: LatentActionConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Of changes (B, T - ahead, C, H, W) over so many frames: the error in units, the error, that of saying none."""
    true = videos[:, ahead:] - videos[:, :-ahead]
    error, copied = F.mse_loss(changes, true), true.square().mean().clamp(min=1e-6)
    if part.error_unit == "batch":
        return error / copied, error, copied
    errors, units = (each.square().mean(dim=(2, 3, 4)) for each in (changes - true, true))
    if part.error_unit == "log":
        return (errors / copied + LEAST_NOISE).log().mean(), error, copied
    return (errors / torch.maximum(units, LEAST_UNIT * copied)).mean(), error, copied


def _channels_last(pixels: Tensor) -> Tensor:
    return pixels.contiguous(memory_format=torch.channels_last)
