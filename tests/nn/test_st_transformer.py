"""Attention in space and time: which tokens depend on which, and cached steps that equal full passes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genie_gym.configs import TransformerConfig
from genie_gym.nn.attention import scaled_dot_products
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.st_transformer import SpatioTemporalTransformer

KINDS = ["st", "spatial", "full"]
FRAMES, BATCH, POSITIONS, WIDTH, CONTEXT = 6, 2, 5, 16, 8


@pytest.fixture
def build(shake: Callable[..., nn.Module]) -> Callable[..., SpatioTemporalTransformer]:
    def make(attention: str, context: int = CONTEXT, condition: int | None = None, **fields: Any) -> Any:
        config = {"layers": 2, "width": WIDTH, "heads": 2, "head_dim": 8, "feed_forward_width": 24, **fields}
        stack = SpatioTemporalTransformer(TransformerConfig(attention=attention, **config), context, condition)
        return shake(stack).eval()

    return make


def features(frames: int = FRAMES, seed: int = 1) -> Tensor:
    return torch.randn(frames, BATCH, POSITIONS, WIDTH, generator=torch.Generator().manual_seed(seed))


def replace_frame(whole: Tensor, index: int) -> Tensor:
    changed = whole.clone()
    changed[index] = torch.randn(changed[index].shape)
    return changed


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("attention", KINDS)
def test_no_frame_depends_on_later_frames(build: Callable[..., Any], attention: str, gradients: bool) -> None:
    """With gradients too, which the attention computes without PyTorch's fused kernel."""
    stack, before = build(attention), features()
    after = replace_frame(before, 3)
    with torch.set_grad_enabled(gradients):
        old, new = stack(before)[0], stack(after)[0]
    torch.testing.assert_close(new[:3], old[:3], atol=1e-6, rtol=0)
    changes = (new - old).abs().amax(dim=(1, 3))
    assert (changes[3] > 1e-3).all()
    has_memory = attention != "spatial"
    assert (changes[4:] > 1e-4).all() if has_memory else (changes[4:] == 0).all()


@pytest.mark.parametrize("attention", KINDS)
def test_each_token_depends_on_its_whole_frame(build: Callable[..., Any], attention: str) -> None:
    stack, before = build(attention), features()
    after = before.clone()
    after[2, 0, 1] = torch.randn(WIDTH)
    changes = (stack(after)[0] - stack(before)[0]).abs().amax(dim=-1)
    assert (changes[2, 0] > 1e-4).all()
    assert (changes[:, 1] == 0).all()


def test_time_mixes_only_tokens_of_one_position() -> None:
    """In one ST block whose spatial attention outputs zero."""
    config = TransformerConfig(layers=1, width=WIDTH, heads=2, head_dim=8, feed_forward_width=24)
    stack = SpatioTemporalTransformer(config, CONTEXT)
    nn.init.zeros_(stack.blocks[0].spatial.project_out.weight)
    nn.init.normal_(stack.blocks[0].causal.project_out.weight)
    before = features()
    after = before.clone()
    after[2, :, 1] = torch.randn(BATCH, WIDTH)
    changes = (stack(after)[0] - stack(before)[0]).abs().amax(dim=-1)
    assert (changes[3:, :, 1] > 1e-4).all()
    assert (changes[:, :, [0, 2, 3, 4]] == 0).all()


@pytest.mark.parametrize("attention", ["st", "full"])
def test_no_frame_depends_on_frames_beyond_the_context(build: Callable[..., Any], attention: str) -> None:
    stack, before = build(attention, context=3, layers=1), features()
    after = replace_frame(before, 1)
    changes = (stack(after)[0] - stack(before)[0]).abs().amax(dim=(1, 2, 3))
    assert (changes[1:4] > 1e-4).all()
    assert (changes[[0, 4, 5]] < 1e-6).all()


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("condition", [None, 4])
@pytest.mark.parametrize("context", [3, 8])
@pytest.mark.parametrize("attention", KINDS)
def test_cached_steps_equal_a_full_pass(
    build: Callable[..., Any], attention: str, context: int, condition: int | None, gradients: bool
) -> None:
    """Step by step, also after drafts of the next frame were written into the cache."""
    stack, whole = build(attention, context=context, condition=condition), features(14)
    stack.requires_grad_(False)
    conditions = None if condition is None else torch.randn(14, BATCH, 1, condition)
    with torch.set_grad_enabled(gradients):
        _step_through(stack, whole, conditions)


def _step_through(stack: SpatioTemporalTransformer, whole: Tensor, conditions: Tensor | None) -> None:
    expected = stack(whole, conditions)[0]
    cache = FrameCache(stack, BATCH, POSITIONS, drafts=2, dtype=torch.float32)
    cache.begin(range(BATCH), 4, stack(whole[:4], None if conditions is None else conditions[:4])[1])
    for time in range(4, 13):
        both = whole[time : time + 2].clone()
        both[1] = torch.randn(BATCH, POSITIONS, WIDTH)
        now, later = (None if conditions is None else conditions[[each]] for each in (time, time + 1))
        alone = stack.step(both[:1], cache.blocks, cache.window(0, 1, whole.device), now)
        torch.testing.assert_close(alone[0], expected[time], atol=1e-5, rtol=0)
        steer = None if conditions is None else conditions[time : time + 2]
        assert len(stack.step(both, cache.blocks, cache.window(0, 2, whole.device), steer)) == 1
        draft = stack.step(whole[[time + 1]], cache.blocks, cache.window(1, 1, whole.device), later)
        torch.testing.assert_close(draft[0], expected[time + 1], atol=1e-5, rtol=0)
        cache.advance()


@pytest.mark.parametrize("attention", ["st", "full"])
def test_a_rolled_cache_equals_a_fresh_one(build: Callable[..., Any], attention: str) -> None:
    """Only distances in time count: the same last frames at another time give the same result."""
    stack, whole = build(attention, context=3, layers=1), features()
    late = stack(whole)[0][-1]
    torch.testing.assert_close(stack(whole[-3:])[0][-1], late, atol=1e-5, rtol=0)
    assert not torch.allclose(stack(whole[-2:])[0][-1], late, atol=1e-4)


@pytest.mark.parametrize("attention", ["st", "full"])
def test_a_restarted_row_attends_to_its_own_frames_only(build: Callable[..., Any], attention: str) -> None:
    """It does not depend on the cache's earlier content, and the other row keeps all its frames."""
    stack, whole = build(attention), features(10)
    cache = FrameCache(stack, BATCH, POSITIONS, drafts=1, dtype=torch.float32)
    for frame in whole[:7]:
        stack.step(frame[None], cache.blocks, cache.window(0, 1, whole.device))
        cache.advance()
    fresh = features(2, seed=3)[:, :1]
    cache.begin([1], 2, stack(fresh)[1])
    out = stack.step(whole[7:8], cache.blocks, cache.window(0, 1, whole.device))
    torch.testing.assert_close(out[:, 0], stack(whole[:8, :1])[0][-1:, 0], atol=1e-5, rtol=0)
    after = stack(torch.cat([fresh, whole[7:8, 1:]]))[0][-1:, 0]
    torch.testing.assert_close(out[:, 1], after, atol=1e-5, rtol=0)


def test_a_step_with_an_empty_cache(build: Callable[..., Any]) -> None:
    stack, whole = build("st"), features(1)
    cache = FrameCache(stack, BATCH, POSITIONS, drafts=2, dtype=torch.float32)
    cache.begin(range(BATCH), 0, [])
    out = stack.step(whole, cache.blocks, cache.window(0, 1, whole.device))
    torch.testing.assert_close(out, stack(whole)[0], atol=1e-5, rtol=0)


def test_the_cache_stays_in_the_same_memory(build: Callable[..., Any]) -> None:
    stack, whole = build("st"), features(20)
    cache = FrameCache(stack, BATCH, POSITIONS, drafts=1, dtype=torch.float32)
    addresses = [part.data_ptr() for block in cache.blocks for part in block]
    for frame in whole:
        stack.step(frame[None], cache.blocks, cache.window(0, 1, whole.device))
        cache.advance()
    assert [part.data_ptr() for block in cache.blocks for part in block] == addresses
    assert {(block.keys.shape[3], block.values.shape[3]) for block in cache.blocks} == {(CONTEXT, CONTEXT)}


def test_a_condition_changes_its_own_frame_and_later_ones(build: Callable[..., Any]) -> None:
    stack, whole = build("st", condition=4), features()
    conditions = torch.randn(FRAMES, BATCH, 1, 4)
    other = conditions.clone()
    other[3] += 1
    changes = (stack(whole, other)[0] - stack(whole, conditions)[0]).abs().amax(dim=(1, 2, 3))
    assert (changes[:3] == 0).all()
    assert (changes[3:] > 1e-4).all()


@pytest.mark.parametrize("has_bias", [False, True])
def test_scaled_dot_products_equal_those_of_pytorch(has_bias: bool) -> None:
    queries, keys, values = (torch.randn(2, 3, 5, 4) for _ in range(3))
    bias = torch.randn(3, 5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf")) if has_bias else None
    own = scaled_dot_products(queries, keys, values, bias)
    expected = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)


def test_queries_and_keys_are_normalised(build: Callable[..., Any]) -> None:
    """QK-norm: features a thousand times as large give the same queries and keys."""
    attention = build("st").blocks[0].spatial
    queries, keys, _ = attention.split_heads(attention.project_in(features()))
    larger = attention.split_heads(attention.project_in(1000 * features()))
    torch.testing.assert_close(larger[0], queries, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(larger[1], keys, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value_dim", [4, 24])
def test_values_may_be_narrower_or_wider(build: Callable[..., Any], value_dim: int) -> None:
    stack = build("st", value_dim=value_dim)
    out, keys_values = stack(features())
    assert out.shape == (FRAMES, BATCH, POSITIONS, WIDTH)
    assert keys_values[0].keys.shape[-1] == 8
    assert keys_values[0].values.shape[-1] == value_dim


@pytest.mark.parametrize("attention", KINDS)
def test_bfloat16_features_stay_near(build: Callable[..., Any], attention: str) -> None:
    stack = build(attention)
    low = stack(features().bfloat16())[0]
    assert low.dtype == torch.bfloat16
    assert (low.float() - stack(features())[0]).abs().mean() < 0.05
