"""The frames in the KV caches of a transformer: their indices, and which of them are visible."""

import pytest
import torch

from genie_gym.configs import TransformerConfig
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.nn.st_transformer import SpatioTemporalTransformer

CONTEXT, DRAFTS, FRAMES = 4, 2, 2


@pytest.fixture
def cache() -> FrameCache:
    config = TransformerConfig(layers=1, width=8, heads=2, feed_forward_width=8)
    return FrameCache(SpatioTemporalTransformer(config, CONTEXT), 2, 3, DRAFTS, torch.float32)


def test_windows_repeat_when_the_cache_is_full(cache: FrameCache) -> None:
    """Each window is right, and the same object as ``size`` frames before, so that its biases can be kept."""
    windows = []
    for turn in range(5 * cache.size):
        window = cache.window(0, FRAMES, torch.device("cpu"))
        assert window.indices == [(turn + frame) % cache.size for frame in range(FRAMES)]
        for frame in range(FRAMES):
            visible = window.is_visible[0, frame].nonzero()
            seen = {int(index): int(window.distance[0, frame, index]) for index in visible}
            frames = range(max(0, turn + frame - CONTEXT + 1), turn + frame + 1)
            assert seen == {number % cache.size: turn + frame - number for number in frames}
        windows.append(window)
        cache.advance()
    assert all(windows[turn] is windows[turn - cache.size] for turn in range(CONTEXT + cache.size + 1, len(windows)))


def test_rows_of_different_age_have_their_own_windows(cache: FrameCache) -> None:
    cache.settled = torch.tensor([1, 9])
    window = cache.window(0, 1, torch.device("cpu"))
    assert [int(index) for index in window.indices[0]] == [1, 9 % cache.size]
    assert window.is_visible.sum(dim=-1).flatten().tolist() == [2, CONTEXT]
