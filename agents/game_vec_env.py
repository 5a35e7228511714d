"""A batch of games as a vector environment of Stable-Baselines3."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from agents.game import Game, GameBatch


class GameVecEnv(VecEnv):
    """B games that reset in the step that ends an episode, as SB3 expects.

    Games do not show the frame in which an episode ends, so ``terminal_observation`` is the last frame before it. An
    episode that lasts the game's ``max_episode_steps`` counts as truncated (``TimeLimit.truncated``). ``close`` closes
    ``games``, which are open games of ``game``.
    """

    render_mode = "rgb_array"

    def __init__(self, game: Game, games: GameBatch) -> None:
        self._games, self._now, self._longest = games, games.observe(), game.max_episode_steps
        number = len(self._now.frames)
        observations = gym.spaces.Box(0, 255, (*game.frame_size, 3), np.uint8)
        super().__init__(number, observations, gym.spaces.Discrete(game.num_actions))
        self._lengths = np.zeros(number, dtype=np.int64)
        self._actions = np.zeros(number, dtype=np.int32)

    def reset(self) -> VecEnvObs:
        """Return the games' current frames: a level cannot be left before its episode ends."""
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
                "TimeLimit.truncated": bool(self._lengths[row] >= self._longest),
                "level_seed": int(self._now.level_seeds[row]),
            }
            self._lengths[row] = 0
        return self._now.frames.copy(), self._now.rewards.copy(), self._now.episode_starts.copy(), infos

    def close(self) -> None:
        self._games.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise ValueError(f"attr_name {attr_name!r} cannot be set: all games of the batch share their settings")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        raise ValueError(f"method_name {method_name!r} cannot be called: the games are one batch, not single ones")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self._now.frames)
