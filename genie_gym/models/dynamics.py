"""The MaskGIT dynamics model: tokens and latent actions to the next frame's tokens (Genie, sec. 2.1, C.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import WorldConfig
from genie_gym.models.base import LossOutput, Model, require_ids
from genie_gym.nn.attention import KeyValues
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.layers import Embedding, Linear, zero_
from genie_gym.nn.patches import fold, unfold
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.serving import kernels

NO_TARGET = -1
ROWS = 256
"""Hidden tokens are padded to a multiple of these: on a CPU each new size of a product leaves a kernel of about
1 MB in oneDNN's caches, up to a thousand of them."""


class MaskGITDynamics(Model):
    """A decoder-only ST-transformer that fills hidden tokens in, frame by frame.

    Frame t + 1 is conditioned on latent action t; frame 0 on a learned "no action".
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        part, width = config.dynamics, config.dynamics.transformer.width
        self.codes, self.hidden_token = config.tokenizer.quantizer.codes, config.tokenizer.quantizer.codes
        self.no_action = config.num_latent_actions
        self.side, inner = part.fold, width // part.fold
        self.token_embedding = Embedding(self.codes + 1, inner)
        self.gather = nn.Identity() if self.side == 1 else Linear(self.side * width, width)
        self.places = nn.Parameter(0.02 * torch.randn(config.tokens_per_frame // self.side**2, width))
        self.action_embedding = nn.Embedding(config.num_latent_actions + 1, width)
        condition = width if part.action_conditioning == "film" else None
        self.transformer = SpatioTemporalTransformer(part.transformer, config.context_length, condition)
        self.spread = nn.Identity() if self.side == 1 else Linear(width, self.side * width)
        self.head = zero_(Linear(inner, inner))
        self.output_bias = nn.Parameter(torch.zeros(self.codes))
        self.product = kernels.Product()

    @torch.no_grad()
    def initialise(self, codebook: Tensor) -> None:
        """Start token embeddings from (K, dim) codes, so that codes that look alike start alike."""
        centred = codebook.float() - codebook.float().mean(dim=0)
        mix = torch.randn(centred.shape[1], self.token_embedding.weight.shape[1], device=centred.device)
        embedding = centred / centred.std() @ mix / centred.shape[1] ** 0.5
        self.token_embedding.weight[: self.codes] = 0.5 * embedding + 0.1 * torch.randn_like(embedding)

    def forward(self, tokens: Tensor, latent_actions: Tensor) -> tuple[Tensor, list[KeyValues | None]]:
        """Features of whole videos.

        Args:
            tokens: (B, T, N) int64 in [0, K], K standing for a hidden token.
            latent_actions: (B, T) int64 in [0, A], the action that *led to* each frame, A for none.

        Returns:
            (T, B, N, D / fold) features for ``logits``, and each block's keys and values.
        """
        features, condition = self._embed(tokens, latent_actions)
        features, remembered = self.transformer(features, condition)
        return self._token_features(features), remembered

    def step(self, tokens: Tensor, latent_actions: Tensor, cache: FrameCache, first: int) -> Tensor:
        """The same for the last of F frames, of which the first is number ``first`` after those settled in ``cache``.

        Args:
            tokens: (B, F, N).
            latent_actions: (B, F).
            cache: Where the frames' keys and values are written, as drafts.
            first: 0 for the frame that follows the settled ones.

        Returns:
            (1, B, N, D / fold).
        """
        features, condition = self._embed(tokens, latent_actions)
        window = cache.window(first, tokens.shape[1], tokens.device)
        return self._token_features(self.transformer.step(features, cache.slots, window, condition))

    def empty_cache(self, batch: int) -> FrameCache:
        """A cache without frames, for one settled frame at a time and one draft ahead of it."""
        places = len(self.places) + (self.config.dynamics.action_conditioning == "token")
        return FrameCache(self.transformer, batch, places, 2, self.precision)

    def _embed(self, tokens: Tensor, latent_actions: Tensor) -> tuple[Tensor, Tensor | None]:
        """What goes into the transformer: features (T, B, places, D), and with ``film`` a condition."""
        features = self.token_embedding(tokens.transpose(0, 1))
        if self.side > 1:
            features = self.gather(fold(features, self.side, self.config.grid).to(self.precision))
        actions = self.action_embedding(latent_actions.T)[:, :, None]
        features, actions = (features + self.places).to(self.precision), actions.to(self.precision)
        conditioning = self.config.dynamics.action_conditioning
        if conditioning == "film":
            return features, actions
        if conditioning == "additive":
            return features + actions, None
        return torch.cat([features, actions], dim=2), None

    def _token_features(self, features: Tensor) -> Tensor:
        return unfold(self.spread(features[:, :, : len(self.places)]), self.side, self.config.grid)

    def logits(self, features: Tensor) -> Tensor:
        """(..., D / fold) -> (..., K), as precise as the features; a token's embedding is also its output direction."""
        weights, features = self.token_embedding.weight[: self.codes], self.head(features)
        if self.product.takes(features, self.token_embedding.weight):
            return self.product(features, weights, self.output_bias)
        return F.linear(features, weights.to(features.dtype), self.output_bias.to(features.dtype))

    def loss(self, tokens: Tensor, latent_actions: Tensor) -> LossOutput:
        """Masked-token cross-entropy for next-frame prediction (Genie, sec. 2.1).

        Frame 0 is never hidden. ``latent_actions[:, t]`` takes frame ``t`` to ``t + 1``.

        Args:
            tokens: (B, T, N) int64 in [0, K), from a frozen ``VideoTokenizer``.
            latent_actions: (B, T - 1) int64 in [0, A).

        Returns:
            ``loss`` (), mean nats per hidden token, and detached ``metrics``.

        Raises:
            ValueError: If the time axes disagree or hold one frame, or an id is out of range.
        """
        self._check(tokens, latent_actions)
        mask = self.draw_mask(tokens)
        visible = self._corrupt(tokens).masked_fill(mask, self.hidden_token)
        features, _ = self(visible, self.previous_actions(latent_actions))
        chosen = mask.transpose(0, 1).flatten().nonzero()[:, 0]
        spare = -len(chosen) % ROWS
        targets = F.pad(tokens.transpose(0, 1).flatten()[chosen], (0, spare), value=NO_TARGET)
        logits = self.logits(features.flatten(0, 2)[F.pad(chosen, (0, spare))]).float()
        loss = F.cross_entropy(logits, targets, ignore_index=NO_TARGET)
        accuracy = (logits.argmax(dim=-1) == targets).sum() / len(chosen)
        return LossOutput(loss, {"cross_entropy": loss.detach(), "accuracy": accuracy})

    def previous_actions(self, latent_actions: Tensor) -> Tensor:
        """(B, T - 1) -> (B, T): the action that led to each frame, none for frame 0."""
        return F.pad(latent_actions, (1, 0), value=self.no_action)

    def draw_mask(self, tokens: Tensor) -> Tensor:
        """(B, T, N) bool, True = hidden: a ratio from U(min, 1) per video or frame, never in frame 0."""
        part, (batch, frames, _) = self.config.dynamics, tokens.shape
        per_frame = part.mask_ratio_per == "frame"
        ratio = torch.rand(batch, frames if per_frame else 1, 1, device=tokens.device)
        ratio = part.min_mask_ratio + (1 - part.min_mask_ratio) * ratio
        if per_frame:
            ratio = ratio * (torch.rand_like(ratio) >= part.clean_frames)
        mask = torch.rand(tokens.shape, device=tokens.device) < ratio
        mask[:, 0] = False
        mask[:, -1, 0] |= ~mask.any()
        return mask

    def _corrupt(self, tokens: Tensor) -> Tensor:
        """Replace a share of tokens, drawn per video and growing over its frames, by random ones."""
        if self.config.dynamics.context_corruption == 0:
            return tokens
        batch, frames, _ = tokens.shape
        share = self.config.dynamics.context_corruption * torch.rand(batch, 1, 1, device=tokens.device)
        share = share * torch.linspace(0.5, 1, frames, device=tokens.device)[None, :, None]
        noise = torch.randint_like(tokens, self.codes)
        return torch.where(torch.rand(tokens.shape, device=tokens.device) < share, noise, tokens)

    def _check(self, tokens: Tensor, latent_actions: Tensor) -> None:
        if tokens.shape[1] < 2:
            raise ValueError(f"tokens must have at least 2 frames to hide one of them, got {tokens.shape[1]}")
        wanted = (tokens.shape[0], tokens.shape[1] - 1)
        if tuple(latent_actions.shape) != wanted:
            raise ValueError(f"latent_actions must be {wanted} for these tokens, got {tuple(latent_actions.shape)}")
        require_ids("tokens", tokens, self.codes)
        require_ids("latent_actions", latent_actions, self.no_action)
