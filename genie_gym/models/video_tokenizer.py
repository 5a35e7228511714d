"""The video tokenizer: frames to one grid of tokens each, and back (Genie, sec. 2.1 and C.2)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import WorldConfig
from genie_gym.models.base import LossOutput, Model, require_ids, require_videos
from genie_gym.nn.attention import KeyValues
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.layers import Linear, zero_
from genie_gym.nn.patches import fold, patchify, unfold, unpatchify
from genie_gym.nn.quantizer import Quantized, VectorQuantizer, build_quantizer, kmeans, latent_dim, perplexity
from genie_gym.nn.st_transformer import SpatioTemporalTransformer

LIFT = 3.0
"""The constant feature beside principal components of unit spread: 1 costs 1.3 dB at the start, 8 gains 0.1."""


class VideoTokenizer(Model):
    """VQ-VAE over spatio-temporal transformers, or over convolutions; token t has seen no frame after t.

    Beside the transformers runs a linear path from patches to latents and from codes to patches. With
    ``initialise`` it starts as principal components and k-means over patches, and the transformers, silent at
    first, learn what that misses.
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        part, frames = config.tokenizer, config.context_length
        pixels, dim = 3 * part.patch_size**2, latent_dim(part.quantizer)
        tokens = part.fold**2
        grid = config.grid[0] // part.fold, config.grid[1] // part.fold
        self.places = config.tokens_per_frame // tokens
        self.patch_in = Linear(tokens * pixels, part.encoder.width)
        self.encoder_places = nn.Parameter(0.02 * torch.randn(self.places, part.encoder.width))
        self.encoder = SpatioTemporalTransformer(part.encoder, frames, grid=grid)
        self.latent_out = zero_(Linear(part.encoder.width, tokens * dim, bias=False))
        self.latent_path = Linear(pixels, dim)
        self.quantizer = build_quantizer(part.quantizer)
        self.code_in = Linear(tokens * dim, part.decoder.width)
        self.decoder_places = nn.Parameter(0.02 * torch.randn(self.places, part.decoder.width))
        self.decoder = SpatioTemporalTransformer(part.decoder, frames, grid=grid)
        self.patch_out = zero_(Linear(part.decoder.width, tokens * pixels, bias=False))
        self.patch_path = Linear(dim, pixels)

    def encode(self, videos: Tensor) -> Tensor:
        """Tokens of videos.

        Args:
            videos: (B, T, C, H, W) float in [0, 1].

        Returns:
            (B, T, N) int64 in [0, K).

        Raises:
            ValueError: If the videos have another size or type.
        """
        return self._quantize(videos).tokens.transpose(0, 1).contiguous()

    def decode(self, tokens: Tensor) -> Tensor:
        """Videos of tokens.

        Args:
            tokens: (B, T, N) int64 in [0, K).

        Returns:
            (B, T, C, H, W) float32 in [0, 1].

        Raises:
            ValueError: If the tokens have another shape or range.
        """
        return self.decode_and_remember(tokens)[0]

    def decode_and_remember(self, tokens: Tensor) -> tuple[Tensor, list[KeyValues | None]]:
        """``decode``, with each block's keys and values for a ``FrameCache``."""
        self._require_tokens(tokens)
        codes = self.quantizer.lookup(tokens.transpose(0, 1))
        features, remembered = self.decoder(self._embed(codes))
        return self._to_pixels(features, codes).clamp(0, 1), remembered

    def empty_cache(self, batch: int) -> FrameCache:
        """A cache without frames for ``decode_next``."""
        return FrameCache(self.decoder, batch, self.places, 1, self.precision)

    def decode_next(self, tokens: Tensor, cache: FrameCache) -> Tensor:
        """``decode`` for one frame (B, 1, N), drawn by the dynamics, that follows those in ``cache`` and joins them."""
        codes = self.quantizer.lookup(tokens.transpose(0, 1))
        features = self.decoder.step(self._embed(codes), cache.slots, cache.window(0, 1, codes.device))
        cache.advance()
        return self._to_pixels(features, codes).clamp(0, 1)

    def loss(self, videos: Tensor) -> LossOutput:
        """Mean squared error of rebuilt pixels, in units of their variance, plus the quantizer's loss (sec. 2.1)."""
        quantized = self._quantize(videos)
        features, _ = self.decoder(self._embed(quantized.codes))
        error = F.mse_loss(self._to_pixels(features, quantized.codes), videos)
        codes = self.config.tokenizer.quantizer.codes
        metrics = {
            "psnr": -10 * error.detach().log10(),
            "commitment": quantized.loss.detach(),
            "perplexity": perplexity(quantized.tokens, codes),
        }
        return LossOutput(error / videos.var().clamp(min=1e-6) + quantized.loss, metrics)

    @torch.no_grad()
    def initialise(self, videos: Tensor) -> None:
        """Start the linear path and the codebook from data, so that training starts at k-means' quality.

        Latents begin as principal components with one constant feature beside them: that lift makes angles
        on the unit sphere follow distances, which cosine codes alone would lose.

        Args:
            videos: (B, T, C, H, W) float in [0, 1]; a few thousand frames are plenty.
        """
        if not isinstance(self.quantizer, VectorQuantizer):
            return
        patches = patchify(videos.float() - 0.5, self.config.tokenizer.patch_size).flatten(0, 2)
        dim = self.quantizer.config.dim
        mean = patches.mean(dim=0)
        _, axes = torch.linalg.eigh(torch.cov(patches.T))
        components = axes[:, -(dim - 1) :].T
        spread = ((patches - mean) @ components.T).square().sum(dim=1).mean().sqrt()
        self.latent_path.weight.zero_()
        self.latent_path.weight[:-1] = components / spread
        self.latent_path.bias.copy_(torch.cat([-components @ mean / spread, mean.new_full((1,), LIFT)]))
        latents = F.normalize(F.linear(patches, self.latent_path.weight, self.latent_path.bias), dim=-1)
        self.quantizer.set_codebook(kmeans(latents, self.quantizer.config.codes, rounds=20))
        codes = self.quantizer.lookup(self.quantizer.nearest(latents))
        design = torch.cat([codes, torch.ones(len(codes), 1, device=codes.device)], dim=1)
        ridge = 1e-4 * len(codes) * torch.eye(dim + 1, device=codes.device)
        ridge *= design.square().mean(dim=0)
        solution = torch.linalg.solve(design.T @ design + ridge, design.T @ patches)
        self.patch_path.weight.copy_(solution[:-1].T)
        self.patch_path.bias.copy_(solution[-1])

    def _quantize(self, videos: Tensor) -> Quantized:
        require_videos(videos, 3, self.config.height, self.config.width)
        part = self.config.tokenizer
        patches = patchify(videos - 0.5, part.patch_size)
        inner = fold(patches.to(self.precision), part.fold, self.config.grid)
        features, _ = self.encoder(self.patch_in(inner) + self.encoder_places.to(inner.dtype))
        found = unfold(self.latent_out(features), part.fold, self.config.grid)
        latents = found.float() + self.latent_path(patches)
        return cast(Quantized, self.quantizer(latents))

    def _require_tokens(self, tokens: Tensor) -> None:
        if tokens.ndim != 3 or tokens.shape[2] != self.config.tokens_per_frame:
            raise ValueError(f"tokens must be (B, T, {self.config.tokens_per_frame}), got {tuple(tokens.shape)}")
        require_ids("tokens", tokens, self.config.tokenizer.quantizer.codes)

    def _embed(self, codes: Tensor) -> Tensor:
        inner = fold(codes.to(self.precision), self.config.tokenizer.fold, self.config.grid)
        return self.code_in(inner) + self.decoder_places.to(inner.dtype)

    def _to_pixels(self, features: Tensor, codes: Tensor) -> Tensor:
        part = self.config.tokenizer
        found = unfold(self.patch_out(features), part.fold, self.config.grid)
        return unpatchify(found.float() + self.patch_path(codes.float()), part.patch_size, self.config.grid) + 0.5
