"""The MaskGIT dynamics model: tokens and latent actions to the next frame's tokens (Genie, sec. 2.1, C.3).

Notable choices beside the paper's:
- The token embedding is also the output layer (tied weights), initialised from the tokenizer's codebook.
- With ``fold`` a square of tokens shares one position of the transformer, so 256 tokens cost about as much as 64.
- Latent actions enter as an additive embedding (the paper), as one more token, or by FiLM.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import WorldConfig
from genie_gym.models.base import LossOutput, Model, require_ids
from genie_gym.models.maskgit import draw
from genie_gym.nn.attention import KeyValues
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.layers import Embedding, Linear, zero_
from genie_gym.nn.patches import fold, unfold
from genie_gym.nn.ranks import count_ranks, count_rows, draw_rows, locate_rows, roll_rows, sum_over_ranks
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.real_actions import RealActionConfig

_NO_TARGET = -1
_PADDED_ROWS = 256
"""Hidden tokens are padded to a multiple of this: on a CPU each new matrix size leaves a kernel of about 1 MB in
oneDNN's caches, up to a thousand of them."""


class MaskGITDynamics(Model):
    """A decoder-only ST-transformer that predicts hidden tokens, frame by frame.

    Frame t + 1 is conditioned on latent action t, frame 0 on a learned "no action".
    """

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        part, width = config.dynamics, config.dynamics.transformer.width
        self.codes, self.hidden_token = config.tokenizer.quantizer.codes, config.tokenizer.quantizer.codes
        self.no_action = config.num_latent_actions
        self.side, inner = part.fold, width // part.fold
        self.token_embedding = Embedding(self.codes + 1, inner)
        self.fold_in = nn.Identity() if self.side == 1 else Linear(self.side * width, width)
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(config.tokens_per_frame // self.side**2, width))
        self.action_embedding = nn.Embedding(config.num_latent_actions + 1, width)
        condition = width if part.action_conditioning == "film" else None
        self.transformer = SpatioTemporalTransformer(part.transformer, config.context_length, condition)
        self.fold_out = nn.Identity() if self.side == 1 else Linear(width, self.side * width)
        self.head = zero_(Linear(inner, inner))
        self.output_bias = nn.Parameter(torch.zeros(self.codes))

    @torch.no_grad()
    def initialise(self, codebook: Tensor) -> None:
        """Start the token embedding from (K, dim) codes, so that codes that look alike start alike."""
        centred = codebook.float() - codebook.float().mean(dim=0)
        mix = torch.randn(centred.shape[1], self.token_embedding.weight.shape[1], device=centred.device)
        embedding = centred / centred.std() @ mix / centred.shape[1] ** 0.5
        self.token_embedding.weight[: self.codes] = 0.5 * embedding + 0.1 * torch.randn_like(embedding)

    def forward(self, tokens: Tensor, previous_actions: Tensor) -> tuple[Tensor, list[KeyValues | None]]:
        """Compute the features of whole videos.

        Args:
            tokens: (B, T, N) int64 in [0, K], where K stands for a hidden token.
            previous_actions: (B, T) int64 in [0, A]: the action that led to each frame, A for none.

        Returns:
            (T, B, N, D / fold) features for ``logits``, and the keys and values of each block.
        """
        features, condition = self.embed(tokens, previous_actions)
        features, keys_values = self.transformer(features, condition)
        return self._to_token_features(features), keys_values

    def step(self, tokens: Tensor, previous_actions: Tensor, cache: FrameCache, first: int) -> Tensor:
        """Compute the features of the last of F frames that follow the cached ones.

        Args:
            tokens: (B, F, N).
            previous_actions: (B, F).
            cache: Cache that receives the frames' keys and values, as drafts.
            first: Number of frames between the cache's settled ones and the first of the F.

        Returns:
            (1, B, N, D / fold).
        """
        features, condition = self.embed(tokens, previous_actions)
        window = cache.window(first, tokens.shape[1], tokens.device)
        return self._to_token_features(self.transformer.step(features, cache.blocks, window, condition))

    def empty_cache(self, batch: int) -> FrameCache:
        """Allocate a cache that takes two frames ahead of the settled ones: the present and the next one."""
        positions = len(self.position_embeddings) + (self.config.dynamics.action_conditioning == "token")
        return FrameCache(self.transformer, batch, positions, 2, self.precision)

    def embed(self, tokens: Tensor, previous_actions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed tokens (B, T, N) and previous actions (B, T) as the transformer's input.

        Returns:
            Features (T, B, positions, D), and with ``film`` a condition (T, B, 1, D).
        """
        features = self.token_embedding(tokens.transpose(0, 1))  # (B, T, N) -> (T, B, N, D / fold)
        if self.side > 1:
            # (T, B, N, D / fold) -> (T, B, N / fold^2, fold D) -> (T, B, N / fold^2, D)
            features = self.fold_in(fold(features, self.side, self.config.grid).to(self.precision))
        actions = self.action_embedding(previous_actions.T)[:, :, None]  # (B, T) -> (T, B, 1, D)
        features, actions = (features + self.position_embeddings).to(self.precision), actions.to(self.precision)
        return self.condition(features, actions)

    def condition(self, features: Tensor, actions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply actions (T, B, 1, D) to features (T, B, positions, D) by the ``action_conditioning``; see ``embed``."""
        conditioning = self.config.dynamics.action_conditioning
        if conditioning == "film":
            return features, actions
        if conditioning == "additive":
            return features + actions, None
        return torch.cat([features, actions], dim=2), None  # one more token

    def _to_token_features(self, features: Tensor) -> Tensor:
        """Unfold (T, B, positions, D) into a feature per token, (T, B, N, D / fold), without the action's token."""
        return unfold(self.fold_out(features[:, :, : len(self.position_embeddings)]), self.side, self.config.grid)

    def logits(self, features: Tensor) -> Tensor:
        """Compute logits (..., K) of features (..., D / fold), in the features' precision."""
        weights, features = self.token_embedding.weight[: self.codes], self.head(features)
        return F.linear(features, weights.to(features.dtype), self.output_bias.to(features.dtype))

    def loss(self, tokens: Tensor, latent_actions: Tensor) -> LossOutput:
        """Return the cross-entropy of hidden tokens, for next-frame prediction (Genie, sec. 2.1).

        Frame 0 is never hidden. ``latent_actions[:, t]`` takes frame ``t`` to ``t + 1``.

        Args:
            tokens: (B, T, N) int64 in [0, K), from a frozen ``VideoTokenizer``.
            latent_actions: (B, T - 1) int64 in [0, A), and A for unknown ones in a world of real actions.

        Returns:
            ``loss`` (), mean nats per hidden token, and detached ``metrics``.

        Raises:
            ValueError: If the time axes disagree or hold one frame, or an id is out of range.
        """
        self._check(tokens, latent_actions)
        previous_actions = self.previous_actions(latent_actions)
        whole_mask = self.draw_mask(tokens)
        mask = whole_mask[locate_rows(len(tokens))]
        context = self._predict_context(self._corrupt(self._paste(tokens)), previous_actions)
        features, _ = self(context.masked_fill(mask, self.hidden_token), previous_actions)
        # only hidden tokens get logits: (T, B, N, D / fold) -> (M, D / fold), M padded to a multiple of _PADDED_ROWS
        chosen = mask.transpose(0, 1).flatten().nonzero()[:, 0]
        spare = -len(chosen) % _PADDED_ROWS
        targets = F.pad(tokens.transpose(0, 1).flatten()[chosen], (0, spare), value=_NO_TARGET)
        logits = self.logits(features.flatten(0, 2)[F.pad(chosen, (0, spare))]).float()
        hits = (logits.argmax(dim=-1) == targets).sum()
        if len(whole_mask) == len(tokens):
            loss, accuracy = F.cross_entropy(logits, targets, ignore_index=_NO_TARGET), hits / len(chosen)
        else:  # other ranks and parts of the batch hide other numbers of tokens: divide by the number in all of it
            parts = len(whole_mask) // (len(tokens) * count_ranks())
            errors = F.cross_entropy(logits, targets, ignore_index=_NO_TARGET, reduction="sum")
            loss, accuracy = (sum_over_ranks(each) * parts / whole_mask.sum() for each in (errors, hits))
        return LossOutput(loss, {"cross_entropy": loss.detach(), "accuracy": accuracy})

    def previous_actions(self, latent_actions: Tensor) -> Tensor:
        """Shift (B, T - 1) latent actions to (B, T): the action that led to each frame, "no action" for frame 0."""
        return F.pad(latent_actions, (1, 0), value=self.no_action)

    def draw_mask(self, tokens: Tensor) -> Tensor:
        """Draw which tokens are hidden: (B, T, N) bool, True = hidden, with a ratio from U(min, 1) (Genie, sec. 2.1).

        The ratio is drawn once per video or once per frame; frame 0 is never hidden. If ``tokens`` are a share of a
        batch (``nn.ranks``), the mask is that of the whole batch.
        """
        part, (_, frames, positions) = self.config.dynamics, tokens.shape
        batch = count_rows(len(tokens))
        per_frame = part.mask_ratio_per == "frame"
        ratio = torch.rand(batch, frames if per_frame else 1, 1, device=tokens.device)
        ratio = part.min_mask_ratio + (1 - part.min_mask_ratio) * ratio
        if per_frame:
            ratio = ratio * (torch.rand_like(ratio) >= part.clean_frames)
        mask = torch.rand(batch, frames, positions, device=tokens.device) < ratio
        mask[:, 0] = False
        mask[:, -1, 0] |= ~mask.any()  # a loss needs at least one hidden token
        return mask

    def _paste(self, tokens: Tensor) -> Tensor:
        """Replace a rectangle of some videos' tokens, for some frames, by tokens from elsewhere in the next video.

        The model so learns to restore what has vanished, such as a player that has merged into the scenery.
        """
        share, (batch, frames, _), grid = self.config.dynamics.pasted_context, tokens.shape, self.config.grid
        if share == 0:
            return tokens
        device = tokens.device
        rand = partial(torch.rand, device=device)
        is_pasted = draw_rows(rand, (batch,)) < share
        for axis, size in zip((1, 2, 3), (frames, *grid), strict=True):
            length = draw_rows(partial(torch.randint, 1, max(2, size // 2) + 1, device=device), (batch, 1))
            first = (draw_rows(rand, (batch, 1)) * (size - length + 1)).long()
            position = torch.arange(size, device=device)
            inside = (position >= first) & (position < first + length)  # (B, size)
            is_pasted = is_pasted[..., None] & inside.view(batch, *[1] * (axis - 1), size)
        offsets = [int(torch.randint(size, ())) for size in grid]
        other = roll_rows(tokens).unflatten(2, grid).roll(offsets, dims=(2, 3)).flatten(2)
        return torch.where(is_pasted.flatten(1).view_as(tokens), other, tokens)

    @torch.no_grad()
    def _predict_context(self, tokens: Tensor, previous_actions: Tensor) -> Tensor:
        """Replace half of the frames after the first, in the first videos, by samples of the model's own predictions.

        All of them are drawn in one MaskGIT step, and a predicted frame may follow another: past frames then have the
        model's own faults, as in play.
        """
        all_rows = round(self.config.dynamics.own_context * count_rows(len(tokens)))
        if all_rows == 0:
            return tokens
        own = locate_rows(len(tokens))
        first, rows = min(own.start, all_rows), min(max(all_rows - own.start, 0), len(tokens))
        is_hidden = torch.rand(all_rows, tokens.shape[1], 1, device=tokens.device) < 0.5
        is_hidden[:, 0] = False
        is_hidden = is_hidden.expand(-1, -1, tokens.shape[2])
        uniforms = torch.rand(int(is_hidden.sum()), device=tokens.device)[int(is_hidden[:first].sum()) :]
        # A rank without such rows takes part with one, since sharded weights are gathered by all ranks together.
        shown = tokens[: max(rows, 1)]
        hidden = torch.zeros_like(shown, dtype=torch.bool)
        hidden[:rows] = is_hidden[first : first + rows]
        features, _ = self(shown.masked_fill(hidden, self.hidden_token), previous_actions[: len(shown)])
        logits = self.logits(features.transpose(0, 1)[hidden])  # (T, B, N, D / fold) -> (M, D / fold) -> (M, K)
        context = tokens.clone()
        temperature = self.config.sampling.temperature
        context[: len(shown)][hidden] = draw(logits, temperature, uniforms[: len(logits)])[0]
        return context

    def _corrupt(self, tokens: Tensor) -> Tensor:
        """Replace a share of the tokens, drawn per video and growing over its frames, by random ones."""
        if self.config.dynamics.context_corruption == 0:
            return tokens
        batch, frames, _ = tokens.shape
        rand = partial(torch.rand, device=tokens.device)
        share = self.config.dynamics.context_corruption * draw_rows(rand, (batch, 1, 1))
        share = share * torch.linspace(0.5, 1, frames, device=tokens.device)[None, :, None]
        noise = draw_rows(partial(torch.randint, self.codes, device=tokens.device), tokens.shape)
        return torch.where(draw_rows(rand, tokens.shape) < share, noise, tokens)

    def _check(self, tokens: Tensor, latent_actions: Tensor) -> None:
        if tokens.shape[1] < 2:
            raise ValueError(f"tokens must have at least 2 frames to hide one of them, got {tokens.shape[1]}")
        wanted = (tokens.shape[0], tokens.shape[1] - 1)
        if tuple(latent_actions.shape) != wanted:
            raise ValueError(f"latent_actions must be {wanted} for these tokens, got {tuple(latent_actions.shape)}")
        require_ids("tokens", tokens, self.codes)
        knows_all = not isinstance(self.config.latent_action_model, RealActionConfig)
        require_ids("latent_actions", latent_actions, self.no_action + (not knows_all))
