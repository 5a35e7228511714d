"""The latent action model: one code a transition, causal, and a decoder that cannot see what it rebuilds."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.world_model import GenieWorldModel

KINDS = ["additive", "st-lam", "token-lam", "fsq", "horizon", "st-horizon", "moving", "centred", "accelerating"]
"""``additive``, ``fsq``, ``horizon``, ``moving``, ``centred`` and ``accelerating`` have the convolutional backbone."""
Make = Callable[[str], GenieWorldModel]


def inputs(model: LatentActionModel, batch: int = 2, frames: int = 6, seed: int = 0) -> Tensor:
    """What the model reads: noise videos or tokens."""
    generator = torch.Generator().manual_seed(seed)
    if model.reads_tokens:
        return torch.randint(64, (batch, frames, model.config.tokens_per_frame), generator=generator)
    return torch.rand(batch, frames, 3, model.config.height, model.config.width, generator=generator)


def other_frame(model: LatentActionModel, before: Tensor, index: int) -> Tensor:
    after = before.clone()
    after[:, index] = inputs(model, len(before), 1, seed=1)[:, 0]
    return after


def rebuild(model: LatentActionModel, videos: Tensor, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The backbone's error and metrics for given codes, as the loss sees them."""
    motion = model.backbone.encode(videos, torch.float32).motion
    return model.backbone.rebuild(videos, codes, motion)  # type: ignore[no-any-return]


def predictions(model: LatentActionModel, videos: Tensor, codes: Tensor) -> Tensor:
    """The decoder's output (T - 1, ...) for given codes, as the loss sees it."""
    caught: list[Any] = []
    hook = model.backbone.decoder.register_forward_hook(lambda _, __, output: caught.append(output))
    rebuild(model, videos, codes)
    hook.remove()
    if isinstance(caught[0], tuple):
        return caught[0][0]
    return caught[0].unflatten(0, (len(videos), -1)).transpose(0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_do_not_see_later_frames(make_world: Make, kind: str) -> None:
    """Transitions that end before the changed frame keep label and latent; the one into it changes."""
    model, latents = make_world(kind).latent_action_model, []
    model.quantizer.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0]))
    before = inputs(model, 8)
    after = other_frame(model, before, 3)
    labels = model.label(before), model.label(after)
    assert torch.equal(labels[0][:, :2], labels[1][:, :2])
    assert (labels[0][:, 2:] != labels[1][:, 2:]).any()
    changes = (latents[0] - latents[1]).abs().amax(dim=(0, 2))
    assert (changes[:2] < 1e-6).all()
    assert (changes[2:4] > 1e-3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_does_not_see_the_frame_it_rebuilds(make_world: Make, kind: str) -> None:
    """Only its code tells of it: frame t + 1 rebuilt is frames up to t and codes up to that of t."""
    model = make_world(kind).latent_action_model
    before, codes = inputs(model), torch.randn(2, 5, 2 if kind == "fsq" else 8)
    old = predictions(model, before, codes)
    changes = (predictions(model, other_frame(model, before, 3), codes) - old).abs().flatten(1).amax(dim=1)
    assert (changes[:3] < 1e-6).all()  # entry 2 is frame 3 rebuilt
    assert changes[3] > 1e-3
    steered = codes.clone()
    steered[:, 3] += 1
    changes = (predictions(model, before, steered) - old).abs().flatten(1).amax(dim=1)
    assert (changes[:3] < 1e-6).all()
    assert changes[3] > 1e-3


@pytest.mark.parametrize("kind", [*KINDS, "oblong"])
def test_one_code_for_each_transition(make_world: Make, kind: str) -> None:
    model = make_world(kind).latent_action_model
    labels = model.label(inputs(model, 12))
    assert labels.shape == (12, 5)
    assert labels.dtype == torch.int64
    assert 0 <= labels.min()
    assert labels.max() < 8
    assert labels.unique().numel() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_the_loss_are_those_of_label(make_world: Make, kind: str) -> None:
    """In eval mode, where batch statistics and restarts play no part."""
    model = make_world(kind).latent_action_model
    videos = inputs(model)
    output, labels = model.loss_and_labels(videos)
    assert torch.equal(labels, model.label(videos))
    assert torch.equal(output.loss, model.loss(videos).loss)
    assert not labels.requires_grad
    assert not any(metric.requires_grad for metric in output.metrics.values())


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_learn(make_world: Make, kind: str) -> None:
    model = make_world(kind).latent_action_model.train().requires_grad_()
    model.loss(inputs(model, 4)).loss.backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == ["backbone.hidden_frame"] * (model.config.latent_action_model.backbone == "st")


def test_hidden_frames_are_never_the_first(variants: Any, vary: Any, shake: Any) -> None:
    """With a share of 1 only frame 0 and the codes reach the decoder, and only in training."""
    config = vary(variants["st-lam"], {"latent_action_model.hidden_frames": 1.0})
    model = shake(LatentActionModel(config))
    before, codes = inputs(model), torch.randn(2, 5, 8)
    middle, first = other_frame(model, before, 2), other_frame(model, before, 0)
    old = predictions(model, before, codes)
    assert torch.equal(predictions(model, middle, codes), old)
    assert not torch.allclose(predictions(model, first, codes), old, atol=1e-3)
    model.eval()
    assert not torch.allclose(predictions(model, middle, codes), predictions(model, before, codes), atol=1e-3)


def test_a_video_that_rests_loses_nothing_to_division(make_world: Make) -> None:
    model = make_world("additive").latent_action_model
    output = model.loss(torch.full((2, 4, 3, 64, 64), 0.3))
    assert torch.isfinite(output.loss)


class Says(torch.nn.Module):
    """A decoder that says the same of whatever it is shown."""

    def __init__(self, changes: Tensor) -> None:
        super().__init__()
        self.changes = changes

    def forward(self, *_: Tensor) -> Tensor:
        return self.changes


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        ("batch", 0.25 / 101),
        ("transition", (0.25 / 10.1 * 2 + 0.0) / 2),
        ("log", (math.log(0.01) + math.log(2 * 0.25 / 101 + 0.01)) / 2),
    ],
)
def test_in_units_of_each_transition_slow_ones_count(variants: Any, vary: Any, unit: str, wanted: float) -> None:
    """A fast transition told exactly and a slow one of which half the change is missed, (1/2)^2 of it.

    Changes are .1 and .01, so that copying has errors in a ratio of 100 to 1, and the slow one's unit is a tenth of
    their mean, 5.05 times its own.
    """
    config = vary(variants["additive"], {"latent_action_model.error_unit": unit})
    model = LatentActionModel(config)
    videos = torch.full((2, 2, 3, config.height, config.width), 0.5)
    videos[0, 1] += 0.1
    videos[1, 1] += 0.01
    changes = torch.stack([videos[0, 1] - 0.5, (videos[1, 1] - 0.5) / 2])
    model.backbone.decoder = Says(changes)
    error, _ = rebuild(model, videos, torch.zeros(2, 1, 8))
    assert error.item() == pytest.approx(wanted, rel=1e-4)


def test_a_horizon_counts_every_later_frame_that_the_clip_holds(variants: Any, vary: Any) -> None:
    """The next frame told exactly, that after it not at all: (0 + 1) / 2. What lies beyond the clip is not asked."""
    config = vary(variants["additive"], {"latent_action_model.horizon": 3})
    model = LatentActionModel(config)
    videos = inputs(model, batch=1, frames=3)
    said = torch.full((2, 9, config.height, config.width), torch.nan)
    said[:, :3] = (videos[:, 1:] - videos[:, :-1])[0]
    said[0, 3:6] = 0
    model.backbone.decoder = Says(said)
    error, metrics = rebuild(model, videos, torch.zeros(1, 2, 8))
    assert error.item() == pytest.approx(0.5, rel=1e-5)
    assert metrics["psnr"] > 60 > metrics["copy_last_psnr"]
    said[0, 3:6] = (videos[:, 2] - videos[:, 0])[0]
    assert rebuild(model, videos, torch.zeros(1, 2, 8))[0].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kind", "blind"), [("additive", False), ("moving", True)])
def test_a_code_that_moves_says_nothing_of_looks(make_world: Make, kind: str, blind: bool) -> None:
    """On a picture of one colour nothing can be moved: there all codes say the same, unless they may paint."""
    model = make_world(kind).latent_action_model
    videos = torch.full((2, 4, 3, 64, 64), 0.3)
    first, second = (predictions(model, videos, torch.randn(2, 3, 8)) for _ in range(2))
    assert torch.allclose(first, second, atol=1e-5) == blind


def test_where_no_motion_is_known_no_error_counts(make_world: Make) -> None:
    """A clip's first transition, unless there is no other."""
    model = make_world("moving").latent_action_model
    videos, codes = inputs(model), torch.randn(2, 5, 8)
    others = codes.clone()
    others[:, 0] += 1
    assert torch.equal(rebuild(model, videos, others)[0], rebuild(model, videos, codes)[0])
    assert not torch.equal(
        rebuild(model, videos[:, :2], others[:, :1])[0], rebuild(model, videos[:, :2], codes[:, :1])[0]
    )


def test_the_decoder_knows_the_player_as_it_was_at_first(make_world: Make) -> None:
    """With the same motion and codes a later pose changes nothing that it says; the first, and what is around, do."""
    model = make_world("centred").latent_action_model
    videos, codes = inputs(model), torch.randn(2, 5, 8)
    motion = model.backbone.encode(videos, torch.float32).motion
    said: list[Tensor] = []
    model.backbone.decoder.register_forward_hook(lambda _, __, output: said.append(output))
    for frame, middle, hidden in ((2, 32, True), (0, 32, False), (2, 20, False)):
        other = videos.clone()
        other[:, frame, :, middle - 4 : middle + 4, 28:36] = 0
        said.clear()
        for each in (videos, other):
            model.backbone.rebuild(each, codes, motion)
        assert torch.equal(said[0], said[1]) == hidden


def test_the_decoder_may_know_all_of_the_player_but_the_way_it_faces(variants: Any, vary: Any) -> None:
    """A mirrored player changes nothing that it says, in whatever frame; another one does."""
    model = LatentActionModel(vary(variants["centred"], {"latent_action_model.centre_shown": "mirrored"}))
    videos, codes = inputs(model), torch.randn(2, 5, 8)
    motion = model.backbone.encode(videos, torch.float32).motion
    said: list[Tensor] = []
    model.backbone.decoder.register_forward_hook(lambda _, __, output: said.append(output))
    rows = columns = slice(28, 36)
    for frame in (0, 2):
        for change, hidden in ((lambda square: square.flip(-1), True), (lambda square: square.flip(-2), False)):
            other = videos.clone()
            other[:, frame, :, rows, columns] = change(videos[:, frame, :, rows, columns])
            said.clear()
            for each in (videos, other):
                model.backbone.rebuild(each, codes, motion)
            assert torch.allclose(said[0], said[1], atol=1e-6) == hidden


def test_the_centre_counts_by_its_weight(variants: Any, vary: Any, shake: Any) -> None:
    """Error = that of the frame + weight x that of the centre, each in units of copying."""
    errors = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        model = shake(LatentActionModel(vary(variants["centred"], {"latent_action_model.centre_weight": weight})))
        error, metrics = rebuild(model, inputs(model), torch.ones(2, 5, 8))
        errors.append(error.item() - weight * metrics["centre"].item())
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("kind", ["additive", "st-lam"])
def test_the_margin_of_the_frame_rebuilt_does_not_count(variants: Any, vary: Any, shake: Any, kind: str) -> None:
    """Its pixels change no error; those beside it, and the margin of frames that the decoder sees, do."""
    config = vary(variants[kind], {"latent_action_model.error_margin": 3})
    model = shake(LatentActionModel(config))
    videos, codes = inputs(model, frames=2), torch.randn(2, 1, 8)
    error = rebuild(model, videos, codes)[0]
    for frame, column, counts in ((1, 2, False), (1, 3, True), (0, 2, True), (1, -3, False), (1, -4, True)):
        other = videos.clone()
        other[:, frame, :, :, column] = 0
        assert torch.equal(rebuild(model, other, codes)[0], error) != counts
        other = videos.clone()
        other[:, frame, :, column] = 0
        assert torch.equal(rebuild(model, other, codes)[0], error) != counts


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_inputs(make_world: Make, kind: str) -> None:
    model = make_world(kind).latent_action_model
    with pytest.raises(ValueError, match=r"at least 2 frames .* got 1"):
        model.label(inputs(model, frames=1))
    wrong = torch.full((2, 4, 16), 64) if model.reads_tokens else torch.zeros(2, 4, 3, 32, 64)
    with pytest.raises(ValueError, match="got 64..64" if model.reads_tokens else r"got \(2, 4, 3, 32, 64\)"):
        model.loss(wrong)
