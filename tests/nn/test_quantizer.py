"""Quantizers: nearest codes, codebook updates and restarts, products of codebooks, and FSQ."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.configs import QuantizerConfig
from genie_gym.nn.quantizer import (
    FiniteScalarQuantizer,
    ProductQuantizer,
    VectorQuantizer,
    build_quantizer,
    kmeans,
    latent_dim,
    perplexity,
    uneven_use,
)

LEVELS = [(4, 4, 4), (8,), (3, 5), (2, 2, 2), (2, 4), (8, 5, 5, 5)]


def vq(**fields: Any) -> VectorQuantizer:
    return VectorQuantizer(QuantizerConfig(**{"codes": 8, "dim": 4, **fields}))


def fsq(levels: tuple[int, ...]) -> FiniteScalarQuantizer:
    return FiniteScalarQuantizer(QuantizerConfig(kind="fsq", codes=math.prod(levels), levels=levels))


def blobs(clusters: int, dim: int = 4, each: int = 50, noise: float = 0.02) -> tuple[Tensor, Tensor]:
    """Return orthogonal unit centres and points around them, cluster by cluster."""
    centres = torch.linalg.qr(torch.randn(dim, dim))[0][:clusters]
    return centres, F.normalize(centres.repeat_interleave(each, 0) + noise * torch.randn(clusters * each, dim), dim=-1)


def test_tokens_are_the_nearest_codes_by_angle() -> None:
    quantizer = vq().eval()
    latents = torch.randn(3, 5, 4)
    quantized = quantizer(latents)
    angles = F.cosine_similarity(latents[..., None, :], quantizer.codebook, dim=-1)
    assert torch.equal(quantized.tokens, angles.argmax(dim=-1))
    assert torch.equal(quantizer(7 * latents).tokens, quantized.tokens)
    torch.testing.assert_close(quantized.codes, quantizer.lookup(quantized.tokens))


def test_a_codebook_does_not_change_in_eval_mode() -> None:
    quantizer = vq(restart_after=1)
    quantizer(torch.randn(100, 4))
    before = {name: buffer.clone() for name, buffer in quantizer.named_buffers()}
    quantizer.eval()
    quantizer(torch.randn(100, 4))
    assert all(torch.equal(before[name], buffer) for name, buffer in quantizer.named_buffers())
    quantizer.train()
    quantizer(torch.randn(100, 4))
    assert not torch.equal(before["codebook"], quantizer.codebook)


def test_an_untrained_codebook_stays_random_in_eval_mode() -> None:
    quantizer = vq().eval()
    before = quantizer.codebook.clone()
    quantizer(torch.randn(100, 4))
    assert not quantizer.is_initialised
    assert torch.equal(quantizer.codebook, before)


def test_the_first_training_batch_fits_the_codebook() -> None:
    centres, points = blobs(4)
    quantizer = vq(codes=32)
    quantized = quantizer(5 * points)
    assert quantizer.is_initialised
    assert (centres @ quantizer.codebook.T).max(dim=0).values.min() > 0.99
    assert perplexity(quantized.tokens, 32) > 16
    assert quantized.loss < 0.01


def test_start_after_delays_the_codebook() -> None:
    """Until then about half of the latents pass unquantized, with their gradient, and the rest are zeroed."""
    centres, points = blobs(4)
    quantizer = vq(codes=32, start_after=3)
    for _ in range(3):
        latents = points.clone().requires_grad_()
        quantized = quantizer(latents)
        assert not quantizer.is_initialised
        hidden = (quantized.codes == 0).all(dim=-1)
        assert 0.3 < hidden.float().mean() < 0.7
        torch.testing.assert_close(quantized.codes[~hidden], points[~hidden])
        quantized.codes.sum().backward()
        assert torch.equal(latents.grad.abs().sum(dim=-1) > 0, ~hidden)
        assert quantized.loss == 0
    assert not quantizer.eval()(points).codes.eq(0).all(dim=-1).any()
    quantizer.train()(points)
    assert quantizer.is_initialised
    assert (centres @ quantizer.codebook.T).max(dim=0).values.min() > 0.99


def test_a_product_of_codebooks_quantizes_each_part_by_itself() -> None:
    """Tokens and codes combine those of the parts."""
    quantizer = build_quantizer(QuantizerConfig(codes=8, dim=6, levels=(4, 2)))
    assert isinstance(quantizer, ProductQuantizer)
    quantizer.eval()
    latents = torch.randn(50, 6, requires_grad=True)
    quantized = quantizer(latents)
    one, other = (part(half) for part, half in zip(quantizer.parts, latents.chunk(2, dim=-1), strict=True))
    assert torch.equal(quantized.tokens, one.tokens + 4 * other.tokens)
    torch.testing.assert_close(quantized.codes, torch.cat([one.codes, other.codes], dim=-1))
    torch.testing.assert_close(quantizer.lookup(quantized.tokens), quantized.codes)
    assert len(quantizer.lookup(torch.arange(8)).unique(dim=0)) == 8
    assert latent_dim(quantizer.config) == 6
    quantizer.train()(latents)
    assert all(part.is_initialised for part in quantizer.parts)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"levels": (4, 3)}, "levels"),
        ({"levels": (8, 1)}, "levels"),
        ({"levels": (4, 2), "dim": 5}, "dim"),
        ({"start_after": -1}, "start"),
    ],
)
def test_codebooks_that_do_not_fit_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"QuantizerConfig.{named}"):
        QuantizerConfig(**{"codes": 8, "dim": 6, **fields})


def test_kmeans_finds_clusters() -> None:
    centres, points = blobs(3)
    found = kmeans(points, 24)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(24))
    assert (centres @ found.T).max(dim=1).values.min() > 0.99
    few = kmeans(points[:2], 8)
    assert few.shape == (8, 4)
    assert (few @ points[:2].T).max(dim=1).values.min() > 0.99


def test_more_rounds_of_kmeans_fit_better() -> None:
    points = F.normalize(torch.randn(500, 6), dim=-1)
    fits = []
    for rounds in (0, 1, 10):
        torch.manual_seed(3)
        fits.append((points @ kmeans(points, 20, rounds).T).max(dim=1).values.mean())
    assert fits[0] < fits[1] < fits[2]


def test_codes_follow_the_latents() -> None:
    quantizer = vq(codes=4, decay=0.5, restart_after=1000)
    centres, points = blobs(4)
    quantizer.set_codebook(centres)
    turn = torch.linalg.matrix_exp(0.3 * torch.tensor([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]]))
    before = (points @ turn @ quantizer.codebook.T).max(dim=1).values.mean()
    for _ in range(20):
        quantizer(points @ turn)
    after = (points @ turn @ quantizer.codebook.T).max(dim=1).values.mean()
    assert before < 0.97
    assert after > 0.99
    torch.testing.assert_close(quantizer.codebook.norm(dim=-1), torch.ones(4))


def test_the_gradient_passes_straight_through() -> None:
    """From codes to unit latents it is the identity, without its component along the latent."""
    latents = F.normalize(torch.randn(6, 4), dim=-1).requires_grad_()
    wanted = torch.randn(6, 4)
    quantized = vq().eval()(latents)
    (gradient,) = torch.autograd.grad((quantized.codes * wanted).sum(), latents)
    unit = latents.detach()
    torch.testing.assert_close(gradient, wanted - (wanted * unit).sum(dim=-1, keepdim=True) * unit)


def test_the_commitment_pulls_latents_to_their_codes() -> None:
    quantizer = vq().eval()
    latents = F.normalize(torch.randn(50, 4), dim=-1).requires_grad_()
    quantized = quantizer(latents)
    (gradient,) = torch.autograd.grad(quantized.loss, latents)
    moved = F.normalize(latents.detach() - gradient, dim=-1)
    chosen = quantizer.codebook[quantized.tokens]
    assert ((moved * chosen).sum(dim=-1) > (latents.detach() * chosen).sum(dim=-1)).all()
    assert quantized.loss > 0


def test_dead_codes_restart_from_the_batch() -> None:
    quantizer = vq(codes=8, dim=8, restart_after=3)
    quantizer.set_codebook(torch.eye(8))
    for step in range(3):
        latents = torch.zeros(20, 8)
        latents[:, 0] = 1.0
        latents += 0.05 * torch.randn(20, 8)
        dead_yet = (quantizer.codebook[1:] != torch.eye(8)[1:]).any()
        assert not dead_yet, f"restarted after {step} idle batches"
        quantizer(4 * latents)
    unit = F.normalize(latents, dim=-1)
    nearest = torch.cdist(quantizer.codebook[1:], unit).min(dim=1).values
    assert nearest.max() < 1e-6
    assert torch.cdist(quantizer.codebook[:1], unit).min() > 1e-4  # a code in use keeps following
    assert (quantizer.idle == 0).all()


def test_restarts_never_stop() -> None:
    quantizer = vq(codes=8, dim=8, restart_after=2)
    latents = F.normalize(torch.randn(64, 8), dim=-1)
    for _ in range(60):
        quantizer(latents)
    quantizer.set_codebook(torch.eye(8)[:1].expand(8, -1))  # eight equal codes, of which seven are unused
    for _ in range(20):
        tokens = quantizer(latents).tokens
    assert perplexity(tokens, 8) > 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_codebook_stays_float32_and_unrounded(dtype: torch.dtype) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), vq())
    before = module[1].codebook.clone()
    module.to(dtype)
    assert module[0].weight.dtype == dtype
    for name in ("codebook", "sums", "counts"):
        assert getattr(module[1], name).dtype == torch.float32
    assert torch.equal(module[1].codebook, before)
    quantized = module[1](torch.randn(20, 4, dtype=dtype))
    assert quantized.codes.dtype == dtype
    assert quantized.loss.dtype == torch.float32


@pytest.mark.parametrize("levels", LEVELS)
def test_fsq_tokens_and_codes_are_inverse(levels: tuple[int, ...]) -> None:
    """Every code is reached, and looking up a latent's token returns its code."""
    quantizer = fsq(levels)
    tokens = torch.arange(math.prod(levels))
    codes = quantizer.lookup(tokens)
    assert codes.unique(dim=0).shape == (len(tokens), len(levels))
    assert codes.abs().max() <= 1
    latents = 3 * torch.randn(200 * len(tokens), len(levels))
    quantized = quantizer(latents)
    assert torch.equal(quantized.tokens.unique(), tokens)
    torch.testing.assert_close(quantizer.lookup(quantized.tokens), quantized.codes, atol=1e-6, rtol=0)
    assert quantized.loss == 0


@pytest.mark.parametrize("levels", LEVELS)
def test_fsq_has_a_gradient_near_zero(levels: tuple[int, ...]) -> None:
    latents = (0.1 * torch.randn(10, len(levels))).requires_grad_()
    (gradient,) = torch.autograd.grad(fsq(levels)(latents).codes.sum(), latents)
    assert (gradient > 0.1).all()


def test_perplexity_by_hand() -> None:
    assert perplexity(torch.full((3, 7), 2), 8) == pytest.approx(1)
    assert perplexity(torch.arange(8).repeat(5), 8) == pytest.approx(8)
    assert perplexity(torch.tensor([0, 0, 5, 5]), 8) == pytest.approx(2)
    assert perplexity(torch.tensor([0, 0, 0, 1]), 2) == pytest.approx(
        math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    )


def test_the_config_selects_the_quantizer() -> None:
    assert isinstance(build_quantizer(QuantizerConfig(codes=8, dim=4)), VectorQuantizer)
    grid = QuantizerConfig(kind="fsq", codes=12, levels=(3, 4))
    assert isinstance(build_quantizer(grid), FiniteScalarQuantizer)
    assert (latent_dim(QuantizerConfig(codes=8, dim=4)), latent_dim(grid)) == (4, 2)


def test_uneven_use_by_hand() -> None:
    even = torch.eye(4).repeat(3, 1)
    assert uneven_use(even).item() == pytest.approx(0.0, abs=1e-5)
    one = torch.tensor([[1.0, -1.0, -1.0, -1.0]]).repeat(12, 1)
    assert uneven_use(one).item() == pytest.approx(math.log(4), abs=1e-3)


def test_diversity_pushes_crowded_latents_apart() -> None:
    config = QuantizerConfig(codes=4, dim=4, commitment_weight=0.0, diversity_weight=1.0)
    quantizer = VectorQuantizer(config).train()
    quantizer.set_codebook(torch.eye(4))
    latents = (torch.tensor([1.0, 0.6, 0.6, 0.6]) + 0.1 * torch.randn(64, 4)).requires_grad_()
    before = uneven_use(F.normalize(latents, dim=-1) @ torch.eye(4)).item()
    (gradient,) = torch.autograd.grad(quantizer(latents).loss, latents)
    moved = latents - 10 * gradient
    assert uneven_use(F.normalize(moved, dim=-1) @ torch.eye(4)).item() < before - 0.01
    assert VectorQuantizer(config).eval()(latents).loss.item() == 0.0
