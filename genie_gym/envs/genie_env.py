"""``Genie-v0``: one row of play in a world."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import logger
from gymnasium.error import ResetNeeded

from genie_gym.envs.arguments import require_latent_actions, require_options
from genie_gym.envs.prompts import Prompt, TextToImage
from genie_gym.envs.rendering import FRAMES_PER_SECOND, Window, modes_here, require_render_mode
from genie_gym.envs.rewards import RewardFunction
from genie_gym.envs.session import Session
from genie_gym.envs.worlds import Checkpoint


class GenieEnv(gym.Env[np.ndarray, np.int64]):
    """A world that was learned from videos, as an environment.

    Observations are frames, ``Box(0, 255, (H, W, 3), uint8)``; actions are the world's latent actions,
    ``Discrete(A)``. Episodes start from a prompt and end when ``reward_fn`` says so, or by the limit that
    ``gym.make`` puts around. ``reset(seed=...)`` decides everything that follows, and a reset without a seed
    goes on from there. Infos of ``reset`` say how to repeat an episode: ``prompt_index`` and ``world_seed``.

    Args:
        prompt: Where episodes start: an image, 1 to 4 frames, a path, a text (see ``envs.prompts``); None
            draws one of the checkpoint's start frames. Give paths as str to keep ``env.spec`` JSON-able.
        checkpoint: A shipped checkpoint's name, a path, or ``WorldHandle(world)``.
        maskgit_steps: Passes of the dynamics a frame; None for the checkpoint's.
        temperature: Of sampling; None for the checkpoint's.
        device: Where torch computes; a handle's world stays where it is, and as precise as it is.
        precision: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for what the device is fastest in (see
            ``models.base.native_precision``); None for the checkpoint's.
        render_mode: ``rgb_array``, or ``human`` for a window (needs pygame).
        reward_fn: A ``RewardFunction``, its ``"module:name"``, or one of ours as ``"goal:picture.png"``,
            ``"learned:folder"``, ``"agreement:folder"`` (see ``envs.reward_names``); without one all rewards are 0.
        text_to_image: Text to PIL image or array, or its ``"module:name"``; for prompts that are texts.

    Raises:
        ValueError: Naming the argument and the value.
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
    ) -> None:
        require_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        # The class names all modes, for gym.make; the instance those that check_env can try on this machine.
        self.metadata = {**self.metadata, "render_modes": modes_here(self.metadata["render_modes"])}
        self._session = Session(checkpoint, device, precision, maskgit_steps, temperature, reward_fn, text_to_image)
        self.observation_space = self._session.observation_space
        self.action_space = self._session.action_space
        self._prompt = self._session.load_prompt(prompt)
        self._window = Window("Genie") if render_mode == "human" else None
        self._is_over = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Of all that follows; None goes on with the present generator.
            options: ``prompt``: where this episode starts, instead of the environment's own prompt.

        Returns:
            (H, W, 3) uint8, and the info ``prompt_index`` (-1 for a prompt that was given), ``world_seed``.

        Raises:
            ValueError: Naming the option or prompt and its value.
        """
        super().reset(seed=seed)
        options = require_options(options, "prompt")
        prompt = self._session.load_prompt(options["prompt"]) if "prompt" in options else self._prompt
        start = self._session.draw_start(self.np_random, prompt)
        self._session.start([start])
        self._is_over = False
        return self._observe(), start.info

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take a latent action.

        Returns:
            (H, W, 3) uint8, the reward, whether ``reward_fn`` ended the episode, False, and an empty info.

        Raises:
            ValueError: If the action is no integer in [0, A).
            ResetNeeded: Before the first reset, and after an episode's end.
        """
        if self._is_over:
            raise ResetNeeded("reset() must be called before step(): reward_fn ended this episode")
        actions = require_latent_actions(action, (), int(self._session.action_space.n))[None]
        rewards, terminations = self._session.step(actions, np.array([True]))
        self._is_over = bool(terminations[0])
        return self._observe(), float(rewards[0]), self._is_over, False, {}

    def render(self) -> np.ndarray | None:
        """The present frame, (H, W, 3) uint8; None where a window shows it."""
        if self.render_mode is None:
            logger.warn('render() without a render_mode: make it with gym.make("Genie-v0", render_mode="rgb_array")')
            return None
        frame = self._session.frames[0]
        if self._window is None:
            return frame
        self._window.show(frame)
        return None

    def get_action_meanings(self) -> list[str]:
        """What each action is called, as Atari environments tell it; its number where the world has no names."""
        return self._session.action_meanings

    def close(self) -> None:
        """Close the window and forget the episode."""
        if self._window is not None:
            self._window.close()
        self._session.close()

    def _observe(self) -> np.ndarray:
        frame = self._session.frames[0]
        if self._window is not None:
            self._window.show(frame)
        return frame
