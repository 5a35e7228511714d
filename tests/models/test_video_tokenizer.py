"""The video tokenizer: causal encoder and decoder, cached decoding, and initialisation from data."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.configs import WorldConfig
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel

KINDS = ["additive", "full", "spatial", "fsq", "folded", "conv"]
FRAME_BY_FRAME = ("spatial", "conv")
Make = Callable[[str], GenieWorldModel]
Videos = Callable[..., Tensor]


def draw_tokens(tokenizer: VideoTokenizer, frames: int) -> Tensor:
    """Return random tokens (2, frames, N)."""
    return torch.randint(64, (2, frames, tokenizer.config.tokens_per_frame))


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_do_not_depend_on_later_frames(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Nor do the latents before the quantizer, which would show a smaller leak."""
    tokenizer, latents = make_world(kind).tokenizer, []
    tokenizer.quantizer.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0]))
    before = random_videos(2, 6)
    after = before.clone()
    after[:, 3] = random_videos(2, 1, seed=1)[:, 0]
    tokens = tokenizer.encode(before), tokenizer.encode(after)
    assert torch.equal(tokens[0][:, :3], tokens[1][:, :3])
    assert (tokens[0][:, 3] != tokens[1][:, 3]).any()
    changes = (latents[0] - latents[1]).abs().amax(dim=(1, 2, 3))
    assert (changes[:3] < 1e-6).all()
    assert changes[3] > 1e-3
    assert ((changes[4:] < 1e-6) if kind in FRAME_BY_FRAME else (changes[4:] > 1e-5)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_frames_do_not_depend_on_later_tokens(make_world: Make, kind: str) -> None:
    tokenizer = make_world(kind).tokenizer
    before = draw_tokens(tokenizer, 6)
    after = before.clone()
    after[:, 3] = (after[:, 3] + 1) % 64
    changes = (tokenizer.decode(before) - tokenizer.decode(after)).abs().amax(dim=(0, 2, 3, 4))
    assert (changes[:3] < 1e-6).all()
    assert changes[3] > 1e-2
    assert ((changes[4:] < 1e-6) if kind in FRAME_BY_FRAME else (changes[4:] > 1e-5)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_cached_decoding_equals_decoding_at_once(make_world: Make, kind: str) -> None:
    """Frame by frame, also beyond the context."""
    tokenizer = make_world(kind).tokenizer
    tokens = draw_tokens(tokenizer, 20)
    first, remembered = tokenizer.decode_with_cache(tokens[:, :3])
    cache = tokenizer.empty_cache(2)
    cache.begin([0, 1], 3, remembered)
    rest = [tokenizer.decode_next(tokens[:, [frame]], cache) for frame in range(3, 20)]
    torch.testing.assert_close(torch.cat([first, *rest], dim=1), tokenizer.decode(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [*KINDS, "oblong"])
def test_shapes_types_and_ranges(make_world: Make, random_videos: Videos, kind: str) -> None:
    world = make_world(kind)
    height, width = world.config.height, world.config.width
    tokens = world.tokenizer.encode(random_videos(2, 3, height, width))
    assert tokens.shape == (2, 3, world.config.tokens_per_frame)
    assert tokens.dtype == torch.int64
    assert 0 <= tokens.min()
    assert tokens.max() < world.config.tokenizer.quantizer.codes
    videos = world.tokenizer.decode(tokens)
    assert videos.shape == (2, 3, 3, height, width)
    assert videos.dtype == torch.float32
    assert 0 <= videos.min() < videos.max() <= 1


def test_a_convolutional_token_depends_on_near_patches_only(make_world: Make, random_videos: Videos) -> None:
    """Each layer of 3 x 3 reaches one token further."""
    tokenizer, latents = make_world("conv").tokenizer, []
    tokenizer.quantizer.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0]))
    before = random_videos(1, 1)
    after = before.clone()
    after[..., :8, :8] = random_videos(1, 1, seed=1)[..., :8, :8]
    for videos in (before, after):
        tokenizer.encode(videos)
    changes = (latents[0] - latents[1]).abs().amax(dim=-1).view(8, 8)
    reach = tokenizer.config.tokenizer.encoder.layers
    assert (changes[: reach + 1, : reach + 1] > 1e-6).all()
    assert (changes[reach + 1 :] == 0).all()
    assert (changes[:, reach + 1 :] == 0).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_initialisation_from_data(tiny_config: WorldConfig, moving_squares: Videos, vary: Any, precision: str) -> None:
    """Right after ``initialise``, reconstructions are already much nearer than the videos' mean."""
    config = vary(tiny_config, {"tokenizer.patch_size": 8, "tokenizer.quantizer.dim": 16})
    tokenizer, videos = VideoTokenizer(config), moving_squares(16, 8)
    tokenizer.set_precision(precision)
    tokenizer.initialise(videos)
    tokenizer.eval()
    error = (tokenizer.decode(tokenizer.encode(videos)) - videos).square().mean()
    assert error < 0.1 * videos.var()
    assert tokenizer.encode(videos).unique().numel() > 32
    assert tokenizer.quantizer.is_initialised


@pytest.mark.parametrize("colours", [1, 2, 3, 9])
def test_initialisation_from_videos_of_flat_colours(tiny_config: WorldConfig, colours: int) -> None:
    """Patches with fewer components than latents have features do not get weights that blow up in training."""
    palette, squares = torch.rand(colours, 3), torch.randint(colours, (4, 8, 4, 4))
    videos = palette[squares].permute(0, 1, 4, 2, 3).repeat_interleave(16, -1).repeat_interleave(16, -2)
    tokenizer = VideoTokenizer(tiny_config)
    tokenizer.initialise(videos)
    assert tokenizer.patch_path.weight.abs().max() < 10
    assert tokenizer.loss(videos).metrics["psnr"] > 30


def test_the_loss_is_in_units_of_the_variance(tiny_config: WorldConfig, random_videos: Videos) -> None:
    """It equals a loss by hand, from the reconstruction and the commitment."""
    tokenizer, videos = VideoTokenizer(tiny_config).eval(), 0.5 + 0.1 * (random_videos(2, 4) - 0.5)
    with torch.no_grad():
        tokenizer.patch_path.weight *= 0.1
    output = tokenizer.loss(videos)
    rebuilt = tokenizer.decode(tokenizer.encode(videos))
    assert 0 < rebuilt.min() < rebuilt.max() < 1  # decode's clamp plays no part
    error = (rebuilt - videos).square().mean()
    torch.testing.assert_close(output.loss, error / videos.var() + output.metrics["commitment"], rtol=1e-4, atol=0)
    torch.testing.assert_close(output.metrics["psnr"], -10 * error.log10(), rtol=1e-4, atol=0)
    assert not any(metric.requires_grad for metric in output.metrics.values())


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_have_gradients(make_world: Make, random_videos: Videos, kind: str) -> None:
    tokenizer = make_world(kind).tokenizer.train().requires_grad_()
    tokenizer.loss(random_videos(2, 4)).loss.backward()
    idle = [name for name, weight in tokenizer.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (torch.zeros(1, 2, 3, 64, 32), r"\(1, 2, 3, 64, 32\)"),
        (torch.zeros(1, 2, 1, 64, 64), r"\(1, 2, 1, 64, 64\)"),
        (torch.zeros(2, 3, 64, 64), r"\(2, 3, 64, 64\)"),
        (torch.zeros(1, 0, 3, 64, 64), r"\(1, 0, 3, 64, 64\)"),
        (torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8), "uint8"),
    ],
)
def test_wrong_videos_are_refused(tiny_world: GenieWorldModel, videos: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"videos must be .*{message}"):
        tiny_world.tokenizer.encode(videos)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(1, 2, 17, dtype=torch.int64), r"\(1, 2, 17\)"),
        (torch.full((1, 2, 16), 64), r"in \[0, 64\), got 64..64"),
        (torch.full((1, 2, 16), -1), r"got -1..-1"),
        (torch.zeros(1, 2, 16), "int64, got torch.float32"),
    ],
)
def test_wrong_tokens_are_refused(tiny_world: GenieWorldModel, tokens: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"tokens must be .*{message}"):
        tiny_world.tokenizer.decode(tokens)
