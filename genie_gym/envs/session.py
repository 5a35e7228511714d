"""Rows of play in one world: the core that ``GenieEnv`` (one row) and ``GenieVectorEnv`` (many) share.

A row's episode follows from its ``Start`` and its actions alone, so a row of a batch equals a row by itself.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from genie_gym.data.frames import to_float, to_uint8
from genie_gym.envs.arguments import require_sampling
from genie_gym.envs.functions import find_function
from genie_gym.envs.prompts import PROMPT_FRAMES, Prompt, TextToImage, fit_prompt
from genie_gym.envs.reward_names import find_reward
from genie_gym.envs.rewards import RewardFunction, announce_zero_rewards, judge, zero_rewards
from genie_gym.envs.worlds import Checkpoint, open_world

WORLD_SEEDS = 2**31
"""A row's world seed is drawn below this."""


class Start(NamedTuple):
    """All that a row's episode begins with."""

    prompt: np.ndarray
    """(P, H, W, 3) uint8."""
    prompt_index: int
    """Of the shipped start frame, -1 for a prompt that was given."""
    world_seed: int
    """Of the world's sampling."""

    @property
    def info(self) -> dict[str, Any]:
        """What the environments tell of it, JSON-able."""
        return {"prompt_index": self.prompt_index, "world_seed": self.world_seed}


class Session:
    """B rows of play: prompts in, frames and rewards out."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        precision: str | None = None,
        maskgit_steps: int | None = None,
        temperature: float | None = None,
        reward_fn: RewardFunction | str | None = None,
        text_to_image: TextToImage | str | None = None,
    ) -> None:
        self.maskgit_steps, self.temperature = require_sampling(maskgit_steps, temperature)
        self.reward_fn = zero_rewards if reward_fn is None else find_reward(reward_fn)
        self.text_to_image = None if text_to_image is None else find_function("text_to_image", text_to_image)
        self.world = open_world(checkpoint, device, precision)
        config = self.world.config
        self.observation_space = spaces.Box(0, 255, (config.height, config.width, 3), np.uint8)
        self.action_space = spaces.Discrete(config.num_latent_actions)
        self._state: Any = None
        self._frames: np.ndarray | None = None
        if reward_fn is None:
            announce_zero_rewards()

    @property
    def action_meanings(self) -> list[str]:
        """The world's names of its latent actions, or their numbers."""
        config = self.world.config
        return list(config.action_names or map(str, range(config.num_latent_actions)))

    def load_prompt(self, prompt: Prompt | None, field: str = "prompt") -> np.ndarray | None:
        """(P, H, W, 3) uint8 of the world's size; None, a shipped start frame to be drawn, stays None."""
        if prompt is None:
            return None
        config = self.world.config
        longest = min(PROMPT_FRAMES, config.context_length)
        return fit_prompt(prompt, config.height, config.width, self.text_to_image, longest, field).frames

    def draw_start(self, generator: np.random.Generator, prompt: np.ndarray | None) -> Start:
        """A start that follows from the generator: its world seed, and its prompt where none is given.

        Raises:
            ValueError: If a start frame is wanted and the checkpoint ships none.
        """
        world_seed = int(generator.integers(WORLD_SEEDS))
        if prompt is not None:
            return Start(prompt, -1, world_seed)
        start_frames = self.world.start_frames
        if len(start_frames) == 0:
            raise ValueError("prompt must be given since this checkpoint ships no start frames, got None")
        index = int(generator.integers(len(start_frames)))
        return Start(start_frames[index][None], index, world_seed)

    @property
    def frames(self) -> np.ndarray:
        """(B, H, W, 3) uint8, the present, in memory of the caller's own.

        Raises:
            ResetNeeded: Before the first start.
        """
        return self._present().copy()

    def start(self, starts: Sequence[Start]) -> None:
        """Begin anew with one row for each start."""
        shortest = min(len(start.prompt) for start in starts)
        videos = to_float(np.stack([start.prompt[-shortest:] for start in starts]))
        self._state, frames = self.world.reset(
            videos,
            seeds=[start.world_seed for start in starts],
            maskgit_steps=self.maskgit_steps,
            temperature=self.temperature,
        )
        self._frames = to_uint8(frames)
        longer = [row for row, start in enumerate(starts) if len(start.prompt) > shortest]
        self.restart(longer, [starts[row] for row in longer])

    def restart(self, rows: Sequence[int], starts: Sequence[Start]) -> None:
        """Begin the named rows anew and leave the others as they are.

        Raises:
            ResetNeeded: Before the first ``start``.
        """
        present = self._present().copy()
        for length in {len(start.prompt) for start in starts}:
            same = [(row, start) for row, start in zip(rows, starts, strict=True) if len(start.prompt) == length]
            videos = to_float(np.stack([start.prompt for _, start in same]))
            seeds = [start.world_seed for _, start in same]
            some = [row for row, _ in same]
            self._state, frames = self.world.replace(self._state, some, videos, seeds)
            present[some] = to_uint8(frames)
        self._frames = present

    def step(self, latent_actions: np.ndarray, playing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One frame on, for all rows in one call of the world; judged for the rows that are playing.

        Args:
            latent_actions: (B,) int64 in [0, A).
            playing: (B,) bool; a row that is about to be restarted is not.

        Returns:
            (B,) float64 rewards and (B,) bool terminations, 0 and False where not playing.

        Raises:
            ResetNeeded: Before the first ``start``.
        """
        previous = self._present()
        rewards, terminations = np.zeros(len(previous)), np.zeros(len(previous), dtype=bool)
        if playing.any():
            self._state, frames = self.world.step(self._state, torch.from_numpy(latent_actions))
            self._frames = to_uint8(frames)
            seen = previous[playing], latent_actions[playing], self._frames[playing]
            rewards[playing], terminations[playing] = judge(self.reward_fn, *seen)
        return rewards, terminations

    def close(self) -> None:
        """Forget the rows; the world stays in its cache."""
        self._state = self._frames = None

    def _present(self) -> np.ndarray:
        if self._frames is None:
            raise ResetNeeded("reset() must be called before step() and render(), and again after close()")
        return self._frames
