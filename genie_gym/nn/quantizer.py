"""Discrete bottlenecks: a vector quantizer with cosine codes, a product of several, and finite scalar quantization.

Distances and codebook statistics are float32 whatever the precision around them. In eval mode codebooks never change.
Ranks that share a batch (``nn.ranks``) have one codebook, which learns from the latents of all of them.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import QuantizerConfig
from genie_gym.nn import ranks

_HIDDEN_SHARE = 0.5
"""Share of latents that are zeroed before the codebook is fitted."""


class Quantized(NamedTuple):
    """A quantizer's output."""

    codes: Tensor
    """(..., dim) codes with a straight-through gradient to the latents."""
    tokens: Tensor
    """(...) int64 indices of the codes."""
    loss: Tensor
    """() loss of the quantizer alone."""


def kmeans(points: Tensor, clusters: int, rounds: int = 10) -> Tensor:
    """Run spherical k-means: (M, D) points -> (clusters, D) unit centres; empty clusters restart at random points."""
    points = F.normalize(points.float(), dim=-1)
    centres = points[torch.randint(len(points), (clusters,), device=points.device)]
    if len(points) >= clusters:
        centres = points[torch.randperm(len(points), device=points.device)[:clusters]]
    for _ in range(rounds):
        nearest = (points @ centres.T).argmax(dim=-1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=clusters)
        spare = points[torch.randint(len(points), (clusters,), device=points.device)]
        centres = F.normalize(torch.where(counts[:, None] > 0, sums, spare), dim=-1)
    return centres


class VectorQuantizer(nn.Module):
    """A codebook with cosine distances; each code is a moving average of the latents assigned to it.

    The first training batch after ``start_after`` (or ``initialise``) fits the codebook by k-means over its latents.
    Until then latents pass unquantized and half of them are zeroed, so that the decoder learns what it can predict
    without them, and they carry the rest; rare events such as the start of a jump then form a cluster of their own. A
    code that ``restart_after`` training batches did not use restarts from a latent of the batch. Restarts never stop:
    ending them abruptly is a known way to lose codes later.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = nn.Buffer(F.normalize(torch.randn(config.codes, config.dim), dim=-1))
        self.sums = nn.Buffer(torch.zeros(config.codes, config.dim))
        self.counts = nn.Buffer(torch.zeros(config.codes))
        self.idle = nn.Buffer(torch.zeros(config.codes, dtype=torch.int64))
        self.is_initialised = nn.Buffer(torch.tensor(False))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "VectorQuantizer":
        """Move with the module, but stay float32."""
        stored = {name: getattr(self, name) for name in ("codebook", "sums", "counts")}
        super()._apply(fn, recurse)
        for name, tensor in stored.items():
            moved = getattr(self, name)
            if moved.dtype != torch.float32:
                setattr(self, name, tensor.to(moved.device))  # not moved.float(): that would be rounded
        return self

    def forward(self, latents: Tensor, rows: int = 0) -> Quantized:
        """Return the code nearest to each latent (..., dim) by angle; dimension ``rows`` counts the batch's rows.

        The loss is the commitment loss (the mean squared distance of unit latents to their codes, in units of the
        latents' variance) and, in training, the diversity loss, each times its weight. Codes have the latents' dtype.
        """
        unit = F.normalize(latents.float(), dim=-1)
        if self.training and not self.is_initialised:
            if self.idle[0] < self.config.start_after:
                return self._pass_unquantized(unit, latents.dtype, rows)
            self.initialise(ranks.gather_rows(unit.detach(), rows))
        tokens = self.nearest(unit)
        chosen = self.codebook[tokens]
        distance = ranks.mean_over_ranks((unit - chosen).square().sum(dim=-1).mean())
        spread = 1 - ranks.mean_over_ranks(unit.detach().flatten(0, -2).mean(dim=0)).square().sum()
        loss = self.config.commitment_weight * distance / spread.clamp(min=1e-3)
        if self.training and self.config.diversity_weight > 0:
            loss = loss + self.config.diversity_weight * uneven_use(unit @ self.codebook.T.clone())
        if self.training:
            self._update_codebook(unit.detach(), tokens.flatten(), rows)
        codes = unit + (chosen - unit).detach()
        return Quantized(codes.to(latents.dtype), tokens, loss)

    def _pass_unquantized(self, unit: Tensor, dtype: torch.dtype, rows: int) -> Quantized:
        """Return unit latents, a random half of them zeroed, with tokens of the still random codebook."""
        self.idle.add_(1)  # counts the batches before the codebook is fitted
        is_hidden = ranks.draw_rows(partial(torch.rand, device=unit.device), unit.shape[:-1], rows) < _HIDDEN_SHARE
        codes = torch.where(is_hidden[..., None], 0.0, unit).to(dtype)
        return Quantized(codes, self.nearest(unit.detach()), unit.new_zeros(()))

    def nearest(self, latents: Tensor) -> Tensor:
        """Return the tokens of unit latents: (..., dim) -> (...) int64."""
        return (latents.float() @ self.codebook.T).argmax(dim=-1)

    def lookup(self, tokens: Tensor) -> Tensor:
        """Return the codes of tokens: (...) int64 -> (..., dim)."""
        return self.codebook[tokens]

    @torch.no_grad()
    def initialise(self, latents: Tensor) -> None:
        """Fit the codebook by k-means over (..., dim) latents."""
        self.set_codebook(ranks.agree_on(kmeans(latents.flatten(0, -2), self.config.codes)))

    @torch.no_grad()
    def set_codebook(self, centres: Tensor) -> None:
        """Set the codebook to (codes, dim) directions, and reset its statistics."""
        self.codebook.copy_(F.normalize(centres.float(), dim=-1))
        self.sums.copy_(self.codebook)
        self.counts.fill_(1.0)
        self.idle.zero_()
        self.is_initialised.fill_(True)

    @torch.no_grad()
    def _update_codebook(self, latents: Tensor, tokens: Tensor, rows: int) -> None:
        """Move codes towards the latents (..., dim) of their tokens (M,); restart codes that have long been unused."""
        decay, points = self.config.decay, latents.flatten(0, -2)
        counts = ranks.sum_over_ranks(torch.bincount(tokens, minlength=self.config.codes))
        self.counts.lerp_(counts.float(), 1 - decay)
        sums = torch.zeros_like(self.sums).index_add_(0, tokens, points)
        self.sums.lerp_(ranks.sum_over_ranks(sums), 1 - decay)
        self.idle.copy_(torch.where(counts > 0, 0, self.idle + 1))
        self.codebook.copy_(F.normalize(self.sums, dim=-1))
        dead = self.idle >= self.config.restart_after
        chosen = torch.randint(len(points) * ranks.count_ranks(), (self.config.codes,), device=points.device)
        fresh = ranks.pick_points(latents, chosen, rows)
        typical = self.counts.mean()
        self.codebook.copy_(torch.where(dead[:, None], fresh, self.codebook))
        self.sums.copy_(torch.where(dead[:, None], fresh * typical, self.sums))
        self.counts.copy_(torch.where(dead, typical, self.counts))
        self.idle.masked_fill_(dead, 0)


class ProductQuantizer(nn.Module):
    """Several codebooks, of ``levels`` codes each, over equal parts of a latent (Jegou, Douze and Schmid 2011).

    A token combines one code of each codebook; the first codebook's code varies fastest.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        part = config.dim // len(config.levels)
        self.parts = nn.ModuleList(
            VectorQuantizer(replace(config, codes=codes, dim=part, levels=())) for codes in config.levels
        )

    def forward(self, latents: Tensor, rows: int = 0) -> Quantized:
        """Return the nearest code of each part of each latent (..., dim); the loss is the mean over codebooks."""
        split = latents.chunk(len(self.parts), dim=-1)
        parts: list[Quantized] = [part(each, rows) for part, each in zip(self.parts, split, strict=True)]
        tokens = torch.stack([step * part.tokens for part, step in zip(parts, self._steps(), strict=True)]).sum(dim=0)
        loss = torch.stack([part.loss for part in parts]).mean()
        return Quantized(torch.cat([part.codes for part in parts], dim=-1), tokens, loss)

    def lookup(self, tokens: Tensor) -> Tensor:
        """Return the codes of tokens: (...) int64 -> (..., dim)."""
        parts = cast(Iterable[VectorQuantizer], self.parts)
        sizes = zip(parts, self._steps(), self.config.levels, strict=True)
        return torch.cat([part.lookup(tokens // step % codes) for part, step, codes in sizes], dim=-1)

    def _steps(self) -> list[int]:
        """Return the stride of each codebook's code within a token."""
        return [math.prod(self.config.levels[:number]) for number in range(len(self.parts))]


class FiniteScalarQuantizer(nn.Module):
    """FSQ (arXiv 2309.15505): each feature is bounded and rounded to one of a few levels; nothing is learned."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.levels = nn.Buffer(torch.tensor(config.levels), persistent=False)
        self.steps = nn.Buffer(torch.tensor((1, *config.levels[:-1])).cumprod(0), persistent=False)

    def forward(self, latents: Tensor, rows: int = 0) -> Quantized:
        """Return the grid point nearest to each latent (..., len(levels)); the loss is 0."""
        bounded = self._bound(latents.float())
        digits = bounded.round()
        tokens = ((digits + self.levels // 2).long() * self.steps).sum(dim=-1)
        codes = (bounded + (digits - bounded).detach()) / (self.levels // 2).clamp(min=1)
        return Quantized(codes.to(latents.dtype), tokens, latents.new_zeros((), dtype=torch.float32))

    def lookup(self, tokens: Tensor) -> Tensor:
        """Return the codes of tokens, in about [-1, 1]: (...) int64 -> (..., len(levels))."""
        digits = (tokens[..., None] // self.steps) % self.levels
        return (digits - self.levels // 2) / (self.levels // 2).clamp(min=1)

    def _bound(self, latents: Tensor) -> Tensor:
        """Squash latents to an interval that rounds to exactly ``levels`` integers, from -(levels // 2) upward."""
        half = (self.levels - 1) * (1 - 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.where(self.levels > 2, offset / half, 0.0).atanh()  # two levels are symmetric already
        return (latents + shift).tanh() * half - offset


Quantizer = VectorQuantizer | ProductQuantizer | FiniteScalarQuantizer


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """Return the quantizer that the config describes."""
    if config.kind == "fsq":
        return FiniteScalarQuantizer(config)
    return ProductQuantizer(config) if config.levels else VectorQuantizer(config)


def latent_dim(config: QuantizerConfig) -> int:
    """Return the number of features of a latent, which is also that of a code."""
    return config.dim if config.kind == "vq" else len(config.levels)


def uneven_use(cosines: Tensor, temperature: float = 0.1) -> Tensor:
    """Return ln K minus the entropy of a batch's mean soft assignment: 0 at even use, ln K if one code is used.

    Args:
        cosines: (..., K) similarities of latents and codes; the gradient goes to the latents.
        temperature: Temperature of the soft assignment.
    """
    shares = ranks.mean_over_ranks((cosines / temperature).softmax(dim=-1).flatten(0, -2).mean(dim=0))
    return math.log(cosines.shape[-1]) + (shares * shares.clamp(min=1e-12).log()).sum()


def code_shares(tokens: Tensor, codes: int) -> Tensor:
    """Return the share (codes,) of each code among the tokens of all ranks."""
    return ranks.mean_over_ranks(torch.bincount(tokens.flatten(), minlength=codes).float() / tokens.numel())


def perplexity(tokens: Tensor, codes: int) -> Tensor:
    """Return the exponential of the entropy of code use: 1 if one code is used, ``codes`` if all are used evenly."""
    shares = code_shares(tokens, codes)
    return torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum())
