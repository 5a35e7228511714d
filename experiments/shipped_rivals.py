"""Rivals in the shipped world: new dynamics, trained on its tokens and latent actions, which are computed once."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

import genie_gym
from experiments.rivals import record_levels
from genie_gym.config_io import vary
from genie_gym.configs import LatentActionConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.models.base import LossOutput
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import VectorQuantizer
from genie_gym.nn.weights import digest_weights
from genie_gym.presets import PRESETS
from genie_gym.training.loop import BareTrainee, Batches

CLIP_EVERY = 8
"""Frames between the starts of two clips whose tokens are kept."""


class Encoded:
    """Clips as tokens and latent actions of a finished world, computed once: ``numbers`` of batches are their rows.

    Args:
        world: Whose tokenizer and latent action model read the clips.
        dataset: The clips.
        path: File in which they are kept.
    """

    def __init__(self, world: GenieWorldModel, dataset: ClipDataset, path: Path) -> None:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(_encode(world, dataset), path)
        tensors = load_file(path)
        self.tokens, self.latent_actions = tensors["tokens"], tensors["latent_actions"]

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Batches of row numbers; there are no videos in them."""

        def draw(first: int, number: int) -> Iterator[Batch]:
            for index in range(first, first + number):
                rows = np.random.default_rng([seed, index]).integers(len(self.tokens), size=batch_size)
                yield Batch(torch.empty(batch_size, 0), torch.from_numpy(rows))

        return draw

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, N) tokens and (B, T - 1) latent actions, int64."""
        return self.tokens[rows].long(), self.latent_actions[rows].long()


class EncodedTrainee(BareTrainee):
    """A dynamics as the loop wants it, on encoded clips; watches its loss on held-out ones.

    Args:
        dynamics: To train.
        training: Clips to train on.
        held_out: Clips to watch.
    """

    def __init__(self, dynamics: MaskGITDynamics, training: Encoded, held_out: Encoded) -> None:
        super().__init__()
        self.dynamics, self._training, self._held_out = dynamics, training, held_out

    def loss(self, batch: Batch) -> LossOutput:
        """The dynamics' loss."""
        return self.dynamics.loss(*self._training.take(batch.numbers))

    @torch.no_grad()
    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Loss on held-out clips with masks that are always the same; also under another clip's latent actions."""
        tokens, latent_actions = self._held_out.take(torch.arange(min(64, len(self._held_out.tokens))))
        losses = {}
        for name, actions in (("held_out", latent_actions), ("shuffled", latent_actions.roll(1, dims=0))):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                losses[name] = self.dynamics.loss(tokens, actions).loss
        return losses


def digest_shipped() -> str:
    """12 hex digits of the shipped world's weights: rivals on another world's tokens are no rivals."""
    return digest_weights(genie_gym.load("coinrun", precision="float32"))[:12]


def build_rival(
    overrides: dict[str, Any], seed: int, device: str, latent_actions: LatentActionConfig | None = None
) -> GenieWorldModel:
    """The shipped world with a new, small dynamics.

    Args:
        overrides: Of the dynamics of the preset ``study``.
        seed: Of the new weights.
        device: Where to put it.
        latent_actions: Of a new latent action model too; ``None`` keeps the shipped one.
    """
    shipped = copy.deepcopy(genie_gym.load("coinrun", device, "float32"))
    config = replace(
        shipped.config,
        dynamics=vary(PRESETS["study"].world.dynamics, overrides),
        latent_action_model=latent_actions or shipped.config.latent_action_model,
        precision="float32",
    )
    torch.manual_seed(seed)
    world = GenieWorldModel(config, shipped.start_frames).to(device)
    world.tokenizer = shipped.tokenizer
    if latent_actions is None:
        world.latent_action_model = shipped.latent_action_model
    assert isinstance(shipped.tokenizer.quantizer, VectorQuantizer)
    world.dynamics.initialise(shipped.tokenizer.quantizer.codebook)
    return world


def encode_splits(work: Path, frames: int, seed: int) -> tuple[Encoded, Encoded]:
    """Clips of training and of validation levels as the shipped world's tokens and latent actions."""
    world, digest = genie_gym.load("coinrun", precision="float32"), digest_shipped()
    held_out = max(2_048, frames // 20)

    def encode(levels: str, count: int) -> Encoded:
        path = work / f"tokens-{digest}-{levels}-{count}-{seed}.safetensors"
        return Encoded(world, record_levels(work, levels, count, seed), path)

    return encode("training", frames), encode("validation", held_out)


@torch.no_grad()
def _encode(world: GenieWorldModel, dataset: ClipDataset, chunk: int = 32) -> dict[str, Tensor]:
    numbers = range(0, len(dataset), CLIP_EVERY)
    tokens, latent_actions = [], []
    for start in tqdm(range(0, len(numbers), chunk), desc="encoding clips", mininterval=5):
        videos = to_float(np.stack([dataset[number] for number in numbers[start : start + chunk]]))
        tokens.append(world.tokenizer.encode(videos).to(torch.int16))
        latent_actions.append(world.label(videos).to(torch.int16))
    return {"tokens": torch.cat(tokens), "latent_actions": torch.cat(latent_actions)}
