"""Each kernel equals its function in plain PyTorch."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genie_gym.models.maskgit import draw
from genie_gym.nn.attention import SpatialAttention, TemporalAttention
from genie_gym.serving import kernels
from genie_gym.serving.libraries import multiply, tiles_are_right, transformer_library
from genie_gym.serving.packing import pack

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
HEADS = pytest.mark.parametrize(("head_dim", "value_dim"), [(8, 8), (32, 32), (24, 40), (64, 16)])


@TYPES
@pytest.mark.parametrize("width", [16, 48, 256])
def test_sums_and_norms(dtype: torch.dtype, width: int, assert_near: Any) -> None:
    features, addend = (torch.randn(3, 5, width).to(dtype) for _ in range(2))
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    sums, normed = kernels.add_norm(features, addend, norm)
    assert torch.equal(sums, features + addend)
    assert_near(normed, F.layer_norm((features + addend).float(), (width,), norm.weight, norm.bias), dtype)
    same, alone = kernels.add_norm(features, None, norm)
    assert torch.equal(same, features)
    assert_near(alone, F.layer_norm(features.float(), (width,), norm.weight, norm.bias), dtype)


@TYPES
def test_gelu_over_its_whole_range(dtype: torch.dtype, assert_near: Any) -> None:
    most = torch.finfo(dtype).max
    features = torch.cat(
        [torch.linspace(-12, 12, 1000), torch.tensor([-most, -1e4, -90.0, 0.0, 90.0, 1e4, most, 1e-30])]
    )
    wanted = F.gelu(features.to(dtype).double(), approximate="tanh")
    assert_near(kernels.gelu_(features.to(dtype).clone()), wanted, dtype)


@TYPES
@pytest.mark.parametrize("codes", [16, 64, 1024])
def test_draws_invert_the_distribution_function(dtype: torch.dtype, codes: int) -> None:
    logits, uniforms = (4 * torch.randn(6, 7, codes)).to(dtype), torch.rand(6, 7)
    uniforms[0, 0], uniforms[0, 1] = 0, 1 - 2**-24
    tokens, log_probabilities = kernels.draw_tokens(logits, 0.7, uniforms)
    probabilities = torch.softmax(logits.double() / 0.7, dim=-1)
    after = probabilities.cumsum(dim=-1).gather(-1, tokens[..., None])[..., 0]
    chosen = probabilities.gather(-1, tokens[..., None])[..., 0]
    assert (after - chosen <= uniforms + 1e-5).all()
    assert (uniforms <= after + 1e-5).all()
    torch.testing.assert_close(log_probabilities.double(), chosen.log(), atol=1e-4, rtol=0)
    twin, _ = draw(logits, 0.7, uniforms)
    assert (twin == tokens).float().mean() > 0.95  # a number on the border between two tokens may draw either


PRODUCTS = pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 32, 16), (7, 64, 48), (64, 256, 768), (75, 96, 100), (130, 80, 256), (9, 512, 40), (600, 32, 100)],
)


@TYPES
@PRODUCTS
def test_products(dtype: torch.dtype, rows: int, inputs: int, outputs: int, assert_near: Any) -> None:
    """Sizes that fill whole blocks of the kernels, and sizes that leave a rest in any dimension."""
    features, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs) / inputs**0.5, torch.randn(outputs)
    features, weight = features.to(dtype), weight.to(dtype)
    out = multiply(features, weight, bias, transformer_library(32, 32))
    assert_near(out, F.linear(features.float(), weight.float(), bias.to(dtype).float()), dtype)


@PRODUCTS
def test_products_by_tiles(emulated: Any, rows: int, inputs: int, outputs: int) -> None:
    """Products of whole numbers are exact, and nothing behind the last row is written."""
    features, weight = (torch.randint(-2, 3, (size, inputs)).bfloat16() for size in (rows, outputs))
    bias = torch.randint(-9, 9, (outputs,)).float()
    wanted = (features.float() @ weight.float().T + bias).bfloat16()
    assert torch.equal(multiply(features, weight, bias, emulated), wanted)


def test_wrong_tiles_are_noticed(emulated: Any) -> None:
    assert emulated.genie_has_tiles()
    assert tiles_are_right(emulated)

    class Broken:
        genie_lanes, genie_panel = emulated.genie_lanes, emulated.genie_panel
        genie_has_tiles = emulated.genie_has_tiles

        @staticmethod
        def genie_multiply(*arguments: Any) -> None:
            """Write nothing."""

    assert not tiles_are_right(Broken())


@TYPES
@HEADS
@pytest.mark.parametrize("positions", [1, 5, 64, 100])
def test_attention_in_space(
    dtype: torch.dtype, head_dim: int, value_dim: int, positions: int, shake: Any, assert_near: Any
) -> None:
    attention = pack(shake(SpatialAttention(32, 2, head_dim, value_dim)))
    projected = torch.randn(2, 3, positions, 2 * (2 * head_dim + value_dim)).to(dtype)
    with torch.enable_grad():
        wanted = attention.attend(projected.float())  # with gradients PyTorch computes
    assert_near(attention.attend(projected), wanted, dtype)


@TYPES
@HEADS
@pytest.mark.parametrize("cache_frames", [1, 16, 17, 40])
@pytest.mark.parametrize("is_common", [True, False])
def test_attention_in_time(
    dtype: torch.dtype, head_dim: int, value_dim: int, cache_frames: int, is_common: bool, shake: Any, assert_near: Any
) -> None:
    """Compare mixed values and the cache afterwards; frames that are not visible may hold any numbers."""
    attention, frames, batch, positions = (
        pack(shake(TemporalAttention(32, 2, head_dim, value_dim, 8))),
        min(2, cache_frames),
        3,
        5,
    )
    projected = torch.randn(frames, batch, positions, 2 * (2 * head_dim + value_dim)).to(dtype)
    own = attention.empty_cache(batch, positions, cache_frames, dtype)
    for part in own:
        part.copy_(torch.randn(part.shape))
    bias = torch.randn(1 if is_common else batch, 2, frames, cache_frames).to(dtype)
    if cache_frames > 2:
        bias[..., 2] = -math.inf
        own.values[..., 2, :] = torch.finfo(dtype).max
    first = [0] * batch if is_common else [0, cache_frames // 2, cache_frames - 1]
    indices = [torch.tensor([(row + frame) % cache_frames for row in first]) for frame in range(frames)]
    copies = type(own)(*(part.float() for part in own))
    with torch.enable_grad():
        wanted = attention.write_and_attend(projected.float(), copies, indices, bias.float(), 1)
    mixed = attention.write_and_attend(projected, own, indices, bias, 1)
    assert_near(mixed, wanted, dtype)
    for part, copied in zip(own, copies, strict=True):
        seen = [frame for frame in range(cache_frames) if frame != 2]
        assert_near(part[:, :, :, seen], copied[:, :, :, seen], dtype)
