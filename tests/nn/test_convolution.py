"""The inputs of convolutional networks, and the receptive fields of encoders."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from genie_gym.nn.convolution import CompactEncoder, ImpalaEncoder, stack_past, stack_transitions


def test_past_frames_are_stacked_oldest_first(random_videos: Any) -> None:
    """``history`` frames up to t; the first frame stands in for those before it."""
    videos = random_videos(2, 6)
    past = stack_past(videos, 2) + 0.5
    assert past.shape == (2, 5, 2 * 3, 64, 64)
    torch.testing.assert_close(past[:, 3], videos[:, 2:4].flatten(1, 2))
    torch.testing.assert_close(past[:, 0], videos[:, [0, 0]].flatten(1, 2))


def test_a_transition_stacks_past_next_frame_and_change(random_videos: Any) -> None:
    videos = random_videos(2, 4)
    stacked = stack_transitions(videos, 3)
    assert stacked.shape == (2, 3, 5 * 3, 64, 64)
    torch.testing.assert_close(stacked[:, :, :9], stack_past(videos, 3))
    torch.testing.assert_close(stacked[:, 1, 9:12], videos[:, 2] - 0.5)
    torch.testing.assert_close(stacked[:, 1, 12:], videos[:, 2] - videos[:, 1])


def test_impala_depends_on_every_pixel_with_and_without_patches() -> None:
    pixels = torch.rand(1, 3, 16, 16)
    for patch_size, first_side in ((1, 8), (4, 4)):
        encoder = ImpalaEncoder(3, (4, 6), 8, (16, 16), patch_size)
        assert encoder.stages[0](pixels).shape == (1, 4, first_side, first_side)
        assert encoder(pixels).shape == (1, 8)
        inputs = pixels.clone().requires_grad_()
        encoder.stages[0](inputs).square().sum().backward()
        assert (cast(Tensor, inputs.grad) != 0).all()
    with pytest.raises(ValueError, match=r"patch_size must divide \(16, 16\), got 3"):
        ImpalaEncoder(3, (4,), 8, (16, 16), 3)


@pytest.mark.parametrize("size", [(16, 16), (21, 30), (4, 64)], ids=str)
def test_compact_features_depend_on_pixels_of_any_size(size: tuple[int, int]) -> None:
    encoder, pixels = CompactEncoder(3, (32, 5, 6), 8, size), torch.rand(2, 3, *size, requires_grad=True)
    assert encoder(pixels).shape == (2, 8)
    encoder.stage(encoder.coarse(encoder.fine(pixels))).square().sum().backward()
    with pytest.raises(ValueError, match=r"size must be 4 pixels or more a side, got \(3, 64\)"):
        CompactEncoder(3, (4, 5, 6), 8, (3, 64))
    inside = cast(Tensor, pixels.grad)[..., : size[0] // 4 * 4, : size[1] // 4 * 4]
    assert (inside != 0).all()
