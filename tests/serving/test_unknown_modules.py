"""Modules that the kernels do not know are run by PyTorch: never skipped, never taken for another module."""

import copy
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genie_gym.configs import TransformerConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.attention import KeyValues, KVCache, TemporalAttention
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.layers import Linear
from genie_gym.nn.st_transformer import Block, FeedForward, SpatioTemporalTransformer
from genie_gym.serving import prepare
from genie_gym.serving.packing import PackedTransformer, pack

CONFIG = TransformerConfig(layers=2, width=32, heads=2, head_dim=16, feed_forward_width=32)


class GatedBlock(Block):
    """A block with an additional module behind the feed-forward."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.gate = Linear(CONFIG.width, CONFIG.width)

    def feed(self, features: Tensor, condition: Tensor | None) -> Tensor:
        return super().feed(features, condition) * self.gate(features)


class HalvedFeedForward(FeedForward):
    """A feed-forward with the same children but another function."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) / 2


class NegatedAttention(TemporalAttention):
    """A temporal attention with the same children but another function."""

    def write_and_attend(self, projected: Tensor, cache: KVCache, *rest: object) -> Tensor:
        return -super().write_and_attend(projected, cache, *rest)  # type: ignore[arg-type]

    def attend(self, *arguments: Tensor) -> Tensor:
        return -super().attend(*arguments)


def add_gate(stack: SpatioTemporalTransformer) -> None:
    stack.blocks[1] = GatedBlock(CONFIG, 8, None, None)


def replace_feed_forward(stack: SpatioTemporalTransformer) -> None:
    stack.blocks[0].feed_forward = HalvedFeedForward(CONFIG.width, CONFIG.feed_forward_width)


def replace_attention(stack: SpatioTemporalTransformer) -> None:
    stack.blocks[1].causal = NegatedAttention(CONFIG.width, 2, 16, 16, 8)


def hook_block(stack: SpatioTemporalTransformer) -> None:
    stack.blocks[0].feed_forward.register_forward_hook(lambda module, inputs, output: 2 * output)


def resize_block(stack: SpatioTemporalTransformer) -> None:
    wide = TransformerConfig(layers=1, width=32, heads=2, head_dim=16, feed_forward_width=64)
    stack.blocks[1] = Block(wide, 8, None, None)


CHANGES = pytest.mark.parametrize(
    "change", [add_gate, replace_feed_forward, replace_attention, hook_block, resize_block]
)


def play(stack: SpatioTemporalTransformer, features: Tensor) -> tuple[Tensor, Tensor, list[KeyValues | None]]:
    """Return all frames computed at once, all but the first three computed step by step, and keys and values."""
    whole, keys_values = stack(features)
    cache = FrameCache(stack, features.shape[1], features.shape[2], drafts=1, dtype=features.dtype)
    cache.begin(range(features.shape[1]), 3, stack(features[:3])[1])
    steps = []
    for frame in features[3:]:
        steps.append(stack.step(frame[None], cache.blocks, cache.window(0, 1, features.device)))
        cache.advance()
    return whole, torch.cat(steps), keys_values


@CHANGES
@pytest.mark.parametrize("is_late", [False, True], ids=["before packing", "after packing and playing"])
def test_an_unknown_module_takes_effect(
    change: Callable[[SpatioTemporalTransformer], None],
    is_late: bool,
    shake: Callable[..., nn.Module],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The packed stack computes what the plain one does, at once and step by step."""
    torch.manual_seed(0)
    stack = SpatioTemporalTransformer(CONFIG, 8)
    shake(stack)
    known, features = copy.deepcopy(stack).requires_grad_(False), torch.randn(6, 2, 5, CONFIG.width)
    before = play(pack(known), features)[0]
    changed = known if is_late else stack
    torch.manual_seed(1)
    change(changed)
    changed.requires_grad_(False)
    expected = copy.deepcopy(stack)
    torch.manual_seed(1)
    change(expected)
    if not is_late:
        expected = copy.deepcopy(changed)
    expected.load_state_dict(changed.state_dict())
    with caplog.at_level(logging.WARNING):
        played = play(changed if is_late else pack(changed), features)
    wanted = play(expected.requires_grad_(False), features)
    torch.testing.assert_close(played[0], wanted[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(played[1], wanted[1], atol=1e-4, rtol=0)
    assert (played[0] - before).abs().max() > 1e-2, "the change must be visible"
    assert is_late or ("left to PyTorch" in caplog.text and type(changed) is SpatioTemporalTransformer)


def test_known_modules_are_packed_without_a_warning(
    tiny_world: GenieWorldModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        world = prepare(copy.deepcopy(tiny_world), "float32")
    assert caplog.text == ""
    assert type(world.dynamics.transformer) is PackedTransformer


def test_a_world_plays_its_unknown_modules(tiny_world: GenieWorldModel, caplog: pytest.LogCaptureFixture) -> None:
    """A hook in the dynamics changes the world's frames in the same way with and without kernels."""
    plain, prepared = copy.deepcopy(tiny_world), copy.deepcopy(tiny_world)
    for world in (plain, prepared):
        world.dynamics.transformer.blocks[0].feed_forward.register_forward_hook(lambda module, inputs, out: -3 * out)
    with caplog.at_level(logging.WARNING):
        prepare(prepared, "float32")
    assert "dynamics.transformer" in caplog.text
    videos, actions = torch.rand(2, 2, 3, 64, 64), torch.arange(8).expand(2, 8)
    frames = prepared.rollout(videos, actions)
    wanted = prepare(plain, "float32", use_kernels=False).rollout(videos, actions)
    torch.testing.assert_close(frames, wanted, atol=1e-2, rtol=0)
    unchanged = prepare(copy.deepcopy(tiny_world), "float32").rollout(videos, actions)
    assert (frames - unchanged).abs().mean() > 0.01
