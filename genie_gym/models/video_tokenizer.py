"""The video tokenizer: frames to one grid of tokens each, and back (Genie, sec. 2.1 and C.2).

Notable choices beside the paper's:
- A linear path from patches to latents and from codes to patches runs beside the transformers. It starts as principal
  components and k-means (``initialise``), so training starts at the quality of k-means instead of noise.
- The codebook uses cosine distances; a constant feature makes angles follow Euclidean distances.
- With ``attention="conv"`` encoder and decoder are convolutions over each frame's tokens.
- Frames are padded to whole patches and folds (90 rows to 92), and cut to their own size again.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import WorldConfig
from genie_gym.models.base import LossOutput, Model, require_ids, require_videos
from genie_gym.nn.attention import KeyValues
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.layers import Linear, zero_
from genie_gym.nn.patches import fold, pad_frames, patchify, unfold, unpatchify
from genie_gym.nn.quantizer import Quantized, VectorQuantizer, build_quantizer, kmeans, latent_dim, perplexity
from genie_gym.nn.ranks import mean_over_ranks, variance_over_ranks
from genie_gym.nn.st_transformer import Block, SpatioTemporalTransformer

_LIFT = 3.0
"""Constant feature beside principal components of unit spread: 1 costs 1.3 dB at the start, 8 gains 0.1 dB."""
_LEAST_VARIANCE = 1e-6
"""Variance of a principal component, in units of the largest one's, below which float32 has only rounding."""


class VideoTokenizer(Model):
    """A VQ-VAE over spatio-temporal transformers or convolutions; frame t's tokens depend on no later frame."""

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        part, frames = config.tokenizer, config.context_length
        pixels, dim = 3 * part.patch_size**2, latent_dim(part.quantizer)
        tokens = part.fold**2
        grid = config.grid[0] // part.fold, config.grid[1] // part.fold
        self.positions = config.tokens_per_frame // tokens
        self.patch_in = Linear(tokens * pixels, part.encoder.width)
        self.encoder_position_embeddings = nn.Parameter(0.02 * torch.randn(self.positions, part.encoder.width))
        self.encoder = SpatioTemporalTransformer(part.encoder, frames, grid=grid)
        self.latent_out = zero_(Linear(part.encoder.width, tokens * dim, bias=False))
        self.latent_path = Linear(pixels, dim)
        self.quantizer = build_quantizer(part.quantizer)
        self.code_in = Linear(tokens * dim, part.decoder.width)
        self.decoder_position_embeddings = nn.Parameter(0.02 * torch.randn(self.positions, part.decoder.width))
        self.decoder = SpatioTemporalTransformer(part.decoder, frames, grid=grid)
        self.patch_out = zero_(Linear(part.decoder.width, tokens * pixels, bias=False))
        self.patch_path = Linear(dim, pixels)

    def encode(self, videos: Tensor) -> Tensor:
        """Encode videos as tokens.

        Args:
            videos: (B, T, C, H, W) float in [0, 1].

        Returns:
            (B, T, N) int64 in [0, K).

        Raises:
            ValueError: If the videos have another size or type.
        """
        return self._quantize(videos).tokens.transpose(0, 1).contiguous()

    def decode(self, tokens: Tensor) -> Tensor:
        """Decode tokens to videos.

        Args:
            tokens: (B, T, N) int64 in [0, K).

        Returns:
            (B, T, C, H, W) float32 in [0, 1].

        Raises:
            ValueError: If the tokens have another shape or range.
        """
        return self.decode_with_cache(tokens)[0]

    def decode_with_cache(self, tokens: Tensor) -> tuple[Tensor, list[KeyValues | None]]:
        """Return what ``decode`` does, and the keys and values of the decoder's blocks for a ``FrameCache``."""
        self._require_tokens(tokens)
        codes = self.quantizer.lookup(tokens.transpose(0, 1))
        features, keys_values = self.decoder(self._embed(codes))
        return self._to_pixels(features, codes).clamp(0, 1), keys_values

    def empty_cache(self, batch: int) -> FrameCache:
        """Allocate an empty cache for ``decode_next``."""
        return FrameCache(self.decoder, batch, self.positions, 1, self.precision)

    def decode_next(self, tokens: Tensor, cache: FrameCache) -> Tensor:
        """Decode one frame, (B, 1, N) -> (B, 1, C, H, W), that follows those in ``cache``, and add it to the cache."""
        codes = self.quantizer.lookup(tokens.transpose(0, 1))
        features = self.decoder.step(self._embed(codes), cache.blocks, cache.window(0, 1, codes.device))
        cache.advance()
        return self._to_pixels(features, codes).clamp(0, 1)

    @property
    def decodes_alone(self) -> bool:
        """Whether a frame's pixels depend on its own tokens only, so that frames may be skipped."""
        return all(cast(Block, block).causal is None for block in self.decoder.blocks)

    def decode_alone(self, tokens: Tensor) -> Tensor:
        """Decode one frame, (B, 1, N) -> (B, 1, C, H, W), by a decoder that ``decodes_alone``."""
        return self.decode_next(tokens, self.empty_cache(len(tokens)))

    def loss(self, videos: Tensor) -> LossOutput:
        """Return the squared error of rebuilt pixels over their variance, plus the quantizer's loss (sec. 2.1)."""
        quantized = self._quantize(videos)
        features, _ = self.decoder(self._embed(quantized.codes))
        error = mean_over_ranks(F.mse_loss(self._to_pixels(features, quantized.codes), videos))
        codes = self.config.tokenizer.quantizer.codes
        metrics = {
            "psnr": -10 * error.detach().log10(),
            "commitment": quantized.loss.detach(),
            "perplexity": perplexity(quantized.tokens, codes),
        }
        return LossOutput(error / variance_over_ranks(videos).clamp(min=1e-6) + quantized.loss, metrics)

    @torch.no_grad()
    def initialise(self, videos: Tensor) -> None:
        """Start the linear path and the codebook from data, so that training starts at the quality of k-means.

        Latents start as principal components beside one constant feature. This lift makes angles on the unit sphere
        follow Euclidean distances, which cosine codes alone would lose. Only a ``VectorQuantizer`` is initialised.

        Args:
            videos: (B, T, C, H, W) float in [0, 1]; a few thousand frames are enough.
        """
        if not isinstance(self.quantizer, VectorQuantizer):
            return
        patches = self._patchify(videos.float()).flatten(0, 2)  # (M, pixels)
        # latent path: principal components of unit spread, and the constant feature
        dim = self.quantizer.config.dim
        mean = patches.mean(dim=0)
        variances, axes = torch.linalg.eigh(torch.cov(patches.T))
        # Videos of a few flat colours have fewer components than the latent has features. The others are rounding,
        # through which the regression below would fit weights of any size: they start at zero.
        is_seen = variances > _LEAST_VARIANCE * variances[-1]
        components = (axes * is_seen)[:, -(dim - 1) :].T
        spread = ((patches - mean) @ components.T).square().sum(dim=1).mean().sqrt().clamp(min=_LEAST_VARIANCE)
        self.latent_path.weight.zero_()
        self.latent_path.weight[:-1] = components / spread
        self.latent_path.bias.copy_(torch.cat([-components @ mean / spread, mean.new_full((1,), _LIFT)]))
        # codebook: k-means on the unit sphere
        latents = F.normalize(F.linear(patches, self.latent_path.weight, self.latent_path.bias), dim=-1)
        self.quantizer.set_codebook(kmeans(latents, self.quantizer.config.codes, rounds=20))
        codes = self.quantizer.lookup(self.quantizer.nearest(latents))
        # patch path: ridge regression from codes to patches
        design = torch.cat([codes, torch.ones(len(codes), 1, device=codes.device)], dim=1)
        ridge = 1e-4 * len(codes) * torch.eye(dim + 1, device=codes.device)
        ridge *= design.square().mean(dim=0).clamp(min=_LEAST_VARIANCE)
        solution = torch.linalg.solve(design.T @ design + ridge, design.T @ patches)
        self.patch_path.weight.copy_(solution[:-1].T)
        self.patch_path.bias.copy_(solution[-1])

    def _quantize(self, videos: Tensor) -> Quantized:
        """Encode (B, T, C, H, W) and quantize: tokens (T, B, N), codes (T, B, N, dim)."""
        require_videos(videos, 3, self.config.height, self.config.width)
        part = self.config.tokenizer
        patches = self._patchify(videos)  # (T, B, N, pixels)
        folded = fold(patches.to(self.precision), part.fold, self.config.grid)  # (T, B, N / fold^2, fold^2 pixels)
        features, _ = self.encoder(self.patch_in(folded) + self.encoder_position_embeddings.to(folded.dtype))
        latents = unfold(self.latent_out(features), part.fold, self.config.grid)  # (T, B, N, dim)
        return cast(Quantized, self.quantizer(latents.float() + self.latent_path(patches), rows=1))

    def _patchify(self, videos: Tensor) -> Tensor:
        """Cut padded videos (B, T, C, H, W) in [0, 1] into patches (T, B, N, pixels) in [-0.5, 0.5]."""
        return patchify(pad_frames(videos - 0.5, self.config.cell), self.config.tokenizer.patch_size)

    def _require_tokens(self, tokens: Tensor) -> None:
        if tokens.ndim != 3 or tokens.shape[2] != self.config.tokens_per_frame:
            raise ValueError(f"tokens must be (B, T, {self.config.tokens_per_frame}), got {tuple(tokens.shape)}")
        require_ids("tokens", tokens, self.config.tokenizer.quantizer.codes)

    def _embed(self, codes: Tensor) -> Tensor:
        """Embed codes (T, B, N, dim) as the decoder's input (T, B, N / fold^2, D)."""
        folded = fold(codes.to(self.precision), self.config.tokenizer.fold, self.config.grid)
        return self.code_in(folded) + self.decoder_position_embeddings.to(folded.dtype)

    def _to_pixels(self, features: Tensor, codes: Tensor) -> Tensor:
        """Map the decoder's output (T, B, N / fold^2, D) and codes (T, B, N, dim) to videos (B, T, C, H, W)."""
        part = self.config.tokenizer
        patches = unfold(self.patch_out(features), part.fold, self.config.grid)  # (T, B, N, pixels)
        padded = unpatchify(patches.float() + self.patch_path(codes.float()), part.patch_size, self.config.grid)
        return padded[..., : self.config.height, : self.config.width] + 0.5
