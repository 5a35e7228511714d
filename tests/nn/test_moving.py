"""Frames shifted by distributions over shifts, and decoders that learn to shift them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genie_gym.configs import MovingActionConfig, QuantizerConfig
from genie_gym.nn.moving import MovingDecoder, add_shifts, shift_frames

REACH = 3


def build(
    history: int, motion: int, dim: int, moves: int, levels: tuple[int, ...] = (), **options: Any
) -> MovingDecoder:
    """Return a decoder of width 8 that is steered by codes of ``dim`` features."""
    quantizer = QuantizerConfig(codes=4, dim=dim, levels=levels)
    config = MovingActionConfig(quantizer=quantizer, width=8, history=history, moves=moves, reach=REACH, **options)
    return MovingDecoder(config, motion)


def by(*shifts: int) -> Tensor:
    """Return distributions (1, S, 2 REACH + 1) with all probability on one shift each."""
    return F.one_hot(torch.tensor(shifts) + REACH, 2 * REACH + 1).float()[None]


def test_a_certain_shift_copies_each_pixel_from_its_source() -> None:
    """Entry ``d`` takes the pixel d below, or d to the right; edges are repeated."""
    frame = torch.rand(1, 2, 8, 12)
    moved = shift_frames(frame, by(0, 2, -3), by(0, 1, 0))
    assert moved.shape == (1, 3, 2, 8, 12)
    assert torch.equal(moved[:, 0], frame)
    assert torch.equal(moved[0, 1, :, :-2, :-1], frame[0, :, 2:, 1:])
    assert torch.equal(moved[0, 1, :, -2:, :-1], frame[0, :, -1:, 1:].expand(-1, 2, -1))
    assert torch.equal(moved[0, 2, :, 3:], frame[0, :, :-3])
    assert torch.equal(moved[0, 2, :, :3], frame[0, :, :1].expand(-1, 3, -1))


def test_an_even_mixture_of_two_shifts_is_their_mean() -> None:
    """So a shift by a fraction of a pixel interpolates bilinearly."""
    frame = torch.rand(1, 3, 8, 8)
    half = (by(0) + by(1)) / 2
    one, other = shift_frames(frame, by(0), by(0)), shift_frames(frame, by(0), by(1))
    assert torch.allclose(shift_frames(frame, by(0), half), (one + other) / 2)


def test_frames_of_a_batch_are_shifted_independently() -> None:
    frames = torch.rand(2, 3, 8, 8)
    rows = torch.cat([by(1), by(-2)])
    moved = shift_frames(frames, rows, by(0).expand(2, -1, -1))
    for frame, row, each in zip(frames, rows, moved, strict=True):
        assert torch.equal(shift_frames(frame[None], row[None], by(0))[0], each)


def test_an_untrained_decoder_prefers_no_shift() -> None:
    decoder = build(2, 6, 4, 3)
    rows, columns = decoder._shifts(0.5 * torch.randn(5, 6), 0.5 * torch.randn(5, 4))
    for shares in (rows, columns):
        assert shares.shape == (5, 3, 4 * REACH + 1)
        assert torch.allclose(shares.sum(dim=-1), torch.ones(5, 3))
        assert (shares.argmax(dim=-1) == 2 * REACH).all()


def test_add_shifts_convolves_the_distributions() -> None:
    one, other = by(-3, 0, 2), by(1, 3, 2)
    assert torch.equal(add_shifts(one, other), F.one_hot(torch.tensor([[-2, 3, 4]]) + 2 * REACH, 4 * REACH + 1).float())
    one, other = torch.rand(2, 2, 7).softmax(dim=-1)
    assert torch.allclose(add_shifts(one, other), add_shifts(other, one))
    assert torch.allclose(_mean(add_shifts(one, other)), _mean(one) + _mean(other), atol=1e-6)


def test_a_vector_adds_the_same_shift_to_every_motion() -> None:
    decoder = build(2, 6, 4, 3)
    with torch.no_grad():
        decoder.shifts.weight.normal_()
        decoder.added_shifts[0].weight.normal_()
    motion, vectors = torch.randn(5, 6), torch.randn(2, 1, 4).expand(2, 5, 4)
    for one, other in zip(*(decoder._shifts(motion, vector) for vector in vectors), strict=True):
        gained = _mean(one) - _mean(other)
        assert gained.abs().min() > 1e-3
        assert torch.allclose(gained, gained[:1].expand_as(gained), atol=1e-5)


def test_a_vector_paints_only_the_box_of_the_agent() -> None:
    decoder = build(1, 6, 4, 3, agent_box=(6, 6, 4, 4))
    with torch.no_grad():
        decoder.added_shifts[0].weight.zero_()
        for parameter in decoder.player.parameters():
            parameter.normal_(std=0.1)
    pixels, motion = torch.rand(2, 3, 16, 16), torch.randn(2, 6)
    one, other = (decoder(pixels, motion, torch.randn(2, 4)) for _ in range(2))
    changed = (one != other).any(dim=1)
    assert changed[:, 4:12, 4:12].any(dim=(1, 2)).all()
    changed[:, 4:12, 4:12] = False
    assert not changed.any()


def test_each_half_of_a_vector_controls_one_axis_and_the_first_paints() -> None:
    """The first half shifts columns, the second half rows."""
    decoder = build(1, 6, 4, 3, levels=(2, 2), agent_box=(6, 6, 4, 4))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.1)
    pixels, motion, one = torch.rand(2, 3, 16, 16), torch.randn(2, 6), torch.randn(2, 4)
    rows, columns = decoder._shifts(motion, one)
    for half, still, moved, paints in ((0, 0, 1, True), (1, 1, 0, False)):
        other = one.clone()
        other[:, 2 * half : 2 * half + 2] += 1
        shifts = decoder._shifts(motion, other)
        assert torch.equal(shifts[still], (rows, columns)[still])
        assert not torch.allclose(shifts[moved], (rows, columns)[moved])
        painted = decoder.player(pixels, one.chunk(2, dim=1)[0]), decoder.player(pixels, other.chunk(2, dim=1)[0])
        assert torch.equal(*painted) != paints


def _mean(shares: Tensor) -> Tensor:
    """Return the mean of a distribution over shifts, in pixels."""
    return shares @ (torch.arange(shares.shape[-1]) - shares.shape[-1] // 2.0)


@pytest.mark.parametrize("source", ["motion", "vector", ""])
def test_it_learns_a_shift_that_motion_or_vector_reveals(source: str) -> None:
    """Noise moves two pixels left or right: it is predicted if motion or vector holds the side, and not otherwise."""
    decoder = build(1, 1, 1, 2)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-2)
    for _ in range(200):
        frames, sides = torch.rand(16, 3, 16, 16), torch.randint(2, (16,)) * 2.0 - 1
        moved = torch.stack([frame.roll(int(2 * side), dims=-1) for frame, side in zip(frames, sides, strict=True)])
        motion, vector = (sides[:, None] * (source == name) for name in ("motion", "vector"))
        change = decoder(frames, motion, vector)
        error = F.mse_loss((frames + change)[..., 3:-3], moved[..., 3:-3])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    copied = F.mse_loss(frames, moved)
    assert (error < 0.2 * copied) == bool(source)
