"""The latent action model: one code per transition, causal, and a decoder that never sees the frame it predicts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.world_model import GenieWorldModel

KINDS = ["additive", "st-lam", "token-lam", "fsq", "moving", "boxed"]
"""World variants; those without ``lam`` in their name have a convolutional latent action model."""
Make = Callable[[str], GenieWorldModel]


def inputs(model: LatentActionModel, batch: int = 2, frames: int = 6, seed: int = 0) -> Tensor:
    """Return noise in the form that the model reads: videos or tokens."""
    generator = torch.Generator().manual_seed(seed)
    if model.reads_tokens:
        return torch.randint(64, (batch, frames, model.config.tokens_per_frame), generator=generator)
    return torch.rand(batch, frames, 3, model.config.height, model.config.width, generator=generator)


def other_frame(model: LatentActionModel, before: Tensor, index: int) -> Tensor:
    after = before.clone()
    after[:, index] = inputs(model, len(before), 1, seed=1)[:, 0]
    return after


def reconstruct(model: LatentActionModel, videos: Tensor, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the backbone's error and metrics for given codes, as in the loss."""
    motion = model.backbone.encode(videos, torch.float32).motion
    return model.backbone.reconstruction_loss(videos, codes, motion)  # type: ignore[no-any-return]


def predictions(model: LatentActionModel, videos: Tensor, codes: Tensor) -> Tensor:
    """Return the decoder's output (T - 1, ...) for given codes, as in the loss."""
    caught: list[Any] = []
    hook = model.backbone.decoder.register_forward_hook(lambda _, __, output: caught.append(output))
    reconstruct(model, videos, codes)
    hook.remove()
    if isinstance(caught[0], tuple):
        return caught[0][0]
    return caught[0].unflatten(0, (len(videos), -1)).transpose(0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_do_not_depend_on_later_frames(make_world: Make, kind: str) -> None:
    """Transitions that end before a changed frame keep label and latent; the one that ends in it changes."""
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
def test_the_decoder_does_not_see_the_frame_it_predicts(make_world: Make, kind: str) -> None:
    """The prediction of frame t + 1 depends on frames up to t and on codes up to that of transition t."""
    model = make_world(kind).latent_action_model
    before, codes = inputs(model), torch.randn(2, 5, 2 if kind == "fsq" else 8)
    old = predictions(model, before, codes)
    changes = (predictions(model, other_frame(model, before, 3), codes) - old).abs().flatten(1).amax(dim=1)
    assert (changes[:3] < 1e-6).all()  # entry 2 predicts frame 3
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
def test_the_loss_returns_the_same_labels_as_label(make_world: Make, kind: str) -> None:
    """In eval mode, without batch statistics and restarts."""
    model = make_world(kind).latent_action_model
    videos = inputs(model)
    output, labels = model.loss_and_labels(videos)
    assert torch.equal(labels, model.label(videos))
    assert torch.equal(output.loss, model.loss(videos).loss)
    assert not labels.requires_grad
    assert not any(metric.requires_grad for metric in output.metrics.values())


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_get_gradients(make_world: Make, kind: str) -> None:
    model = make_world(kind).latent_action_model.train().requires_grad_()
    model.loss(inputs(model, 4)).loss.backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == ["backbone.hidden_frame"] * (model.config.latent_action_model.backbone == "st")


def test_hidden_frames_are_never_the_first(variants: Any, vary: Any, shake: Any) -> None:
    """With a share of 1, and in training only, the decoder sees frame 0 and the codes alone."""
    config = vary(variants["st-lam"], {"latent_action_model.hidden_frames": 1.0})
    model = shake(LatentActionModel(config))
    before, codes = inputs(model), torch.randn(2, 5, 8)
    middle, first = other_frame(model, before, 2), other_frame(model, before, 0)
    old = predictions(model, before, codes)
    assert torch.equal(predictions(model, middle, codes), old)
    assert not torch.allclose(predictions(model, first, codes), old, atol=1e-3)
    model.eval()
    assert not torch.allclose(predictions(model, middle, codes), predictions(model, before, codes), atol=1e-3)


def test_the_loss_of_a_still_video_is_finite(make_world: Make) -> None:
    model = make_world("additive").latent_action_model
    output = model.loss(torch.full((2, 4, 3, 64, 64), 0.3))
    assert torch.isfinite(output.loss)


class ConstantDecoder(torch.nn.Module):
    """A decoder that returns the same changes for all inputs."""

    def __init__(self, changes: Tensor) -> None:
        super().__init__()
        self.changes = changes

    def forward(self, *_: Tensor) -> Tensor:
        return self.changes


def test_the_error_is_relative_to_that_of_copying(make_world: Make) -> None:
    """Changes are 0.1, predicted exactly, and 0.01, of which half is missed: 0.005^2 / (0.1^2 + 0.01^2)."""
    model = make_world("additive").latent_action_model
    videos = torch.full((2, 2, 3, model.config.height, model.config.width), 0.5)
    videos[0, 1] += 0.1
    videos[1, 1] += 0.01
    model.backbone.decoder = ConstantDecoder(torch.stack([videos[0, 1] - 0.5, (videos[1, 1] - 0.5) / 2]))
    error, _ = reconstruct(model, videos, torch.zeros(2, 1, 8))
    assert error.item() == pytest.approx(0.25 / 101, rel=1e-4)


@pytest.mark.parametrize(("kind", "is_blind"), [("additive", False), ("moving", True)])
def test_codes_of_a_moving_decoder_carry_no_colours(make_world: Make, kind: str, is_blind: bool) -> None:
    """On a picture of one colour shifts change nothing, so all codes predict the same unless they may paint."""
    model = make_world(kind).latent_action_model
    videos = torch.full((2, 4, 3, 64, 64), 0.3)
    first, second = (predictions(model, videos, torch.randn(2, 3, 8)) for _ in range(2))
    assert torch.allclose(first, second, atol=1e-5) == is_blind


def test_the_first_transition_is_left_out_of_the_moving_loss(make_world: Make) -> None:
    """No motion is known before it; a clip with no other transition keeps it."""
    model = make_world("moving").latent_action_model
    videos, codes = inputs(model), torch.randn(2, 5, 8)
    others = codes.clone()
    others[:, 0] += 1
    assert torch.equal(reconstruct(model, videos, others)[0], reconstruct(model, videos, codes)[0])
    assert not torch.equal(
        reconstruct(model, videos[:, :2], others[:, :1])[0], reconstruct(model, videos[:, :2], codes[:, :1])[0]
    )


def test_the_decoder_does_not_see_the_direction_the_agent_faces(make_world: Make) -> None:
    """Mirroring the agent in any frame does not change the decoder's output; flipping it upside down does."""
    model = make_world("boxed").latent_action_model
    videos, codes = inputs(model), torch.randn(2, 5, 8)
    motion = model.backbone.encode(videos, torch.float32).motion
    outputs: list[Tensor] = []
    model.backbone.decoder.register_forward_hook(lambda _, __, output: outputs.append(output))
    rows = columns = slice(28, 36)
    for frame in (0, 2):
        for change, hidden in ((lambda square: square.flip(-1), True), (lambda square: square.flip(-2), False)):
            other = videos.clone()
            other[:, frame, :, rows, columns] = change(videos[:, frame, :, rows, columns])
            outputs.clear()
            for each in (videos, other):
                model.backbone.reconstruction_loss(each, codes, motion)
            assert torch.allclose(outputs[0], outputs[1], atol=1e-6) == hidden


def test_the_error_in_the_box_of_the_agent_is_weighted(variants: Any, vary: Any, shake: Any) -> None:
    """The error is that of the frame plus weight x that of the box, each relative to copying."""
    errors = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        model = shake(LatentActionModel(vary(variants["boxed"], {"latent_action_model.agent_weight": weight})))
        error, metrics = reconstruct(model, inputs(model), torch.ones(2, 5, 8))
        errors.append(error.item() - weight * metrics["agent_box"].item())
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-5)


def test_the_margin_of_the_predicted_frame_is_left_out_of_the_error(variants: Any, vary: Any, shake: Any) -> None:
    """Pixels inside it, and the margin of frames that the decoder sees, change the error."""
    config = vary(variants["moving"], {"latent_action_model.reach": 3})
    model = shake(LatentActionModel(config))
    videos, codes = inputs(model, frames=2), torch.randn(2, 1, 8)
    error = reconstruct(model, videos, codes)[0]
    for frame, column, counts in ((1, 2, False), (1, 3, True), (0, 2, True), (1, -3, False), (1, -4, True)):
        other = videos.clone()
        other[:, frame, :, :, column] = 0
        assert torch.equal(reconstruct(model, other, codes)[0], error) != counts
        other = videos.clone()
        other[:, frame, :, column] = 0
        assert torch.equal(reconstruct(model, other, codes)[0], error) != counts


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_inputs_are_refused(make_world: Make, kind: str) -> None:
    model = make_world(kind).latent_action_model
    with pytest.raises(ValueError, match=r"at least 2 frames .* got 1"):
        model.label(inputs(model, frames=1))
    wrong = torch.full((2, 4, 16), 64) if model.reads_tokens else torch.zeros(2, 4, 3, 32, 64)
    with pytest.raises(ValueError, match="got 64..64" if model.reads_tokens else r"got \(2, 4, 3, 32, 64\)"):
        model.loss(wrong)
