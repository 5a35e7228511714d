"""The last phase: latent action model and dynamics together, on a frozen tokenizer (Genie, sec. 2.1)."""

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import VectorQuantizer
from genie_gym.training.checkpoint import NAME
from genie_gym.training.loop import Batches, step_seed, train
from genie_gym.training.token_cache import TokenCache

PICTURE_ROWS, PROMPT_FRAMES = 4, 2


class DynamicsTrainee(nn.Module):
    """The dynamics as the loop wants it, under the labels of a latent action model; the rest only looks on."""

    def __init__(self, world: GenieWorldModel, cache: TokenCache | None = None) -> None:
        super().__init__()
        self.dynamics = world.dynamics
        self._world = [world]  # in a list, so that it is no child: what is not trained is not saved
        self._cache = cache

    @property
    def world(self) -> GenieWorldModel:
        """The world in training."""
        return self._world[0]

    def loss(self, batch: Batch) -> LossOutput:
        """The dynamics' loss."""
        dynamics = self.dynamics.loss(self._tokens(batch), self.world.label(batch.videos))
        return LossOutput(dynamics.loss, _name_after("dynamics", dynamics.metrics))

    @torch.no_grad()
    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy under another video's latent actions minus under the true ones, same masks."""
        tokens, labels = self._tokens(batch), self.world.label(batch.videos)
        with torch.random.fork_rng([tokens.device] if tokens.is_cuda else []):
            true = self.dynamics.loss(tokens, labels).loss
        shuffled = self.dynamics.loss(tokens, labels.roll(1, dims=0)).loss
        return {"dynamics/shuffled_minus_true": shuffled - true}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Real frames over frames rolled out from their first ones and inferred latent actions."""
        real = batch.videos[:PICTURE_ROWS]
        labels = self.world.label(real)[:, PROMPT_FRAMES - 1 :]
        played = self.world.rollout(real[:, :PROMPT_FRAMES], labels, maskgit_steps=4)
        return {"played": rearrange(torch.stack([real, played]), "k b t c h w -> c (b k h) (t w)")}

    @torch.no_grad()
    def _tokens(self, batch: Batch) -> Tensor:
        return self.world.tokenizer.encode(batch.videos) if self._cache is None else self._cache.encode(batch)


class WorldTrainee(DynamicsTrainee):
    """The latent action model and the dynamics; the tokenizer only looks on."""

    def __init__(self, world: GenieWorldModel, cache: TokenCache | None = None) -> None:
        super().__init__(world, cache)
        del self.dynamics  # comes second: runs on disk have their optimiser's moments in this order
        self.latent_action_model, self.dynamics = world.latent_action_model, world.dynamics

    def loss(self, batch: Batch) -> LossOutput:
        """The sum of both losses; labels carry no gradient, so neither model sees the other's."""
        tokens = self._tokens(batch)
        model = self.latent_action_model
        actions, labels = model.loss_and_labels(tokens if model.reads_tokens else batch.videos)
        dynamics = self.dynamics.loss(tokens, labels)
        metrics = _name_after("lam", actions.metrics) | _name_after("dynamics", dynamics.metrics)
        return LossOutput(actions.loss + dynamics.loss, metrics)


def _name_after(model: str, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{model}/{name}": value for name, value in metrics.items()}


def train_world(  # noqa: PLR0913
    world: GenieWorldModel,
    batches: Batches,
    config: TrainConfig,
    out: Path,
    minutes: float | None = None,
    progress: bool = True,
    cache: TokenCache | None = None,
    actions_known: bool = False,
) -> int:
    """Train latent action model and dynamics on a trained, now frozen tokenizer. See ``training.loop.train``.

    A ``cache`` of this tokenizer and the batches' dataset saves time and changes nothing else. Where ``actions_known``
    the latent action model is trained already, and only labels.
    """
    world.set_precision(config.precision)
    world.tokenizer.eval().requires_grad_(False)
    if actions_known:
        world.latent_action_model.eval().requires_grad_(False)
    if config.compile:
        _compile(world)
    if not (out / NAME).exists():
        torch.manual_seed(step_seed(config.seed, -1))
        if isinstance(world.tokenizer.quantizer, VectorQuantizer):
            world.dynamics.initialise(world.tokenizer.quantizer.codebook)
    trainee = (DynamicsTrainee if actions_known else WorldTrainee)(world, cache)
    return train(trainee, batches, config, out, minutes, progress)


def train_dynamics(
    world: GenieWorldModel,
    batches: Batches,
    config: TrainConfig,
    out: Path,
    minutes: float | None = None,
    progress: bool = True,
) -> int:
    """Train the dynamics of a finished world further, and nothing else of it. See ``training.loop.train``."""
    world.set_precision(config.precision)
    world.eval().requires_grad_(False)
    world.dynamics.requires_grad_(True)
    if config.compile:
        _compile(world)
    return train(DynamicsTrainee(world), batches, config, out, minutes, progress)


def _compile(world: GenieWorldModel) -> None:
    """For the shapes that come, each anew: kernels for any shape are slower."""
    world.tokenizer.encoder.compile(dynamic=False)
    world.dynamics.transformer.compile(dynamic=False)
