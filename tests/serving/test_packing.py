"""Packed twins compute what their plain modules do, and leave gradients and unsupported inputs to PyTorch."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import TransformerConfig
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.layers import GridConvolution, Linear
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.serving import kernels, step_kernel
from genie_gym.serving.packing import pack, unpack
from genie_gym.serving.step_kernel import StepKernel

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@TYPES
def test_packed_layers_equal_plain_ones(dtype: torch.dtype, assert_near: Any) -> None:
    """With fresh weights, with weights changed in place, and as a copy."""
    layers = nn.ModuleList([Linear(32, 40), Linear(32, 40, bias=False), GridConvolution(32, 40, (3, 5))])
    pack(layers.requires_grad_(False))
    features = torch.randn(2, 3, 15, 32).to(dtype)
    for layer in layers:
        for change in range(3):
            if change == 1:
                layer.weight.mul_(-2)
            own = copy.deepcopy(layer) if change == 2 else layer
            plain = unpack(copy.deepcopy(own))
            assert_near(own(features) / 4, plain(features) / 4, dtype)


def test_weights_changed_by_a_fused_optimizer_are_used(assert_near: Any) -> None:
    """Fused optimizers change a parameter without changing its version."""
    layer, features = pack(Linear(32, 48)), torch.randn(5, 32)
    before = layer(features)
    layer.weight.grad = torch.randn_like(layer.weight)
    torch.optim.AdamW([layer.weight], lr=0.1, fused=True).step()
    after = layer(features)
    assert (after - before).abs().max() > 0.1
    assert_near(after, F.linear(features, layer.weight, layer.bias), torch.float32)
    assert_near(layer.requires_grad_(False)(features), after, torch.float32)


@TYPES
@pytest.mark.parametrize("layer", [Linear(32, 40), GridConvolution(32, 40, (3, 5))], ids=["linear", "convolution"])
def test_a_row_of_a_layer_does_not_depend_on_other_rows(dtype: torch.dtype, layer: nn.Module) -> None:
    pack(layer.requires_grad_(False))
    features = torch.randn(1, 9, 15, 32).to(dtype)
    together = layer(features)
    for row in range(9):
        assert torch.equal(layer(features[:, row : row + 1]), together[:, row : row + 1])


@pytest.fixture
def stack(shake: Callable[..., nn.Module]) -> SpatioTemporalTransformer:
    return build_stack(shake)


@pytest.fixture
def steered_stack(shake: Callable[..., nn.Module]) -> SpatioTemporalTransformer:
    """A stack with FiLM."""
    return build_stack(shake, condition_width=4)


def build_stack(shake: Callable[..., nn.Module], condition_width: int | None = None) -> SpatioTemporalTransformer:
    config = TransformerConfig(layers=3, width=48, heads=2, head_dim=24, feed_forward_width=80)
    transformer = SpatioTemporalTransformer(config, 8, condition_width)
    assert isinstance(shake(transformer, size=0.3), SpatioTemporalTransformer)
    return pack(transformer.eval().requires_grad_(False))


def step_twice(stack: SpatioTemporalTransformer, features: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return the last of T + 2 frames twice: after a step of the last two at once, and of the last one alone."""
    batch, positions = features.shape[1:3]
    cache = FrameCache(stack, batch, positions, drafts=2, dtype=features.dtype)
    rows = (slice(-2), slice(-2, None), slice(-1, None))
    before, two, one = (None if condition is None else condition[each] for each in rows)
    cache.begin(range(batch), len(features) - 2, stack(features[:-2], before)[1])
    both = stack.step(features[-2:], cache.blocks, cache.window(0, 2, features.device), two)
    again = stack.step(features[-1:], cache.blocks, cache.window(1, 1, features.device), one)
    return torch.cat([both, again])


@TYPES
@pytest.mark.parametrize("batch", [1, 3, 40])
@pytest.mark.parametrize("positions", [7, 64])
def test_a_packed_step_equals_the_plain_one(
    stack: SpatioTemporalTransformer,
    dtype: torch.dtype,
    batch: int,
    positions: int,
    tolerances: dict[torch.dtype, float],
) -> None:
    features = torch.randn(6, batch, positions, 48)
    assert StepKernel.takes(stack, features)
    played = step_twice(stack, features.to(dtype))
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    error = (played.float() - wanted).abs()
    assert error.max() < 1e-4 if dtype == torch.float32 else error.mean() < tolerances[dtype] / 2


@TYPES
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_a_packed_step_with_film_equals_the_plain_one(
    steered_stack: SpatioTemporalTransformer, dtype: torch.dtype, batch: int, tolerances: dict[torch.dtype, float]
) -> None:
    """Each frame and row has its own condition; chunks of rows and threads do not mix them up."""
    features, condition = torch.randn(6, batch, 64, 48), torch.randn(6, batch, 1, 4)
    assert StepKernel.takes(steered_stack, features)
    played = step_twice(steered_stack, features.to(dtype), condition.to(dtype))
    with torch.enable_grad():
        wanted = step_twice(steered_stack, features, condition)
    error = (played.float() - wanted).abs()
    assert error.max() < 1e-4 if dtype == torch.float32 else error.mean() < tolerances[dtype] / 2
    if batch > 1:
        other = step_twice(steered_stack, features.to(dtype), condition.roll(1, dims=1).to(dtype))
        assert (other - played).abs().amax(dim=(0, 2, 3)).min() > 10 * tolerances[dtype]


@TYPES
def test_odd_sizes_are_left_to_pytorch(
    dtype: torch.dtype, shake: Callable[..., nn.Module], tolerances: dict[torch.dtype, float]
) -> None:
    config = TransformerConfig(layers=2, width=48, heads=3, head_dim=8, value_dim=5, feed_forward_width=33)
    odd = pack(
        cast(SpatioTemporalTransformer, shake(SpatioTemporalTransformer(config, 8), size=0.3)).requires_grad_(False)
    )
    features = torch.randn(6, 2, 7, 48)
    assert not StepKernel.takes(odd, features.to(dtype))
    error = (step_twice(odd, features.to(dtype)).float() - step_twice(odd, features)).abs()
    assert error.mean() < tolerances[dtype] / 2


@TYPES
def test_a_step_depends_neither_on_threads_nor_on_other_rows(
    stack: SpatioTemporalTransformer, dtype: torch.dtype
) -> None:
    features = torch.randn(6, 40, 11, 48).to(dtype)
    together = step_twice(stack, features)
    torch.set_num_threads(3)
    try:
        assert torch.equal(step_twice(stack, features), together)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(step_twice(stack, features[:, 17:18]), together[:, 17:18])


def test_a_changed_distance_bias_is_used(stack: SpatioTemporalTransformer) -> None:
    """Biases of windows are kept only while the weights stay the same."""
    features = torch.randn(6, 2, 7, 48)
    before = step_twice(stack, features)
    assert stack.blocks[0].causal.distance_bias is not None
    stack.blocks[0].causal.distance_bias.add_(torch.randn_like(stack.blocks[0].causal.distance_bias))
    after = step_twice(stack, features)
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    torch.testing.assert_close(after, wanted, atol=1e-4, rtol=0)
    assert (after - before).abs().max() > 1e-2


def test_changed_weights_are_packed_again(stack: SpatioTemporalTransformer) -> None:
    """Weights changed in place, by loading or by a change of precision take effect at the next step."""
    features = torch.randn(6, 2, 7, 48)
    before = step_twice(stack, features)
    stack.blocks[1].feed_forward.expand.weight.mul_(3)
    after = step_twice(stack, features)
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    torch.testing.assert_close(after, wanted, atol=1e-4, rtol=0)
    assert (after - before).abs().max() > 1e-2
    stack.load_state_dict({name: weight / 2 for name, weight in stack.state_dict().items()})
    with torch.enable_grad():
        wanted = step_twice(stack, features)
    torch.testing.assert_close(step_twice(stack, features), wanted, atol=1e-4, rtol=0)
    stack.to(torch.bfloat16)
    low = step_twice(stack, features.bfloat16())
    assert low.dtype == torch.bfloat16
    assert (low.float() - wanted).abs().mean() < 0.02


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda stack: pickle.loads(pickle.dumps(stack))])
def test_copies_pack_their_own_weights(stack: SpatioTemporalTransformer, clone: Callable[[Any], Any]) -> None:
    features = torch.randn(6, 2, 7, 48)
    before = step_twice(stack, features)
    other = clone(stack)
    for weight in other.parameters():
        weight.zero_()
    assert torch.equal(step_twice(stack, features), before)
    assert step_twice(other, features).abs().max() == 0


def test_nan_is_kept(stack: SpatioTemporalTransformer) -> None:
    features = torch.randn(6, 2, 7, 48)
    features[-1, 0, 3, 5] = math.nan
    played = step_twice(stack, features)
    assert played[:, 0].isnan().any()
    assert not played[:, 1].isnan().any()
    assert kernels.gelu_(torch.full((16,), math.nan)).isnan().all()


def test_a_step_by_tiles_equals_one_without(
    stack: SpatioTemporalTransformer, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = torch.randn(6, 5, 11, 48).bfloat16()
    plain = step_twice(stack, features)
    for module in (kernels, step_kernel):
        monkeypatch.setattr(module, "transformer_library", lambda *dims: emulated)
    assert (step_twice(copy.deepcopy(stack), features).float() - plain.float()).abs().mean() < 0.01


def test_unsupported_inputs_and_gradients_are_left_to_pytorch(stack: SpatioTemporalTransformer) -> None:
    features = torch.randn(6, 2, 7, 48)
    assert kernels.are_usable(features)
    assert not kernels.are_usable(features.double())
    assert not kernels.are_usable(features[..., :40])
    assert not kernels.are_usable(features.to("meta"))
    with torch.enable_grad():
        assert not kernels.are_usable(features)
        assert stack(features.requires_grad_())[0].requires_grad


def test_weights_are_packed_for_one_type(stack: SpatioTemporalTransformer) -> None:
    packed = StepKernel(stack, torch.float32)
    assert packed.is_current(torch.float32)
    assert not packed.is_current(torch.bfloat16)
