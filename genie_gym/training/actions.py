"""Training the latent action model alone: before the dynamics, or anew for a finished world."""

import copy
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from genie_gym.configs import LatentActionConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.training.loop import Batches, Phase, Trainee
from genie_gym.training.merging import find_centres, merge_codes

_MERGING_PAIRS = 24_000
"""Number of pairs of successive codes that are counted to merge codes."""


class ActionsTrainee(Trainee):
    """Adapts a latent action model on pixels to the training loop."""

    def __init__(self, model: LatentActionModel) -> None:
        super().__init__()
        self.latent_action_model = model
        self.frame_tokens = model.config.tokens_per_frame

    def loss(self, batch: Batch) -> LossOutput:
        """Return the model's loss."""
        return self.latent_action_model.loss(batch.videos)


def train_actions(model: LatentActionModel, phase: Phase) -> int:
    """Train the latent action model alone, merge codes or latents if need be, and return the number of steps done."""
    done = phase.run(ActionsTrainee(model))
    if done == phase.config.train_steps and model.merged:
        merge_actions(model.eval(), phase.batches)
    return done


@torch.no_grad()
def merge_actions(model: LatentActionModel, batches: Batches) -> None:
    """Find the latent actions of a trained model in training clips: merged codes, or clusters of latents.

    The first transition of a clip is left out: its motion before is unknown.

    If fewer codes occur than there are latent actions, those without a code stay unused, and a line says so.

    Raises:
        ValueError: If clips have fewer than four frames.
    """
    read = model.encode if model.centres is None else model.latents
    sequences, pairs = [], 0
    for batch in batches(0, _MERGING_PAIRS):
        sequences.append(read(batch.videos)[:, 1:])
        if (pairs := pairs + sequences[-1][:, 1:].shape[:2].numel()) >= _MERGING_PAIRS:
            break
    if not pairs:
        raise ValueError("clip_length must be at least 4 to merge codes, since two transitions after the first count")
    found, actions = torch.cat(sequences).cpu(), model.config.num_latent_actions
    if model.centres is not None:
        model.centres.copy_(find_centres(found.flatten(0, 1), actions))
        return
    assert model.action_of_code is not None
    vectors = model.quantizer.lookup(torch.arange(len(model.action_of_code), device=batch.videos.device)).cpu()
    model.action_of_code.copy_(merge_codes(found, vectors, actions))
    used = int(model.action_of_code.max()) + 1
    if used < actions:
        tqdm.write(f"only {used} codes occur in the clips: {actions - used} of {actions} latent actions stay unused")


def renew_actions(world: GenieWorldModel, part: LatentActionConfig) -> GenieWorldModel:
    """Return the world with another latent action model, untrained; its actions lose their names.

    Args:
        world: World to copy.
        part: Config of the new model, with as many actions.

    Raises:
        ValueError: If the number of actions differs.
    """
    config = replace(world.config, latent_action_model=part, action_names=())
    wanted, given = world.config.num_latent_actions, config.num_latent_actions
    if given != wanted:
        raise ValueError(f"part must have the world's {wanted} latent actions, got {given}")
    renewed = GenieWorldModel(config, copy.deepcopy(world.start_clips))
    renewed.tokenizer.load_state_dict(world.tokenizer.state_dict())
    renewed.dynamics.load_state_dict(world.dynamics.state_dict())
    return renewed


def begin_from(model: LatentActionModel, old: LatentActionModel) -> None:
    """Copy the weights of ``old``'s networks that fit to ``model``; its codes and the layer before them stay new."""
    weights = model.state_dict()
    for name, weight in old.state_dict().items():
        is_copied = name.startswith("backbone.") and ".latent_out." not in name
        if is_copied and name in weights and weights[name].shape == weight.shape:
            weights[name] = weight
    model.load_state_dict(weights)


@torch.no_grad()
def translate_actions(world: GenieWorldModel, old_labels: Tensor, labels: Tensor) -> None:
    """Initialise the embeddings of new actions from those that the dynamics has learned for the old ones.

    Each is the mean embedding of the old actions of its transitions; an action without any gets the overall mean.

    Args:
        world: World whose dynamics is changed.
        old_labels: (...) int64 labels by the latent action model that the dynamics was trained with.
        labels: (...) int64 labels of the same transitions by the world's new latent action model.
    """
    actions = world.config.num_latent_actions
    pairs = torch.bincount(labels.flatten() * actions + old_labels.flatten(), minlength=actions**2)
    counts = pairs.view(actions, actions).double()
    counts = torch.where(counts.sum(dim=1, keepdim=True) > 0, counts, counts.sum(dim=0))
    weight = world.dynamics.action_embedding.weight
    shares = (counts / counts.sum(dim=1, keepdim=True)).to(weight)
    weight[:actions] = shares @ weight[:actions]
