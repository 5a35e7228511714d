"""What convolutional nets are given of a video."""

from typing import Any

import torch

from genie_gym.nn.convolution import stack_past, stack_transitions


def test_the_past_is_oldest_first(random_videos: Any) -> None:
    """``history`` frames up to t, the first standing in for those before it."""
    videos = random_videos(2, 6)
    past = stack_past(videos, 2) + 0.5
    assert past.shape == (2, 5, 2 * 3, 64, 64)
    torch.testing.assert_close(past[:, 3], videos[:, 2:4].flatten(1, 2))
    torch.testing.assert_close(past[:, 0], videos[:, [0, 0]].flatten(1, 2))


def test_a_transition_is_the_past_the_next_frame_and_the_change(random_videos: Any) -> None:
    videos = random_videos(2, 4)
    stacked = stack_transitions(videos, 3)
    assert stacked.shape == (2, 3, 5 * 3, 64, 64)
    torch.testing.assert_close(stacked[:, :, :9], stack_past(videos, 3))
    torch.testing.assert_close(stacked[:, 1, 9:12], videos[:, 2] - 0.5)
    torch.testing.assert_close(stacked[:, 1, 12:], videos[:, 2] - videos[:, 1])
