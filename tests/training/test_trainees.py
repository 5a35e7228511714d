"""Gradients of training: each model learns from its own loss alone, and the tokenizer stays frozen."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.training.tokenizer import TokenizerTrainee
from genie_gym.training.world import WorldTrainee

KINDS = ["additive", "token", "film", "fsq", "st-lam", "token-lam"]
Make = Callable[[str], GenieWorldModel]


def trainee(make_world: Make, kind: str) -> WorldTrainee:
    """Return a trainee in training mode, with a tokenizer that would take gradients if it got any."""
    made = WorldTrainee(make_world(kind).requires_grad_())
    made.train()
    return made


def batch_of(videos: Tensor) -> Batch:
    return Batch(videos, torch.arange(len(videos)))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_dynamics_stay_in_the_dynamics(
    make_world: Make, random_videos: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the other loss in the sum, no gradient reaches the latent action model or the tokenizer."""
    made = trainee(make_world, kind)
    real = made.latent_action_model.loss_and_labels

    def without_loss(inputs: Tensor) -> tuple[LossOutput, Tensor]:
        output, labels = real(inputs)
        return LossOutput(torch.zeros(()), output.metrics), labels

    monkeypatch.setattr(made.latent_action_model, "loss_and_labels", without_loss)
    made.loss(batch_of(random_videos(4, 5))).loss.backward()
    assert gradients(made.latent_action_model) == {}
    assert gradients(made.world.tokenizer) == {}
    assert "action_embedding.weight" in gradients(made.dynamics)


@pytest.mark.parametrize("kind", KINDS)
def test_the_latent_action_model_learns_from_its_own_loss(make_world: Make, random_videos: Any, kind: str) -> None:
    """Its gradients equal those of its loss alone bit for bit; the tokenizer gets none."""
    together, videos = trainee(make_world, kind), random_videos(4, 5)
    alone = copy.deepcopy(together.latent_action_model)
    torch.manual_seed(1)
    together.loss(batch_of(videos)).loss.backward()
    torch.manual_seed(1)
    tokens = together.world.tokenizer.encode(videos)
    alone.loss(tokens if alone.reads_tokens else videos).loss.backward()
    expected = gradients(alone)
    found = gradients(together.latent_action_model)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any("encoder" in name for name in found)
    assert any("decoder" in name for name in found)
    assert gradients(together.world.tokenizer) == {}


def test_training_does_not_touch_the_tokenizer(make_world: Make, random_videos: Any) -> None:
    """It is no submodule of the trainee: it stays in eval mode, is not saved, and keeps its codes."""
    made = trainee(make_world, "additive")
    before = copy.deepcopy(made.world.tokenizer.state_dict())
    made.loss(batch_of(random_videos(4, 5)))
    assert not made.world.tokenizer.training
    after = made.world.tokenizer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name.split(".")[0] for name in made.state_dict()} == {"latent_action_model", "dynamics"}


def test_the_losses_are_summed(make_world: Make, random_videos: Any) -> None:
    made = trainee(make_world, "additive")
    other = copy.deepcopy(made)
    torch.manual_seed(1)
    output = made.loss(batch_of(random_videos(4, 5)))
    torch.manual_seed(1)
    actions, labels = other.latent_action_model.loss_and_labels(random_videos(4, 5))
    dynamics = other.dynamics.loss(other.world.tokenizer.encode(random_videos(4, 5)), labels)
    assert torch.equal(output.loss, actions.loss + dynamics.loss)
    assert {"lam/perplexity", "lam/psnr", "dynamics/cross_entropy"} <= set(output.metrics)


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_compares_under_the_same_masks(make_world: Make, random_videos: Any, kind: str) -> None:
    """Identical videos have the same actions, so shuffling them costs exactly nothing; different videos differ."""
    made = trainee(make_world, kind).eval()
    alike = random_videos(1, 5).expand(4, -1, -1, -1, -1)
    assert made.probe(batch_of(alike))["dynamics/shuffled_minus_true"] == 0
    assert made.probe(batch_of(random_videos(8, 5)))["dynamics/shuffled_minus_true"] != 0


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_show_real_above_played_frames(make_world: Make, random_videos: Any, kind: str) -> None:
    """Four videos, each with its real frames above the played ones, side by side."""
    videos = random_videos(5, 6)
    picture = trainee(make_world, kind).eval().pictures(batch_of(videos))["played"]
    assert picture.shape == (3, 4 * 2 * 64, 6 * 64)
    assert torch.equal(picture[:, :64, 64:128], videos[0, 1])
    assert torch.equal(picture[:, 128:192, 64:128], videos[1, 1])
    assert 0 <= picture.min() < picture.max() <= 1


def test_pictures_show_real_above_reconstructed_frames(make_world: Make, random_videos: Any) -> None:
    videos = random_videos(2, 5)
    tokenizer = make_world("additive").tokenizer
    picture = TokenizerTrainee(tokenizer).eval().pictures(batch_of(videos))["rebuilt"]
    assert picture.shape == (3, 2 * 64, 5 * 64)
    assert torch.equal(picture[:, :64, 64:128], videos[0, 1])
    torch.testing.assert_close(picture[:, 64:, 64:128], tokenizer.decode(tokenizer.encode(videos))[0, 1])
