"""The last phase of training: dynamics and latent action model on a frozen tokenizer (Genie, sec. 2.1)."""

import torch
from einops import rearrange
from torch import Tensor

from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.quantizer import VectorQuantizer
from genie_gym.nn.ranks import roll_rows
from genie_gym.training.loop import Phase, Trainee
from genie_gym.training.real_actions import RealActions, hide_first_actions
from genie_gym.training.sharding import compile_blocks
from genie_gym.training.token_cache import TokenCache

_PICTURE_ROWS, _PROMPT_FRAMES = 4, 2


class DynamicsTrainee(Trainee):
    """Adapts the dynamics to the training loop, with labels of a frozen latent action model, or with real actions."""

    def __init__(
        self, world: GenieWorldModel, cache: TokenCache | None = None, real_actions: RealActions | None = None
    ) -> None:
        super().__init__()
        self.dynamics = world.dynamics
        self.frame_tokens = world.config.tokens_per_frame
        self._world = [world]  # in a list, so as not to be a submodule: frozen models are not saved with the run
        self._cache, self._real_actions = cache, real_actions

    @property
    def world(self) -> GenieWorldModel:
        """The world that is trained."""
        return self._world[0]

    def set_precision(self, precision: str) -> None:
        """Compute the features of dynamics and tokenizer in a precision; the frozen latent action model is float32.

        So the labels do not depend on the precision, and are those that agents learn from.
        """
        self.world.set_precision(precision)
        self.world.latent_action_model.set_precision("float32")

    def loss(self, batch: Batch) -> LossOutput:
        """Return the dynamics' loss under the labels of the latent action model, or under real actions."""
        actions = self._label(batch)
        if self._real_actions is not None:
            actions = hide_first_actions(actions, self.dynamics.no_action)
        dynamics = self.dynamics.loss(self._tokens(batch), actions)
        return LossOutput(dynamics.loss, _prefix("dynamics", dynamics.metrics))

    @torch.no_grad()
    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy with another video's actions minus that with its own ones, same masks."""
        tokens, labels = self._tokens(batch), self._label(batch)
        with torch.random.fork_rng([tokens.device] if tokens.is_cuda else []):
            true = self.dynamics.loss(tokens, labels).loss
        shuffled = self.dynamics.loss(tokens, roll_rows(labels)).loss
        return {"dynamics/shuffled_minus_true": shuffled - true}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return real frames above roll-outs from their first frames and inferred latent actions, or real ones."""
        shown = Batch(*(each[:_PICTURE_ROWS] for each in batch))
        real, labels = shown.videos, self._label(shown)[:, _PROMPT_FRAMES - 1 :]
        rollout = self.world.rollout(real[:, :_PROMPT_FRAMES], labels, maskgit_steps=4)
        return {"played": rearrange(torch.stack([real, rollout]), "k b t c h w -> c (b k h) (t w)")}

    def _label(self, batch: Batch) -> Tensor:
        return self.world.label(batch.videos) if self._real_actions is None else self._real_actions(batch)

    @torch.no_grad()
    def _tokens(self, batch: Batch) -> Tensor:
        return self.world.tokenizer.encode(batch.videos) if self._cache is None else self._cache.encode(batch)


class WorldTrainee(DynamicsTrainee):
    """Adapts the latent action model and the dynamics together to the training loop."""

    def __init__(self, world: GenieWorldModel, cache: TokenCache | None = None) -> None:
        super().__init__(world, cache)
        self.latent_action_model = world.latent_action_model

    def set_precision(self, precision: str) -> None:
        """Compute the features of all three models in a precision."""
        self.world.set_precision(precision)

    def loss(self, batch: Batch) -> LossOutput:
        """Return the sum of both losses; labels carry no gradient, so that neither trains the other model."""
        tokens = self._tokens(batch)
        model = self.latent_action_model
        actions, labels = model.loss_and_labels(tokens if model.reads_tokens else batch.videos)
        dynamics = self.dynamics.loss(tokens, labels)
        metrics = _prefix("lam", actions.metrics) | _prefix("dynamics", dynamics.metrics)
        return LossOutput(actions.loss + dynamics.loss, metrics)


def _prefix(model: str, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{model}/{name}": value for name, value in metrics.items()}


def train_world(
    world: GenieWorldModel,
    phase: Phase,
    cache: TokenCache | None = None,
    freezes_actions: bool = False,
    real_actions: RealActions | None = None,
) -> int:
    """Train dynamics and latent action model on a trained, now frozen tokenizer; return the number of steps done.

    Args:
        world: World to train.
        phase: Phase of training.
        cache: Tokens of the batches' dataset under this tokenizer; it saves time and changes no result. It is of one
            precision: a phase whose precision is ``auto`` has to be settled first (``settle_world``).
        freezes_actions: Whether the latent action model is already trained and now only labels transitions.
        real_actions: Real actions of the batches, for a world of real actions, whose dynamics alone is trained.
    """
    trainee = _adapt(world, freezes_actions, cache, real_actions)
    phase = phase.settle(trainee)
    if phase.config.compile:
        compile_blocks(world.tokenizer.encoder)
    if not phase.has_started:
        phase.seed_start()
        if isinstance(world.tokenizer.quantizer, VectorQuantizer):
            world.dynamics.initialise(world.tokenizer.quantizer.codebook)
    return phase.run(trainee)


def settle_world(
    world: GenieWorldModel, phase: Phase, freezes_actions: bool = False, real_actions: RealActions | None = None
) -> Phase:
    """Freeze what ``train_world`` does not train, and return the phase settled in a precision (``Phase.settle``)."""
    return phase.settle(_adapt(world, freezes_actions, None, real_actions))


def _adapt(
    world: GenieWorldModel, freezes_actions: bool, cache: TokenCache | None, real_actions: RealActions | None
) -> DynamicsTrainee:
    """Freeze what is not trained, and return what is."""
    world.tokenizer.eval().requires_grad_(False)
    if not freezes_actions and real_actions is None:
        return WorldTrainee(world, cache)
    world.latent_action_model.eval().requires_grad_(False)
    return DynamicsTrainee(world, cache, real_actions)


def train_dynamics(world: GenieWorldModel, phase: Phase) -> int:
    """Train the dynamics of a finished world further, and nothing else of it; return the number of steps done."""
    world.eval().requires_grad_(False)
    world.dynamics.requires_grad_(True)
    phase = phase.settle(DynamicsTrainee(world))
    if phase.config.compile:
        compile_blocks(world.tokenizer.encoder)
    return phase.run(DynamicsTrainee(world))
