"""Procgen's games as a vector environment of Stable-Baselines3."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from genie_gym.data.procgen import FRAME_SIZE, MAX_GAME_STEPS, NUM_REAL_ACTIONS, Games


class ProcgenVecEnv(VecEnv):
    """B games with same-step reset, as SB3 expects them.

    Procgen draws no frame of the moment an episode ends: ``terminal_observation`` is the last frame before it. An
    episode that ends after 1,000 steps is told as truncated (``TimeLimit.truncated``).

    Args:
        games: Opened by ``open_games``; closed with the environment.
    """

    render_mode = "rgb_array"

    def __init__(self, games: Games) -> None:
        self._games, self._now = games, games.observe()
        number = len(self._now.frames)
        observations = gym.spaces.Box(0, 255, (FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        super().__init__(number, observations, gym.spaces.Discrete(NUM_REAL_ACTIONS))
        self._lengths = np.zeros(number, dtype=np.int64)
        self._actions = np.zeros(number, dtype=np.int32)

    def reset(self) -> VecEnvObs:
        """What the games show: Procgen starts no level before the last one has ended."""
        self._reset_seeds()
        self._reset_options()
        return self._now.frames.copy()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = np.asarray(actions, dtype=np.int32)

    def step_wait(self) -> VecEnvStepReturn:
        before = self._now.frames.copy()
        self._games.act(self._actions)
        self._now = self._games.observe()
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(self._now.episode_starts):
            infos[row] = {
                "terminal_observation": before[row],
                "TimeLimit.truncated": bool(self._lengths[row] >= MAX_GAME_STEPS),
                "level_seed": int(self._now.level_seeds[row]),
            }
            self._lengths[row] = 0
        return self._now.frames.copy(), self._now.rewards.copy(), self._now.episode_starts.copy(), infos

    def close(self) -> None:
        self._games.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise ValueError(f"attr_name {attr_name!r} cannot be set: Procgen's games share their settings")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        raise ValueError(f"method_name {method_name!r} cannot be called: Procgen's games are no environments apart")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self._now.frames)
