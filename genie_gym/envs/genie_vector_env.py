"""``Genie-v0`` as a vector environment: many rows of play, one pass of the world for all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from genie_gym.checks import require
from genie_gym.envs import arguments
from genie_gym.envs.prompts import Prompt, TextToImage
from genie_gym.envs.rendering import FRAMES_PER_SECOND, require_render_mode
from genie_gym.envs.rewards import RewardFunction
from genie_gym.envs.session import Session
from genie_gym.envs.worlds import Checkpoint

Seed = int | Sequence[int | None] | None
StepResult = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class GenieVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """A batch of environments in one world; each row equals a ``GenieEnv`` with that row's seed.

    **Observation and action space.** ``Box(0, 255, (num_envs, H, W, 3), uint8)`` and ``MultiDiscrete([A] * num_envs)``:
    the frames and latent actions of ``GenieEnv``, one row for each environment. With ``observation="tokens"``
    ``Box(0, K - 1, (num_envs, rows, columns), int32)``.

    **Rewards, starting state and episode end.** As in ``GenieEnv``, row by row. Row i of ``reset(seed=s)`` has the
    seed ``s + i``; ``autoreset_mode`` decides how the next episode of a row starts.

    Args:
        num_envs: Number of rows.
        prompt: Start of the episodes of all rows, as in ``GenieEnv``.
        prompts: One prompt for each row, instead of ``prompt``; None among them draws a start clip.
        checkpoint: As in ``GenieEnv``, like ``observation`` and the seven arguments after it; the only
            ``render_mode`` is ``rgb_array``.
        max_episode_steps: Number of steps after which an episode is truncated; None or -1 for no limit.
        autoreset_mode: ``AutoresetMode`` or its value. ``NextStep``: the step after the end of an episode ignores the
            row's action, starts the next episode and has reward 0. ``SameStep``: the step that ends an episode returns
            the first frame of the next one, and the last frame in ``infos["final_obs"]``. ``Disabled``: the caller
            restarts rows with ``reset(options={"reset_mask": ...})``.

    Raises:
        ValueError: If an argument is invalid; the message names it and its value.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND}  # noqa: RUF012

    def __init__(  # noqa: PLR0913
        self,
        num_envs: int = 1,
        prompt: Prompt | None = None,
        *,
        prompts: Sequence[Prompt | None] | None = None,
        checkpoint: Checkpoint = "coinrun",
        maskgit_steps: int | None = None,
        temperature: float | None = None,
        device: str = "cpu",
        precision: str | None = None,
        render_mode: str | None = None,
        reward_fn: RewardFunction | str | None = None,
        text_to_image: TextToImage | str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        observation: str = "pixels",
    ) -> None:
        require_render_mode(render_mode, self.metadata["render_modes"])
        self.num_envs = arguments.require_count("num_envs", num_envs)
        self.render_mode = render_mode
        self.autoreset_mode = arguments.require_autoreset_mode(autoreset_mode)
        self.max_episode_steps = arguments.require_limit(max_episode_steps)
        settings = (device, precision, maskgit_steps, temperature, reward_fn, text_to_image)
        self._session = Session(checkpoint, *settings, observation=observation)
        changes = {"autoreset_mode": self.autoreset_mode, "render_fps": self._session.fps}
        self.metadata = {**self.metadata, **changes}
        self.single_observation_space = self._session.observation_space
        self.single_action_space = self._session.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._prompts = self._load_prompts(prompt, prompts)
        self._generators, self._seeds = map(list, zip(*(seeding.np_random() for _ in range(num_envs)), strict=True))
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._is_over = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Seed = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: An int (row i gets ``seed + i``), a list with one entry per row, or None to continue with the present
                generators.
            options: ``prompt`` for all rows or ``prompts`` with one per row, for these episodes only;
                ``reset_mask``, (num_envs,) bool: the rows to start, the others keep playing.

        Returns:
            The observations, (num_envs, ...), and the infos ``prompt_index`` and ``world_seed``.

        Raises:
            ValueError: If an option, seed or prompt is invalid; the message names it.
            ResetNeeded: If the first reset has a mask that leaves rows out.
        """
        options = arguments.require_options(options, "prompt", "prompts", "reset_mask")
        rows = arguments.require_mask(options.pop("reset_mask", None), self.num_envs)
        seeds = arguments.require_seeds(seed, self.num_envs)
        prompts = self._load_prompts(options.get("prompt"), options.get("prompts")) if options else self._prompts
        for row in rows:
            if seeds[row] is not None:
                self._generators[row], self._seeds[row] = seeding.np_random(seeds[row])
        infos = self._start(rows, prompts)
        return self._session.observations, infos

    def step(self, actions: np.ndarray) -> StepResult:
        """Take one latent action per row.

        Args:
            actions: (num_envs,) integers in [0, A).

        Returns:
            (num_envs, ...) observations; (num_envs,) float64 rewards, bool terminations and truncations; infos:
            ``prompt_index`` and ``world_seed`` of rows that restarted, with ``SameStep`` also ``final_obs``.

        Raises:
            ValueError: If the actions have another shape, type or range.
            ResetNeeded: Before the first reset, and if a row's episode is over and autoreset is disabled.
        """
        latent_actions = arguments.require_latent_actions(actions, (self.num_envs,), int(self._session.action_space.n))
        if self.autoreset_mode is AutoresetMode.DISABLED and self._is_over.any():
            rows = np.flatnonzero(self._is_over).tolist()
            raise ResetNeeded(f"reset(options={{'reset_mask': ...}}) must restart the ended rows {rows} before step()")
        playing = ~self._is_over
        rewards, terminations = self._session.step(latent_actions, playing)
        self._elapsed[playing] += 1
        truncations = playing & (self._elapsed >= self.max_episode_steps)
        infos = self._start(np.flatnonzero(~playing), self._prompts)  # NextStep: rows whose episode ended a step ago
        self._is_over = terminations | truncations
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._autoreset_same_step()
        return self._session.observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return the rows' present frames, each (H, W, 3) uint8; None without a ``render_mode``."""
        return None if self.render_mode is None else tuple(self._session.frames)

    def get_action_meanings(self) -> list[str]:
        """Return the name of each latent action; its number if the world has no names."""
        return self._session.action_meanings

    @property
    def codebook(self) -> np.ndarray:
        """The code of each token, (K, D) float32, by which a network can embed tokens."""
        return self._session.codebook

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the episodes."""
        self._session.close()

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random generator of each row, as in ``SyncVectorEnv``."""
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each row, as in ``SyncVectorEnv``."""
        return tuple(self._seeds)

    def _start(self, rows: np.ndarray, prompts: list[np.ndarray | None]) -> dict[str, Any]:
        """Start the next episodes of the given rows and return their infos."""
        infos: dict[str, Any] = {}
        if len(rows) == 0:
            return infos
        starts = [self._session.draw_start(self._generators[row], prompts[row]) for row in rows]
        if len(rows) == self.num_envs:
            self._session.start(starts)
        else:
            self._session.restart(rows.tolist(), starts)
        self._elapsed[rows], self._is_over[rows] = 0, False
        for row, start in zip(rows.tolist(), starts, strict=True):
            infos = self._add_info(infos, start.info, row)
        return infos

    def _autoreset_same_step(self) -> dict[str, Any]:
        """Restart the rows whose episode has just ended; the infos keep their last observations."""
        rows, last = np.flatnonzero(self._is_over), self._session.observations
        infos = self._start(rows, self._prompts)
        for row in rows.tolist():
            infos = self._add_info(infos, {"final_obs": last[row].copy(), "final_info": {}}, row)
        return infos

    def _load_prompts(self, prompt: Prompt | None, prompts: Any) -> list[np.ndarray | None]:
        """Return one prompt per row as frames of the world's size; None stands for a start clip to be drawn."""
        if prompts is None:
            return [self._session.load_prompt(prompt)] * self.num_envs
        if prompt is not None:
            raise ValueError("prompt and prompts exclude each other, got both")
        fits = isinstance(prompts, list | tuple) and len(prompts) == self.num_envs
        require(fits, "prompts", prompts, f"a list of num_envs={self.num_envs}")
        return [self._session.load_prompt(one, f"prompts[{row}]") for row, one in enumerate(prompts)]
