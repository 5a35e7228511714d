"""The setup that visitors share: a loaded world, its prompt and policy, and the starts of their episodes."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from genie_gym.envs.prompts import FittedPrompt
from genie_gym.envs.rewards import zero_rewards
from genie_gym.envs.session import WORLD_SEEDS, Session, Start
from genie_gym.envs.text_to_image import load_text_to_image
from genie_gym.models.loading import digest_checkpoint
from genie_gym.play.config import PlayConfig
from genie_gym.play.drivers import Driver, load_driver
from genie_gym.play.visitor import Visitor


class PlaySetup(NamedTuple):
    """A loaded world and the settings that all its visitors share."""

    session: Session
    """session that holds the world; visitors play in sessions of their own"""
    digest: str
    """digest of the checkpoint, written into trajectories"""
    starts: Iterator[Start]
    """starts of the episodes, endless"""
    prompt: FittedPrompt | None
    """prompt that all episodes start from; None if start clips are drawn"""
    driver: Driver | None
    """policy that can play in a person's place"""

    def new_visitor(self, undo_steps: int) -> Visitor:
        """Create a visitor who has not started yet and can undo ``undo_steps`` successive steps."""
        sampling = self.session.maskgit_steps, self.session.temperature
        return Visitor(self.session.world, self.digest, *sampling, undo_steps)


def prepare_play(config: PlayConfig) -> PlaySetup:
    """Load the world, the prompt and the policy that a config names.

    Raises:
        ValueError: If a field is invalid; the message names it and its value.
        MissingExtraError: If the prompt is a text and the package that draws it is missing.
    """
    driver = None if config.policy is None else load_driver(config.policy, config.seed)
    spec = None if config.prompt is None else config.text_to_image
    draw = None if spec is None else load_text_to_image(spec, config.device, config.seed)
    sampling = config.maskgit_steps, config.temperature
    session = Session(config.checkpoint, config.device, None, *sampling, zero_rewards, draw)
    prompt = None if config.prompt is None else session.fit_prompt(config.prompt, fit=config.fit)
    starts = stream_starts(session, None if prompt is None else prompt.frames, config.seed)
    first = next(starts)  # fails before the page opens if there is neither a prompt nor a start clip
    return PlaySetup(session, digest_checkpoint(config.checkpoint), itertools.chain([first], starts), prompt, driver)


def stream_starts(session: Session, prompt: np.ndarray | None, seed: int) -> Iterator[Start]:
    """Yield the starts of successive episodes; the first one's world seed is ``seed`` itself.

    Raises:
        ValueError: If ``prompt`` is None and the checkpoint ships no start clips.
    """
    generator = np.random.default_rng(seed)
    yield session.draw_start(generator, prompt, seed)
    while True:  # index first, then world seed: this order decides which starts a seed gives
        start = session.draw_start(generator, prompt, world_seed=0)
        yield start._replace(world_seed=int(generator.integers(WORLD_SEEDS)))
