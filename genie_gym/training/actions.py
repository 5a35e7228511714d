"""The latent action model alone, where it is trained before the dynamics that it steers."""

from pathlib import Path

from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.latent_action_model import LatentActionModel
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
