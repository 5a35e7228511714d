"""The latent action model alone, where it is trained before the dynamics that it steers, or anew afterwards."""

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from genie_gym.configs import LatentActionConfig, TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.training.loop import BareTrainee, Batches, train


class ActionsTrainee(BareTrainee):
    """A latent action model on pixels as the loop wants it."""

    def __init__(self, model: LatentActionModel) -> None:
        super().__init__()
        self.latent_action_model = model

    def loss(self, batch: Batch) -> LossOutput:
        """The model's loss."""
        return self.latent_action_model.loss(batch.videos)


def train_actions(
    model: LatentActionModel,
    batches: Batches,
    config: TrainConfig,
    out: Path,
    minutes: float | None = None,
    progress: bool = True,
) -> int:
    """Train the model, from where the run in ``out`` stands. See ``training.loop.train``."""
    model.set_precision(config.precision)
    return train(ActionsTrainee(model), batches, config, out, minutes, progress)


def renew_actions(world: GenieWorldModel, part: LatentActionConfig) -> GenieWorldModel:
    """The same world with another latent action model, untrained; its actions have no names yet.

    Args:
        world: Left as it is.
        part: The new model, of as many actions.

    Raises:
        ValueError: If the number of actions differs.
    """
    config = replace(world.config, latent_action_model=part, action_names=())
    if config.num_latent_actions != world.config.num_latent_actions:
        wanted = world.config.num_latent_actions
        raise ValueError(f"part must have the world's {wanted} latent actions, got {config.num_latent_actions}")
    renewed = GenieWorldModel(config, copy.deepcopy(world.start_frames))
    renewed.tokenizer.load_state_dict(world.tokenizer.state_dict())
    renewed.dynamics.load_state_dict(world.dynamics.state_dict())
    return renewed


def begin_from(model: LatentActionModel, old: LatentActionModel) -> None:
    """Start with what fits of another model's networks; codes, and the layer that leads to them, are new."""
    own = model.state_dict()
    for name, weight in old.state_dict().items():
        is_kept = name.startswith("backbone.") and ".latent_out." not in name
        if is_kept and name in own and own[name].shape == weight.shape:
            own[name] = weight
    model.load_state_dict(own)


@torch.no_grad()
def translate_actions(world: GenieWorldModel, old_labels: Tensor, labels: Tensor) -> None:
    """Tell a dynamics that has learned the old actions of the new ones, so that it has less to learn.

    A new action is embedded as the old actions of its transitions are, in the mean; one that labels nothing as all of
    them.

    Args:
        world: Its dynamics is changed.
        old_labels: (...) int64, of the latent action model that the dynamics has learned from.
        labels: (...) int64, of the world's own, of the same transitions.
    """
    actions = world.config.num_latent_actions
    together = torch.bincount(labels.flatten() * actions + old_labels.flatten(), minlength=actions**2)
    counts = together.view(actions, actions).double()
    counts = torch.where(counts.sum(dim=1, keepdim=True) > 0, counts, counts.sum(dim=0))
    weight = world.dynamics.action_embedding.weight
    shares = (counts / counts.sum(dim=1, keepdim=True)).to(weight)
    weight[:actions] = shares @ weight[:actions]
