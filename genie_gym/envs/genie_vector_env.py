"""``Genie-v0`` as a vector environment: many rows of play, one pass of the world for all of them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from genie_gym.checks import is_integer, require
from genie_gym.envs import arguments
from genie_gym.envs.keys import Keymap
from genie_gym.envs.prompts import Prompt, TextToImage
from genie_gym.envs.rendering import FRAMES_PER_SECOND, require_render_mode
from genie_gym.envs.rewards import RewardFunction
from genie_gym.envs.session import Session
from genie_gym.envs.state import EnvState
from genie_gym.envs.worlds import Checkpoint

Seed = int | Sequence[int | None] | None
StepResult = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]
_OF_THE_BATCH = {"action_space": "single_action_space", "observation_space": "single_observation_space"}
"""Attributes of the batch -> those of a row."""
_METHODS = ("clone_state", "get_action_meanings", "get_keys_to_action", "render", "restore_state")
"""Methods of ``GenieEnv`` that can be called row by row; the others act on the whole batch."""


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
        self.max_episode_steps = max_episode_steps
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
        self._info = {name: np.zeros(num_envs, dtype=np.int64) for name in ("prompt_index", "world_seed")}
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._is_over = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Seed = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: An int (row i gets ``seed + i``), a list with one entry per row, or None to continue with the present
                generators.
            options: ``prompt`` for all rows or ``prompts`` with one per row, for these episodes only;
                or ``state`` or ``states`` of ``clone_state`` to start from, in the same way; ``reset_mask``,
                (num_envs,) bool: the rows to start, the others keep playing.

        Returns:
            The observations, (num_envs, ...), and the infos ``prompt_index`` and ``world_seed``.

        Raises:
            ValueError: If an option, seed or prompt is invalid; the message names it.
            ResetNeeded: If the first reset has a mask that leaves rows out.
        """
        options = arguments.require_options(options, "prompt", "prompts", "state", "states", "reset_mask")
        rows = arguments.require_mask(options.pop("reset_mask", None), self.num_envs)
        seeds = arguments.require_seeds(seed, self.num_envs)
        require(len(options) < 2, "options of reset", sorted(options), "one of prompt, prompts, state and states")
        states = self._require_states(options, rows)
        prompts = self._prompts
        if options and not states:
            prompts = self._load_prompts(options.get("prompt"), options.get("prompts"))
        if states:
            self.restore_state(states, rows.tolist())
            self._elapsed[rows], self._is_over[rows] = 0, False
        for row in rows:
            if seeds[row] is not None:
                self._generators[row], self._seeds[row] = seeding.np_random(seeds[row])
        if not states:
            self._start(rows, prompts)
        return self._session.observations, self._describe(rows)

    def step(self, actions: np.ndarray) -> StepResult:
        """Take one latent action per row.

        Args:
            actions: (num_envs,) integers in [0, A).

        Returns:
            (num_envs, ...) observations; (num_envs,) float64 rewards, bool terminations and truncations; infos:
            ``prompt_index`` and ``world_seed`` of the episode that a row is in, with ``SameStep`` also ``final_obs``
            and ``final_info`` of rows that restarted.

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
        self._start(np.flatnonzero(~playing), self._prompts)  # NextStep: rows whose episode ended a step ago
        self._is_over = terminations | truncations
        infos = self._autoreset_same_step() if self.autoreset_mode is AutoresetMode.SAME_STEP else {}
        infos |= self._describe(np.arange(self.num_envs))
        return self._session.observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return the rows' present frames, each (H, W, 3) uint8; None without a ``render_mode``."""
        return None if self.render_mode is None else tuple(self._session.frames)

    def get_action_meanings(self) -> list[str]:
        """Return the name of each latent action; its number if the world has no names."""
        return self._session.action_meanings

    def clone_state(self, row: int | None = None) -> EnvState | tuple[EnvState, ...]:
        """Return a copy of the state of one row, or of each row; see ``GenieEnv.clone_state``.

        Raises:
            ResetNeeded: Before the first reset.
            ValueError: If there is no such row.
        """
        if row is None:
            return tuple(self._clone(each) for each in range(self.num_envs))
        require(is_integer(row, 0, self.num_envs), "row", row, f"in [0, {self.num_envs})")
        return self._clone(int(row))

    def restore_state(self, state: EnvState | Sequence[EnvState], rows: Sequence[int] | int | None = None) -> None:
        """Let rows go on from states; see ``GenieEnv.restore_state``. A row's limit of steps counts on from there.

        Args:
            state: One state for all those rows, or one for each, of any row of an environment of the same world.
            rows: Row numbers; None for all.

        Raises:
            ResetNeeded: If only some rows are restored before the first reset.
            ValueError: If a state or a row is invalid; the present states are kept.
        """
        chosen: list[int] = list(range(self.num_envs)) if rows is None else np.atleast_1d(rows).tolist()
        fits = len(set(chosen)) == len(chosen) > 0 and all(is_integer(row, 0, self.num_envs) for row in chosen)
        require(fits, "rows", rows, f"different numbers in [0, {self.num_envs})")
        states = self._spread(state, len(chosen))
        self._session.restore(chosen, states, has_all=len(chosen) == self.num_envs)
        for row, each in zip(chosen, states, strict=True):
            self._elapsed[row], self._is_over[row] = each.steps, each.is_over
            for name, values in self._info.items():
                values[row] = each.info[name]

    def row_attribute(self, name: str, row: int) -> Any:
        """Return an attribute of one row, as its ``GenieEnv`` would have it.

        Raises:
            ValueError: If it is a method that acts on the whole batch.
        """
        if name in ("np_random", "np_random_seed"):
            return getattr(self, name)[row]
        if name == "clone_state":
            return partial(self.clone_state, row)
        if name == "restore_state":
            return partial(self.restore_state, rows=row)
        if name == "render":
            return lambda: None if (frames := self.render()) is None else frames[row]
        value = getattr(self, _OF_THE_BATCH.get(name, name))
        is_method = callable(value) and hasattr(value, "__self__")
        require(not is_method or name in _METHODS, "method", name, f"one of {_METHODS}: rows share one world")
        return value

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each row, or read an attribute of it, as ``SyncVectorEnv`` does.

        Raises:
            ValueError: If it is a method that acts on the whole batch.
        """
        values = [self.row_attribute(name, row) for row in range(self.num_envs)]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in values)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each row, such as ``action_space``."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute, which all rows share.

        Args:
            name: Attribute of the environment, such as ``max_episode_steps``.
            values: Its value, or a list or tuple with one for each row, all equal.

        Raises:
            ValueError: If rows would have different values, or the attribute is a row's own.
        """
        require(name not in _OF_THE_BATCH, "attribute to set", name, "one that rows share")
        given = values if isinstance(values, list | tuple) else [values] * self.num_envs
        fits = len(given) == self.num_envs and all(each is given[0] or each == given[0] for each in given)
        require(fits, f"values of {name}", values, f"one, or num_envs={self.num_envs} equal ones")
        setattr(self, name, given[0])

    @property
    def max_episode_steps(self) -> float:
        """Number of steps after which an episode is truncated; infinite for no limit, as None and -1 set it."""
        return self._max_episode_steps

    @max_episode_steps.setter
    def max_episode_steps(self, steps: Any) -> None:
        self._max_episode_steps = arguments.require_limit(steps)

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """Return the latent action of each combination of keys; see ``GenieEnv.get_keys_to_action``."""
        return Keymap(self.get_action_meanings()).list_combinations()

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

    def _start(self, rows: np.ndarray, prompts: list[np.ndarray | None]) -> None:
        """Start the next episodes of the given rows."""
        if len(rows) == 0:
            return
        starts = [self._session.draw_start(self._generators[row], prompts[row]) for row in rows]
        if len(rows) == self.num_envs:
            self._session.start(starts)
        else:
            self._session.restart(rows.tolist(), starts)
        self._elapsed[rows], self._is_over[rows] = 0, False
        for name, values in self._info.items():
            values[rows] = [start.info[name] for start in starts]

    def _describe(self, rows: np.ndarray) -> dict[str, Any]:
        """Return the infos of the given rows, laid out as ``SyncVectorEnv`` does."""
        infos: dict[str, Any] = {}
        for name, values in self._info.items():
            infos[name], infos[f"_{name}"] = np.zeros_like(values), np.zeros(self.num_envs, dtype=bool)
            infos[name][rows], infos[f"_{name}"][rows] = values[rows], True
        return infos

    def _autoreset_same_step(self) -> dict[str, Any]:
        """Restart the rows whose episode has just ended; return their last observations and infos."""
        infos: dict[str, Any] = {}
        rows = np.flatnonzero(self._is_over).tolist()
        if rows:
            last, starts = self._session.observations, {name: values.copy() for name, values in self._info.items()}
            self._start(np.array(rows), self._prompts)
            for row in rows:
                info = {name: int(values[row]) for name, values in starts.items()}
                infos = self._add_info(infos, {"final_obs": last[row].copy(), "final_info": info}, row)
        return infos

    def _clone(self, row: int) -> EnvState:
        self._session.require_started()
        info = {name: int(values[row]) for name, values in self._info.items()}
        return self._session.clone(row, **info, steps=int(self._elapsed[row]), is_over=bool(self._is_over[row]))

    def _spread(self, state: Any, rows: int, field: str = "state") -> list[EnvState]:
        """Return a list of ``rows`` states of this world, from one state or a list of them."""
        if not isinstance(state, list | tuple):
            return [self._session.require_state(state, field)] * rows
        require(len(state) == rows, field, f"{len(state)} states", f"one state, or a list of {rows}")
        return [self._session.require_state(each, f"{field}[{number}]") for number, each in enumerate(state)]

    def _require_states(self, options: dict[str, Any], rows: np.ndarray) -> list[EnvState]:
        """Return the states in the options of a reset, one for each of the given rows; empty if there are none."""
        if "state" in options:
            return [self._session.require_state(options["state"])] * len(rows)
        if "states" not in options:
            return []
        require(isinstance(options["states"], list | tuple), "states", options["states"], "a list of states")
        states = self._spread(options["states"], self.num_envs, "states")
        return [states[row] for row in rows]

    def _load_prompts(self, prompt: Prompt | None, prompts: Any) -> list[np.ndarray | None]:
        """Return one prompt per row as frames of the world's size; None stands for a start clip to be drawn."""
        if prompts is None:
            return [self._session.load_prompt(prompt)] * self.num_envs
        if prompt is not None:
            raise ValueError("prompt and prompts exclude each other, got both")
        fits = isinstance(prompts, list | tuple) and len(prompts) == self.num_envs
        require(fits, "prompts", prompts, f"a list of num_envs={self.num_envs}")
        return [self._session.load_prompt(one, f"prompts[{row}]") for row, one in enumerate(prompts)]
