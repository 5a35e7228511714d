"""Worlds as environments of Stable-Baselines3 (needs the extra ``sb3``)."""

import reprlib
from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from genie_gym.envs.genie_vector_env import GenieVectorEnv

ENTRY_POINT = f"{GenieVectorEnv.__module__}:{GenieVectorEnv.__name__}"
METHODS = ("get_action_meanings",)
"""Of ``GenieEnv``, that can be called on rows: what else it has is the vector environment's business."""


class GenieVecEnv(VecEnv):
    """A ``GenieVectorEnv`` as SB3 expects it: an ended episode restarts in the same step.

    Its transitions, and the infos of ended episodes (``terminal_observation``, ``TimeLimit.truncated``), are those of
    SB3's ``DummyVecEnv`` over as many single environments. Infos of all other steps are empty.

    Args:
        envs: With ``autoreset_mode=AutoresetMode.SAME_STEP``; closed with this.

    Raises:
        ValueError: If ``envs`` restarts in another way.
    """

    def __init__(self, envs: GenieVectorEnv) -> None:
        if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f"envs must have autoreset_mode SameStep, got {envs.autoreset_mode.value}")
        self._envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self._actions = np.zeros(self.num_envs, dtype=np.int64)

    def reset(self) -> VecEnvObs:
        """Start episodes in all rows, with the seeds of ``seed()`` and the options of ``set_options()``, once."""
        frames, infos = self._envs.reset(seed=self._seeds, options=_merge_options(self._options))
        self.reset_infos = [_info_of(infos, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return frames

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        frames, rewards, terminations, truncations, infos = self._envs.step(self._actions)
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        dones = terminations | truncations
        for row in np.flatnonzero(dones):
            told[row] = {
                "TimeLimit.truncated": bool(truncations[row] and not terminations[row]),
                "terminal_observation": infos["final_obs"][row],
            }
            self.reset_infos[row] = _info_of(infos, row)
        return frames, rewards.astype(np.float32), dones, told

    def close(self) -> None:
        self._envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """What all rows share, once a row."""
        return [getattr(self._envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set for all rows; they share one world.

        Raises:
            ValueError: If some rows are meant and not all.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"indices must be all {self.num_envs} rows, which share {attr_name!r}, got {indices!r}")
        setattr(self._envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of single environments, once a row.

        Raises:
            ValueError: If rows of one world cannot do that apart.
        """
        if method_name not in METHODS:
            raise ValueError(f"method_name must be one of {METHODS}, got {method_name!r}: rows share one world")
        method = getattr(self._envs, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The rows' present frames, where they are rendered."""
        frames = self._envs.render()
        return [None] * self.num_envs if frames is None else frames


def make_sb3_vec_env(
    env_id: str = "Genie-v0",
    num_envs: int = 1,
    *,
    seed: int | None = None,
    monitor_file: str | None = None,
    **kwargs: Any,
) -> VecMonitor:
    """Many rows of play in one world, for SB3's algorithms.

    ``PPO("CnnPolicy", make_sb3_vec_env("Genie-v0", num_envs=16, reward_fn=f)).learn(100_000)`` trains in the dream.

    Args:
        env_id: Registered by genie-gym.
        num_envs: Rows; one pass of the world serves all.
        seed: Of the first reset: row i gets ``seed + i``.
        monitor_file: CSV of episodes; SB3 logs their mean return and length without, too.
        **kwargs: Of ``GenieVectorEnv``, like ``reward_fn``, ``prompt``, ``checkpoint`` and ``max_episode_steps``.

    Raises:
        ValueError: Naming the argument and the value.
    """
    if gym.spec(env_id).vector_entry_point != ENTRY_POINT:
        raise ValueError(f"env_id must name an environment of genie-gym, got {env_id!r}")
    keywords = {"autoreset_mode": AutoresetMode.SAME_STEP, **kwargs}
    envs = gym.make_vec(env_id, num_envs, gym.VectorizeMode.VECTOR_ENTRY_POINT, **keywords)
    vec_env = GenieVecEnv(cast(GenieVectorEnv, envs))
    if seed is not None:
        vec_env.seed(seed)
    return VecMonitor(vec_env, monitor_file)


def _merge_options(options: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """SB3's options, one a row, as one of ``GenieVectorEnv``: ``prompt`` of a row is one of its ``prompts``."""
    if not any(options):
        return None
    unknown = sorted({name for each in options for name in each} - {"prompt"})
    if unknown:
        raise ValueError(f"options of reset must be among ['prompt'], got {unknown}")
    if not all("prompt" in each for each in options):
        raise ValueError(f"options must have a prompt for every row or for none, got {reprlib.repr(options)}")
    return {"prompts": [each["prompt"] for each in options]}


def _info_of(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """A row's own start among a vector environment's infos."""
    return {name: infos[name][row].item() for name in ("prompt_index", "world_seed")}
