"""New latent actions for a finished world."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from genie_gym.configs import QuantizerConfig, WorldConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.training.actions import begin_from, renew_actions, translate_actions

Make = Callable[[str], GenieWorldModel]


def test_renewing_latent_actions_keeps_the_rest_of_a_world(make_world: Make, variants: dict[str, WorldConfig]) -> None:
    old, part = make_world("moving"), variants["boxed"].latent_action_model
    new = renew_actions(old, part)
    assert new.config == replace(old.config, latent_action_model=part, action_names=())
    assert (new.start_clips == old.start_clips).all()
    for name, weight in old.state_dict().items():
        if not name.startswith("latent_action_model."):
            assert torch.equal(weight, new.state_dict()[name]), name
    weights = [world.dynamics.action_embedding.weight for world in (old, new)]
    assert weights[0].data_ptr() != weights[1].data_ptr()


def test_another_number_of_latent_actions_is_refused(make_world: Make) -> None:
    world = make_world("moving")
    part = replace(world.config.latent_action_model, quantizer=QuantizerConfig(codes=6, dim=16))
    with pytest.raises(ValueError, match="part must have the world's 8 latent actions, got 6"):
        renew_actions(world, part)


def test_a_model_begins_with_the_weights_that_fit_and_with_new_codes(
    make_world: Make, variants: dict[str, WorldConfig]
) -> None:
    """A decoder with an agent's box has a network for it that others lack, which stays new."""
    old = make_world("moving").latent_action_model
    new = renew_actions(make_world("moving"), variants["boxed"].latent_action_model).latent_action_model
    before = {name: weight.clone() for name, weight in new.state_dict().items()}
    begin_from(new, old)
    after, given = new.state_dict(), old.state_dict()
    for name in ("backbone.encoder.out.weight", "backbone.motion_out.weight", "backbone.decoder.shifts.weight"):
        assert torch.equal(after[name], given[name])
    for name in ("backbone.latent_out.weight", "quantizer.codebook", "latent_norm.running_mean"):
        assert torch.equal(after[name], before[name])
        assert not torch.equal(after[name], given[name])
    own = [name for name in after if ".player." in name]
    assert own
    assert all(name not in given and torch.equal(after[name], before[name]) for name in own)


def test_new_actions_are_embedded_as_the_old_ones_of_their_transitions(make_world: Make) -> None:
    """Action 0 was 3, action 1 was 3 or 5, and action 2 labels nothing and gets the overall mean."""
    world = make_world("film")
    before = world.dynamics.action_embedding.weight.clone()
    translate_actions(world, torch.tensor([[3, 3], [5, 3]]), torch.tensor([[0, 1], [1, 0]]))
    after = world.dynamics.action_embedding.weight
    assert torch.equal(after[0], before[3])
    assert torch.allclose(after[1], (before[3] + before[5]) / 2)
    assert torch.allclose(after[2], (3 * before[3] + before[5]) / 4)
    assert torch.equal(after[8], before[8])  # the embedding of frames without an action
