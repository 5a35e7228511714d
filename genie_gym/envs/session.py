"""Rows of play in one world, on which ``GenieEnv`` (one row), ``GenieVectorEnv`` and ``genie-gym play`` are built.

A row's episode depends only on its ``Start`` and its latent actions, so a row of a batch equals a row played alone.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from genie_gym.configs import SamplingConfig
from genie_gym.data.fitting import Fit
from genie_gym.data.frames import to_float, to_uint8
from genie_gym.envs.arguments import require_observation, require_sampling
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES, FittedPrompt, Prompt, TextToImage, fit_prompt
from genie_gym.envs.rendering import playing_rate
from genie_gym.envs.reward_names import find_reward
from genie_gym.envs.rewards import RewardFunction, announce_zero_rewards, compute_rewards, sees_tokens, zero_rewards
from genie_gym.envs.state import EnvState, require_state
from genie_gym.envs.worlds import Checkpoint, open_world
from genie_gym.models.packed_rows import pack_row, place_rows, unpack_row
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.models.world_state import WorldState
from genie_gym.plugins import find_function
from genie_gym.serving.packing import playing_threads

WORLD_SEEDS = 2**31
"""Exclusive upper bound of the world seeds that are drawn."""


class NotStartedError(ResetNeeded, ValueError):
    """No episode has been started; also a ``ValueError``, which the server of the page reports to the visitor."""


class Start(NamedTuple):
    """The start of a row's episode; with the latent actions, it determines every frame."""

    prompt: np.ndarray
    """prompt frames, (P, H, W, 3) uint8"""
    prompt_index: int
    """index of the shipped start clip, -1 for a prompt given by the caller"""
    world_seed: int
    """seed of the world's sampling"""

    @property
    def info(self) -> dict[str, Any]:
        """The JSON-able entries that the environments put into the info of a reset."""
        return {"prompt_index": self.prompt_index, "world_seed": self.world_seed}


class Session:
    """B rows of play in one world: starts and latent actions in; tokens, frames and rewards out.

    Frames are decoded when somebody reads them. A decoder that looks back in time is the exception: it decodes each.

    A copy, or what is read from a pickle, goes on as the original would, in the same world.

    Args:
        checkpoint: As in ``GenieEnv``, like the six arguments after it.
        undo_steps: Number of successive steps that ``undo`` can take back; each one kept costs memory.
        observation: As in ``GenieEnv``.

    Raises:
        ValueError: If an argument is invalid; the message names it and its value.
    """

    def __init__(  # noqa: PLR0913
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        precision: str | None = None,
        maskgit_steps: int | None = None,
        temperature: float | None = None,
        reward_fn: RewardFunction | str | None = None,
        text_to_image: TextToImage | str | None = None,
        undo_steps: int = 0,
        observation: str = "pixels",
    ) -> None:
        self.maskgit_steps, self.temperature = require_sampling(maskgit_steps, temperature)
        self.reward_fn = zero_rewards if reward_fn is None else find_reward(reward_fn)
        self.text_to_image = None if text_to_image is None else find_function("text_to_image", text_to_image)
        self._handle = open_world(checkpoint, device, precision)
        config = self.world.config
        self.observation = require_observation(observation)
        self.observation_space: spaces.Box[Any] = spaces.Box(0, 255, (config.height, config.width, 3), np.uint8)
        if self.observation == "tokens":
            highest, dtype = config.tokenizer.quantizer.codes - 1, np.dtype(np.int32)
            self.observation_space = spaces.Box(0, highest, config.grid, dtype)
        self.action_space = spaces.Discrete(config.num_latent_actions)
        self._state: Any = None
        self._frames: np.ndarray | None = None  # decoded frames of the present state, None until they are read
        self._past: deque[tuple[Any, np.ndarray | None]] = deque(maxlen=undo_steps)
        if reward_fn is None:
            announce_zero_rewards()

    @property
    def world(self) -> GenieWorldModel:
        """The world that is played, which copies and pickles of the session do not hold."""
        return self._handle.world

    @property
    def action_meanings(self) -> list[str]:
        """The names of the latent actions, or their numbers if the world has no names for them."""
        config = self.world.config
        return list(config.action_names or map(str, range(config.num_latent_actions)))

    @property
    def fps(self) -> float:
        """Frames a second at which the world was learned and is shown."""
        return playing_rate(self.world.config)

    @property
    def sampling(self) -> SamplingConfig:
        """The checkpoint's sampling config with this session's MaskGIT steps and temperature."""
        return self.world.sampling(self.maskgit_steps, self.temperature)

    @property
    def frames(self) -> np.ndarray:
        """A copy of the present frames, (B, H, W, 3) uint8; errors as in ``require_started``."""
        return self._decode().copy()

    @property
    def tokens(self) -> np.ndarray:
        """A copy of the present tokens, (B, rows, columns) int32 in [0, K); errors as in ``require_started``."""
        tokens = self.require_started().tokens[:, 0].to("cpu", torch.int32)
        return tokens.unflatten(1, self.world.config.grid).numpy()

    @property
    def observations(self) -> np.ndarray:
        """A copy of what agents see: ``frames`` or ``tokens``."""
        return self.tokens if self.observation == "tokens" else self.frames

    @property
    def codebook(self) -> np.ndarray:
        """The code of each token, (K, D) float32, by which a network can embed tokens."""
        quantizer = self.world.tokenizer.quantizer
        tokens = torch.arange(self.world.config.tokenizer.quantizer.codes, device=self.world.device)
        return quantizer.lookup(tokens).float().cpu().numpy()

    def require_started(self) -> WorldState:
        """Return the present state of the world.

        Raises:
            NotStartedError: Before the first ``start``, and after ``close``.
        """
        if self._state is None:
            raise NotStartedError("reset() must be called before step() and render(), and again after close()")
        return self._state

    def fit_prompt(self, prompt: Prompt, field: str = "prompt", fit: Fit = "crop") -> FittedPrompt:
        """Convert a prompt to frames of the world's size; ``field`` names it in errors."""
        config = self.world.config
        longest = min(MAX_PROMPT_FRAMES, config.context_length)
        return fit_prompt(prompt, config.height, config.width, self.text_to_image, longest, field, fit)

    def load_prompt(self, prompt: Prompt | None, field: str = "prompt") -> np.ndarray | None:
        """Return a prompt's frames, (P, H, W, 3) uint8; None, for a start clip to be drawn, stays None."""
        return None if prompt is None else self.fit_prompt(prompt, field).frames

    def draw_start(
        self, generator: np.random.Generator, prompt: np.ndarray | None, world_seed: int | None = None
    ) -> Start:
        """Draw the start of an episode.

        Args:
            generator: Source of the world seed, and then of the start clip's index.
            prompt: (P, H, W, 3) uint8; None draws one of the start clips shipped with the checkpoint.
            world_seed: World seed to use instead of drawing one.

        Raises:
            ValueError: If ``prompt`` is None and the checkpoint ships no start clips.
        """
        if world_seed is None:
            world_seed = int(generator.integers(WORLD_SEEDS))
        if prompt is not None:
            return Start(prompt, -1, world_seed)
        start_clips = self.world.start_clips
        if len(start_clips) == 0:
            raise ValueError("prompt must be given since this checkpoint ships no start clips, got None")
        index = int(generator.integers(len(start_clips)))
        return Start(start_clips[index], index, world_seed)

    def start(self, starts: Sequence[Start]) -> None:
        """Start new episodes, one row for each start.

        All rows start with as many prompt frames as the shortest prompt has; rows with longer prompts then restart.
        """
        shortest = min(len(start.prompt) for start in starts)
        videos = to_float(np.stack([start.prompt[-shortest:] for start in starts]))
        seeds = [start.world_seed for start in starts]
        self._state, self._frames = self.world.begin(videos, seeds, self.maskgit_steps, self.temperature), None
        longer = [row for row, start in enumerate(starts) if len(start.prompt) > shortest]
        self.restart(longer, [starts[row] for row in longer])

    def restart(self, rows: Sequence[int], starts: Sequence[Start]) -> None:
        """Start new episodes in the given rows and leave the others unchanged; earlier steps cannot be undone.

        Raises:
            NotStartedError: Before the first ``start``.
        """
        self.require_started()
        self._past.clear()
        frames = None if self._frames is None else self._frames.copy()
        for length in {len(start.prompt) for start in starts}:
            same = [(row, start) for row, start in zip(rows, starts, strict=True) if len(start.prompt) == length]
            videos = to_float(np.stack([start.prompt for _, start in same]))
            some, seeds = [row for row, _ in same], [start.world_seed for _, start in same]
            self._state = self.world.restart(self._state, some, videos, seeds)
            if frames is not None:
                frames[some] = to_uint8(self.world.show(self._state, some))
        self._frames = frames

    def clone(self, row: int, prompt_index: int, world_seed: int, steps: int, is_over: bool) -> EnvState:
        """Return a copy of the state of one row; see ``EnvState`` for what the caller tells of it.

        Raises:
            NotStartedError: Before the first ``start``.
        """
        tensors = pack_row(self.require_started(), row)
        return EnvState(tensors, prompt_index, world_seed, steps, is_over, self._handle)

    def require_state(self, state: Any, field: str = "state") -> EnvState:
        """Return a state after checking that it is one of this world; ``field`` names it in errors."""
        return require_state(state, self._handle, field)

    def restore(self, rows: Sequence[int], states: Sequence[EnvState], has_all: bool) -> None:
        """Let rows go on from states, one for each, sampled as this session samples; earlier steps cannot be undone.

        Args:
            rows: R different row numbers.
            states: R states of this world.
            has_all: Whether these are all rows, so that nothing has to be started before.

        Raises:
            NotStartedError: If some rows are restored before the first ``start``.
            ValueError: If a state is damaged or of another precision.
        """
        settings = self.maskgit_steps, self.temperature
        unpacked = [unpack_row(self.world, state.tensors, *settings) for state in states]
        if has_all:
            self._state = self.world.join([unpacked[rows.index(row)] for row in range(len(rows))])
        else:
            self._state = place_rows(self.require_started(), rows, unpacked)
        self._frames = None
        self._past.clear()

    def step(self, latent_actions: np.ndarray, playing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Generate the next frame of all rows in one pass of the world, and reward the rows that are playing.

        Args:
            latent_actions: (B,) int64 in [0, A).
            playing: (B,) bool, False for rows that are about to be restarted.

        Returns:
            (B,) float64 rewards and (B,) bool terminations; 0 and False for rows that are not playing.

        Raises:
            NotStartedError: Before the first ``start``.
        """
        self.require_started()
        rewards, terminations = np.zeros(len(playing)), np.zeros(len(playing), dtype=bool)
        if playing.any():
            previous, step_back = self._read_for_reward(), self._remember()
            with playing_threads(self.world):
                self._advance(step_back, self.world.advance(self._state, torch.from_numpy(latent_actions)), None)
                present = self._read_for_reward()
            seen = previous[playing], latent_actions[playing], present[playing]
            rewards[playing], terminations[playing] = compute_rewards(self.reward_fn, *seen)
        return rewards, terminations

    def undo(self) -> bool:
        """Take back the last step of all rows.

        Returns:
            Whether there was a step to take back: at most ``undo_steps`` successive ones, and none before a (re)start.

        Raises:
            NotStartedError: Before the first ``start``.
        """
        self.require_started()
        if not self._past:
            return False
        step_back, self._frames = self._past.pop()
        self._state = self.world.undo(self._state, step_back)
        return True

    def close(self) -> None:
        """Forget all rows; the world stays in its process-wide cache."""
        self._state = self._frames = None
        self._past.clear()

    def _decode(self) -> np.ndarray:
        """Return the present frames, (B, H, W, 3) uint8, without a copy: they must not be written to."""
        state = self.require_started()
        if self._frames is None:
            self._frames = to_uint8(self.world.show(state))
        return self._frames

    def _read_for_reward(self) -> np.ndarray:
        """Return what the reward function reads of the present state, without a copy."""
        return self.tokens if sees_tokens(self.reward_fn) else self._decode()

    def _remember(self) -> Any:
        """Return what ``undo`` needs of the present state, before the step that overwrites it."""
        return self.world.remember(self._state) if self._past.maxlen else None

    def _advance(self, step_back: Any, state: Any, frames: np.ndarray | None) -> None:
        """Keep the present frames for ``undo``, and make the new state and frames the present ones."""
        self._past.append((step_back, self._frames))  # a deque of length 0 drops it
        self._state, self._frames = state, frames


def step_together(sessions: Sequence[Session], latent_actions: np.ndarray) -> None:
    """Step several sessions of one row each in a single pass of the world they share, without rewards.

    Args:
        sessions: S different sessions with the same world and sampling config.
        latent_actions: (S,) int64 in [0, A), one for each session.

    Raises:
        NotStartedError: If a session has not been started.
        ValueError: If the sessions' sampling configs differ.
    """
    if len(sessions) == 1:  # spares the copies that join and split make
        sessions[0].step(latent_actions, np.array([True]))
        return
    for session in sessions:
        session.require_started()
    world = sessions[0].world
    steps_back = [session._remember() for session in sessions]
    joined, shown = world.step(world.join([session._state for session in sessions]), torch.from_numpy(latent_actions))
    frames = to_uint8(shown)
    for row, (session, state) in enumerate(zip(sessions, world.split(joined), strict=True)):
        session._advance(steps_back[row], state, frames[row : row + 1])
