"""``Genie-v0`` as a single environment: one row of play in a world."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import logger
from gymnasium.error import ResetNeeded

from genie_gym.checks import require
from genie_gym.envs.arguments import require_latent_actions, require_options
from genie_gym.envs.keys import Keymap
from genie_gym.envs.prompts import Prompt, TextToImage
from genie_gym.envs.rendering import FRAMES_PER_SECOND, PygameWindow, available_modes, require_render_mode
from genie_gym.envs.rewards import RewardFunction
from genie_gym.envs.session import Session
from genie_gym.envs.state import EnvState
from genie_gym.envs.worlds import Checkpoint


class GenieEnv(gym.Env[np.ndarray, np.int64]):
    """A world learned from videos, as an environment.

    **Description.** The world generates the next frame from the last ones and a latent action. It was learned from
    videos without actions or rewards, and has no rules beyond what it has seen in them: scenery that has scrolled out
    of view may look different when it returns.

    **Observation space.** ``Box(0, 255, (H, W, 3), uint8)``: the present frame; (64, 64, 3) in the shipped world. With
    ``observation="tokens"`` ``Box(0, K - 1, (rows, columns), int32)``: the frame's tokens as the world draws them,
    (16, 16) with K = 1024 in the shipped world. ``codebook`` embeds them, and frames are decoded for ``render`` alone.

    **Action space.** ``Discrete(A)``: the world's latent actions, 8 in the shipped world. Their meanings were learned,
    too; ``get_action_meanings`` returns the names that people have given them since.

    **Rewards.** 0, or the values of ``reward_fn``.

    **Starting state.** The prompt, or a start clip of the checkpoint drawn with the seed: a few frames, which show how
    things move. The first observation is its last frame as the tokenizer reconstructs it. ``reset(seed=...)``
    determines everything that follows, including later resets without a seed. The info of each reset and step tells
    the start: ``prompt_index`` (-1 for a given prompt), ``world_seed``.

    **Episode end.** Terminated when ``reward_fn`` returns an end, truncated after the ``max_episode_steps`` of
    ``gym.make`` (default 1000).

    Args:
        prompt: Start of the episodes: an image, 1 to 4 frames, a path or a text (see ``envs.prompts``); None
            draws one of the checkpoint's start clips. Paths given as str keep ``env.spec`` JSON-able.
        checkpoint: Name of a shipped checkpoint, a folder, ``hf://USER/REPO``, or ``WorldHandle(world)``.
        maskgit_steps: MaskGIT steps per frame; more are slower. None for the checkpoint's.
        temperature: Temperature of the token sampling; None for the checkpoint's.
        device: Torch device to compute on; the world of a handle keeps its device and precision.
        precision: ``float32``, ``bfloat16``, or ``auto`` for the device's fastest (see
            ``serving.native_precision``); None for the checkpoint's.
        render_mode: ``rgb_array``, or ``human`` for a window (needs pygame).
        reward_fn: A ``RewardFunction``, its ``"module:name"``, or a reward of this package as ``"goal:picture.png"``,
            ``"learned:folder"`` or ``"agreement:folder"`` (see ``envs.reward_names``); None for zero rewards.
        text_to_image: Function from a text to a PIL image or array, or its ``"module:name"``; for prompts that are
            texts.
        observation: ``pixels`` or ``tokens``.

    Raises:
        ValueError: If an argument is invalid; the message names it and its value.
        DependencyNotInstalled: If ``render_mode`` is ``human`` and pygame is missing.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": FRAMES_PER_SECOND}  # noqa: RUF012

    def __init__(  # noqa: PLR0913
        self,
        prompt: Prompt | None = None,
        *,
        checkpoint: Checkpoint = "coinrun",
        maskgit_steps: int | None = None,
        temperature: float | None = None,
        device: str = "cpu",
        precision: str | None = None,
        render_mode: str | None = None,
        reward_fn: RewardFunction | str | None = None,
        text_to_image: TextToImage | str | None = None,
        observation: str = "pixels",
    ) -> None:
        require_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        settings = (device, precision, maskgit_steps, temperature, reward_fn, text_to_image)
        self._session = Session(checkpoint, *settings, observation=observation)
        # gym.make reads all modes from the class; check_env tries those of the instance, so it lists the possible ones.
        modes = available_modes(self.metadata["render_modes"])
        self.metadata = {**self.metadata, "render_modes": modes, "render_fps": self._session.fps}
        self.observation_space = self._session.observation_space
        self.action_space = self._session.action_space
        self._prompt = self._session.load_prompt(prompt)
        self._window = PygameWindow(self._session.fps) if render_mode == "human" else None
        self._info: dict[str, Any] = {}
        self._steps = 0
        self._is_over = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seed of this and all following episodes; None continues with the present generator.
            options: ``prompt``: start of this episode, instead of the environment's prompt; None draws a start clip.
                Or ``state``: a state of ``clone_state`` to start this episode from.

        Returns:
            The first observation, and the info: ``prompt_index`` (-1 for a given prompt), ``world_seed``.

        Raises:
            ValueError: If an option is unknown or a prompt invalid; the message names it.
        """
        options = require_options(options, "prompt", "state")
        require(len(options) < 2, "options of reset", sorted(options), "a prompt or a state, not both")
        state = self._session.require_state(options["state"]) if "state" in options else None
        prompt = self._session.load_prompt(options["prompt"]) if "prompt" in options else self._prompt
        if state is not None:
            self.restore_state(state)
        super().reset(seed=seed)
        if state is None:
            start = self._session.draw_start(self.np_random, prompt)
            self._session.start([start])
            self._info = start.info
        self._steps, self._is_over = 0, False
        return self._observe(), dict(self._info)

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take a latent action.

        Returns:
            The next observation, the reward, whether ``reward_fn`` ended the episode, False (``gym.make``
            adds truncation), and the info of the reset.

        Raises:
            ValueError: If the action is not an integer in [0, A).
            ResetNeeded: Before the first reset, and after the end of an episode.
        """
        if self._is_over:
            raise ResetNeeded("reset() must be called before step(): reward_fn ended this episode")
        actions = require_latent_actions(action, (), int(self._session.action_space.n))[None]
        rewards, terminations = self._session.step(actions, np.array([True]))
        self._steps, self._is_over = self._steps + 1, bool(terminations[0])
        return self._observe(), float(rewards[0]), self._is_over, False, dict(self._info)

    def clone_state(self) -> EnvState:
        """Return a copy of the present state, which can be restored any number of times, here or in another row.

        Raises:
            ResetNeeded: Before the first reset.
        """
        self._session.require_started()
        return self._session.clone(0, **self._info, steps=self._steps, is_over=self._is_over)

    def restore_state(self, state: EnvState) -> None:
        """Go on from a state: with the same latent actions the same frames follow. ``np_random`` stays as it is.

        Args:
            state: State of ``clone_state`` of any row of an environment of the same world; ``EnvState.from_bytes``
                reads one from a file. It is sampled as this environment samples.

        Raises:
            ValueError: If it is no state, or one of another world or precision; the present state is kept.
        """
        state = self._session.require_state(state)
        self._session.restore([0], [state], has_all=True)
        self._info, self._steps, self._is_over = state.info, state.steps, state.is_over

    def render(self) -> np.ndarray | None:
        """Return the present frame, (H, W, 3) uint8; None if a window shows it or there is no render mode."""
        if self.render_mode is None:
            logger.warn('render() without a render_mode: make it with gym.make("Genie-v0", render_mode="rgb_array")')
            return None
        frame = self._session.frames[0]
        if self._window is None:
            return frame
        self._window.show(frame)
        return None

    def get_action_meanings(self) -> list[str]:
        """Return the name of each latent action, as Atari environments do; its number if the world has no names."""
        return self._session.action_meanings

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """Return the latent action of each combination of keys, for ``gymnasium.utils.play.play(env)``.

        Arrows, WASD and digits have the meanings of ``genie-gym play``. Without a key, ``play`` takes its ``noop``, by
        default action 0.
        """
        return Keymap(self.get_action_meanings()).list_combinations()

    @property
    def codebook(self) -> np.ndarray:
        """The code of each token, (K, D) float32, by which a network can embed tokens."""
        return self._session.codebook

    def close(self) -> None:
        """Close the window and forget the episode."""
        if self._window is not None:
            self._window.close()
        self._session.close()

    def _observe(self) -> np.ndarray:
        """Show the present frame in the window, if there is one, and return the observation."""
        if self._window is not None:
            self._window.show(self._session.frames[0])
        observation: np.ndarray = self._session.observations[0]
        return observation
