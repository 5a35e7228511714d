"""What is there to play, once it is loaded."""

from typing import NamedTuple

import numpy as np

from genie_gym.envs.arguments import require_sampling
from genie_gym.envs.prompts import FittedPrompt, fit_prompt
from genie_gym.envs.text_to_image import load_text_to_image
from genie_gym.models.loading import digest_checkpoint
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.config import Opening
from genie_gym.play.drivers import Driver, load_driver
from genie_gym.play.seat import Start, Visitor
from genie_gym.serving import load_world

SEEDS = 2**31


class Opened(NamedTuple):
    """A world that is ready to be played."""

    world: GenieWorldModel
    digest: str
    """Of its checkpoint."""
    start: Start
    """Where games begin."""
    prompt: FittedPrompt | None
    """Where all of them begin, if a prompt was given."""
    driver: Driver | None
    """Who plays where a person asks for it."""
    maskgit_steps: int | None
    """Passes a frame; the world's where not given."""
    temperature: float | None
    """Of the sampling; the world's where not given."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the latent actions, in order; their numbers where they have none."""
        config = self.world.config
        return config.action_names or tuple(map(str, range(config.num_latent_actions)))

    def take_seat(self, undone: int) -> Visitor:
        """A game, not yet begun, of which ``undone`` frames can be taken back."""
        return Visitor(self.world, self.digest, self.maskgit_steps, self.temperature, undone)


def open_world(asked: Opening) -> Opened:
    """The world that is asked for and all that is played in it.

    Raises:
        ValueError: If a field is off.
        MissingExtraError: If a text is to be drawn and what draws it is missing.
    """
    require_sampling(asked.maskgit_steps, asked.temperature)
    driver = None if asked.policy is None else load_driver(asked.policy, asked.seed)
    world = load_world(asked.checkpoint, asked.device)
    prompt = _fit_prompt(asked, world.config.height, world.config.width)
    return Opened(
        world=world,
        digest=digest_checkpoint(asked.checkpoint),
        start=draw_starts(world, None if prompt is None else prompt.frames, asked.seed),
        prompt=prompt,
        driver=driver,
        maskgit_steps=asked.maskgit_steps,
        temperature=asked.temperature,
    )


def draw_starts(world: GenieWorldModel, prompt: np.ndarray | None, seed: int) -> Start:
    """Where games begin: always the prompt, or a start frame that is drawn; the first game has the seed itself.

    Raises:
        ValueError: If there is neither a prompt nor a start frame.
    """
    rng, seeds = np.random.default_rng(seed), iter([seed])
    if prompt is None and len(world.start_frames) == 0:
        raise ValueError("prompt must be given since this checkpoint ships no start frames, got None")

    def start() -> tuple[np.ndarray, int]:
        own = next(seeds, None)
        frames = world.start_frames[rng.integers(len(world.start_frames))][None] if prompt is None else prompt
        return frames, int(rng.integers(SEEDS)) if own is None else own

    return start


def _fit_prompt(asked: Opening, height: int, width: int) -> FittedPrompt | None:
    if asked.prompt is None:
        return None
    draw = None if asked.text_to_image is None else load_text_to_image(asked.text_to_image, asked.device, asked.seed)
    return fit_prompt(asked.prompt, height, width, draw, fit=asked.fit)
