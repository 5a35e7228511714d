"""What is found of the camera: where it keeps the agent, and how far it moves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_gym.configs import MovingActionConfig, WorldConfig
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.training.agent_box import average_errors, find_agent_box, find_camera_border, settle_agent_box

CLIPS, FRAMES, SIZE = 8, 6, 64


def scroll(seed: int = 0) -> Tensor:
    """Return (B, T, C, H, W) videos of a large random picture past which a camera moves up to 2 pixels a frame."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(CLIPS, 3, 128, 128, generator=generator)
    videos = torch.empty(CLIPS, FRAMES, 3, SIZE, SIZE)
    for clip in range(CLIPS):
        row, column = 32, 32
        for frame in range(FRAMES):
            videos[clip, frame] = picture[clip, :, row : row + SIZE, column : column + SIZE]
            step = torch.randint(-2, 3, (2,), generator=generator)
            row, column = row + int(step[0]), column + int(step[1])
    return videos


def add_agent(videos: Tensor, top: int, left: int, height: int = 8, width: int = 4) -> Tensor:
    """Return the videos with an agent at a fixed place, black or white by turns."""
    shown = videos.clone()
    shown[:, ::2, :, top : top + height, left : left + width] = 0
    shown[:, 1::2, :, top : top + height, left : left + width] = 1
    return shown


@pytest.mark.parametrize(("top", "left"), [(28, 30), (10, 40), (52, 4)])
def test_an_agent_that_the_camera_keeps_is_found(top: int, left: int) -> None:
    box = find_agent_box(add_agent(scroll(), top, left), 4)
    assert box is not None
    assert box[2] == box[3]
    assert abs(box[3] - 6) <= 2
    assert abs(box[0] + box[2] / 2 - (top + 4)) <= 1
    assert abs(box[1] + box[3] / 2 - (left + 2)) <= 1


def test_nothing_is_found_without_an_agent_or_with_one_that_goes_about() -> None:
    assert find_agent_box(scroll(), 4) is None
    places = np.random.default_rng(0).integers(4, 50, (CLIPS, 2))
    videos = torch.cat([add_agent(each[None], *place) for each, place in zip(scroll(), places.tolist(), strict=True)])
    assert find_agent_box(videos, 4) is None


def test_a_place_where_agents_only_begin_is_none() -> None:
    still = scroll()[:, :1].expand(-1, FRAMES, -1, -1, -1)
    at_start, away = add_agent(still, 50, 4), add_agent(still, 10, 40)
    some_begin = [at_start[:2], *(add_agent(each[None], 4, 6 * k) for k, each in enumerate(still[2:])), at_start[:2]]
    assert find_agent_box(torch.cat(some_begin), 4) is None
    assert find_agent_box(torch.cat([at_start, away[:2]]), 4) is not None


def test_an_agent_as_large_as_half_the_frame_is_none() -> None:
    assert find_agent_box(add_agent(scroll(), 16, 16, 32, 32), 4) is None


def test_a_picture_that_only_scrolls_has_no_error_inside() -> None:
    errors = average_errors(scroll(), 4)
    assert errors[4:-4, 4:-4].max() < 1e-6


class ListedClips:
    """A stand-in for a ``ClipDataset`` of known clips."""

    def __init__(self, videos: Tensor) -> None:
        self.frames = (videos.permute(0, 1, 3, 4, 2) * 255).round().byte().numpy()
        self.clip_length = videos.shape[1]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> np.ndarray:
        return self.frames[number]

    def cut(self, length: int) -> "ListedClips":
        assert length == self.clip_length
        return self


@pytest.fixture
def finding(variants: dict[str, WorldConfig]) -> WorldConfig:
    """Return a world of 64 x 64 pixels whose agent has to be found."""
    config = variants["boxed"]
    part = replace(config.latent_action_model, agent_box="find", reach=4)
    return replace(config, height=SIZE, width=SIZE, latent_action_model=part)


def test_a_config_gets_the_box_that_the_data_show(finding: WorldConfig) -> None:
    data: Any = ListedClips(add_agent(scroll(), 28, 30))
    settled = settle_agent_box(finding, data)
    assert isinstance(settled.latent_action_model, MovingActionConfig)
    assert settled.latent_action_model.agent_box is not None
    assert settled == replace(
        finding,
        latent_action_model=replace(finding.latent_action_model, agent_box=settled.latent_action_model.agent_box),
    )
    assert settle_agent_box(settled, data) is settled
    nothing: Any = ListedClips(scroll())
    assert settle_agent_box(finding, nothing).latent_action_model.agent_box is None  # type: ignore[union-attr]


def test_a_box_that_was_never_found_is_refused(finding: WorldConfig) -> None:
    with pytest.raises(ValueError, match="agent_box must be found before training"):
        LatentActionModel(finding).loss(torch.rand(2, 4, 3, SIZE, SIZE))


def test_the_error_in_the_box_counts_and_that_elsewhere_does_not(finding: WorldConfig) -> None:
    """The metric of the box changes with the pixels inside it, wherever it lies."""
    part = replace(finding.latent_action_model, agent_box=(8, 40, 8, 6))
    torch.manual_seed(0)
    model = LatentActionModel(replace(finding, latent_action_model=part)).eval()
    videos = torch.rand(2, 4, 3, SIZE, SIZE)
    inside, outside = videos.clone(), videos.clone()
    inside[:, -1, :, 8:16, 40:46] = 0
    outside[:, -1, :, 40:48, 8:14] = 0
    codes = torch.zeros(2, 3, part.quantizer.dim)
    motion = torch.zeros(2, 3, 32)
    errors = [
        model.backbone.reconstruction_loss(each, codes, motion).metrics["agent_box"]
        for each in (videos, inside, outside)
    ]
    assert errors[1] != errors[0]
    assert errors[2] == errors[0]


def test_the_border_is_as_wide_as_the_camera_moves(finding: WorldConfig) -> None:
    """Pictures scroll by up to 2 pixels; an agent that walks about under a still camera makes no border."""
    still = torch.rand(1, 1, 3, SIZE, SIZE).expand(CLIPS, FRAMES, -1, -1, -1).clone()
    for frame in range(FRAMES):
        still[:, frame, :, 56:60, 20 + 3 * frame : 28 + 3 * frame] = 1
    assert (find_camera_border(scroll(), 4), find_camera_border(still, 4)) == (2, 0)
    part = replace(finding.latent_action_model, agent_box=(8, 40, 8, 6), border="find")
    data: Any = ListedClips(scroll())
    settled = settle_agent_box(replace(finding, latent_action_model=part), data)
    assert settled.latent_action_model == replace(part, border=2)
    with pytest.raises(ValueError, match="border must be found before training"):
        LatentActionModel(replace(finding, latent_action_model=part)).loss(torch.rand(2, 4, 3, SIZE, SIZE))


@pytest.mark.parametrize(("border", "counts"), [(None, False), (3, False), (2, True), (0, True)])
def test_what_is_outside_the_border_does_not_count(finding: WorldConfig, border: int | None, counts: bool) -> None:
    """A change 2 pixels from the edge lies in the border of a reach of 4."""
    part = replace(finding.latent_action_model, agent_box=None, border=border)
    torch.manual_seed(0)
    model = LatentActionModel(replace(finding, latent_action_model=part)).eval()
    videos = torch.rand(2, 4, 3, SIZE, SIZE)
    changed = videos.clone()
    changed[:, -1, :, 61, 20:40] = 0
    codes, motion = torch.zeros(2, 3, part.quantizer.dim), torch.zeros(2, 3, 32)
    errors = [model.backbone.reconstruction_loss(each, codes, motion).loss for each in (videos, changed)]
    assert (errors[0] != errors[1]) == counts
