"""Worlds as vector environments of Stable-Baselines3, and networks over their tokens (needs the extra ``sb3``)."""

import reprlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from gymnasium.vector import AutoresetMode

from genie_gym.checks import require
from genie_gym.envs.arguments import require_count, require_options
from genie_gym.envs.genie_vector_env import GenieVectorEnv
from genie_gym.extras import need_extra
from genie_gym.nn.convolution import ImpalaEncoder
from genie_gym.nn.layers import Linear
from genie_gym.serving import native_precision

with need_extra("sb3", "genie_gym.sb3 needs Stable-Baselines3"):
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

_ENTRY_POINT = f"{GenieVectorEnv.__module__}:{GenieVectorEnv.__name__}"


class GenieVecEnv(VecEnv):
    """Wraps a ``GenieVectorEnv`` as an SB3 ``VecEnv``: an ended episode restarts in the same step.

    Transitions and infos equal those of SB3's ``DummyVecEnv`` over as many single environments. It can be copied and
    pickled like its ``GenieVectorEnv``; SB3's wrappers around it, such as ``VecMonitor``, cannot.

    Args:
        envs: Vector environment with ``autoreset_mode=AutoresetMode.SAME_STEP``; ``close`` closes it too.

    Raises:
        ValueError: If ``envs`` has another autoreset mode.
    """

    def __init__(self, envs: GenieVectorEnv) -> None:
        if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f"envs must have autoreset_mode SameStep, got {envs.autoreset_mode.value}")
        self._envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self._actions = np.zeros(self.num_envs, dtype=np.int64)

    def reset(self) -> VecEnvObs:
        """Start episodes in all rows and return their first observations.

        The seeds of ``seed()`` and the options of ``set_options()`` apply to this reset only.
        """
        frames, infos = self._envs.reset(seed=self._seeds, options=_merge_options(self._options))
        self.reset_infos = [_info_of(infos, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return frames

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        frames, rewards, terminations, truncations, infos = self._envs.step(self._actions)
        dones, step_infos = terminations | truncations, []
        cut = truncations & ~terminations
        for row in range(self.num_envs):
            info = _info_of(infos, row)
            if dones[row]:
                self.reset_infos[row] = info
                info = {**_info_of(infos["final_info"], row), "terminal_observation": infos["final_obs"][row]}
            step_infos.append({**info, "TimeLimit.truncated": bool(cut[row])})
        return frames, rewards.astype(np.float32), dones, step_infos

    def close(self) -> None:
        self._envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return a list with the attribute of each row, as its ``GenieEnv`` would have it."""
        return [self._envs.row_attribute(attr_name, row) for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute, which all rows share.

        Raises:
            ValueError: If ``indices`` selects only some of the rows.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"indices must be all {self.num_envs} rows, which share {attr_name!r}, got {indices!r}")
        self._envs.set_attr(attr_name, [value] * self.num_envs)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of single environments once for each row.

        Raises:
            ValueError: If the method cannot be called on single rows of one world.
        """
        methods = self.get_attr(method_name, indices)
        return [method(*method_args, **method_kwargs) for method in methods]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return the present frame of each row, (H, W, 3) uint8; None for each row if there is no render mode."""
        frames = self._envs.render()
        return [None] * self.num_envs if frames is None else frames


def make_sb3_vec_env(
    env_id: str = "Genie-v0",
    num_envs: int | None = None,
    *,
    n_envs: int | None = None,
    seed: int | None = None,
    monitor_file: str | None = None,
    wrapper_class: Callable[..., gym.Env] | None = None,
    wrapper_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> VecMonitor:
    """Make a vector environment for SB3's algorithms: many rows of play in one world.

    ``PPO("CnnPolicy", make_sb3_vec_env("Genie-v0", num_envs=16, reward_fn=f)).learn(100_000)`` trains in the world.
    With ``observation="tokens"`` it is ``PPO("MlpPolicy", vec_env, policy_kwargs=token_policy(vec_env))``.

    Args:
        env_id: Id of an environment registered by genie-gym, with or without ``genie_gym:``.
        num_envs: Number of rows, by default 1; one pass of the world serves all of them.
        n_envs: The name that SB3's ``make_vec_env`` has for ``num_envs``.
        seed: Seed of the first reset: row i gets ``seed + i``.
        monitor_file: CSV to write each episode's return and length to; SB3 logs their means without it, too.
        wrapper_class: Wrapper of single environments, or a function that wraps one. Each row is then an environment of
            its own in SB3's ``DummyVecEnv``: they share the world's weights, but each step takes a pass for each row.
        wrapper_kwargs: Further arguments of ``wrapper_class``.
        **kwargs: Arguments of ``GenieVectorEnv``: ``reward_fn``, ``prompt``, ``checkpoint``, ``max_episode_steps``;
            with a ``wrapper_class`` those of ``GenieEnv``.

    Raises:
        ValueError: If an argument is invalid; the message names it and its value.
    """
    if gym.spec(env_id.rpartition(":")[2]).vector_entry_point != _ENTRY_POINT:
        raise ValueError(f"env_id must name an environment of genie-gym, got {env_id!r}")
    given = {rows for rows in (num_envs, n_envs) if rows is not None}
    require(len(given) < 2, "n_envs", n_envs, f"left out, or num_envs={num_envs}")
    rows = require_count("num_envs", given.pop() if given else 1)
    vec_env: VecEnv
    if wrapper_class is None:
        require(wrapper_kwargs is None, "wrapper_kwargs", wrapper_kwargs, "left out without wrapper_class")
        keywords = {"autoreset_mode": AutoresetMode.SAME_STEP, **kwargs}
        envs = gym.make_vec(env_id, rows, gym.VectorizeMode.VECTOR_ENTRY_POINT, **keywords)
        vec_env = GenieVecEnv(cast(GenieVectorEnv, envs))
    else:
        require(callable(wrapper_class), "wrapper_class", wrapper_class, "a wrapper of single environments")
        wrap = partial(wrapper_class, **(wrapper_kwargs or {}))
        vec_env = DummyVecEnv([lambda: wrap(gym.make(env_id, **kwargs))] * rows)
    if seed is not None:
        vec_env.seed(seed)
    return VecMonitor(vec_env, monitor_file)


class TokenExtractor(BaseFeaturesExtractor):
    """Maps tokens (B, rows, T columns) of T frames side by side, as ``VecFrameStack`` puts them, to vectors.

    Each token becomes its code in the world, projected to ``width`` channels. IMPALA's residual stages follow; the
    first halves the grid by patches. They compute in bfloat16 where the device is fast in it.

    Args:
        observation_space: Space of the tokens.
        codebook: (K, D) float32, the code of each token.
        columns: Columns of tokens of one frame.
        is_frozen: Whether codes stay as they are; otherwise training starts from them.
        width: Channels of a frame's embedded tokens.
        widths: Channels of each residual stage.
        features: Number of output features.

    Raises:
        ValueError: If the space holds other tokens than those of the codebook, or no whole frames.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        codebook: np.ndarray,
        columns: int,
        is_frozen: bool = True,
        width: int = 16,
        widths: tuple[int, ...] = (32, 32),
        features: int = 256,
    ) -> None:
        super().__init__(observation_space, features)
        space = cast(gym.spaces.Box, observation_space)
        fits = len(space.shape) == 2 and space.high.max() < len(codebook) and space.shape[1] % columns == 0
        wanted = f"tokens below {len(codebook)} in frames of {columns} columns side by side"
        require(fits, "observation_space", space, wanted)
        rows, all_columns = space.shape
        self._columns = columns
        self.codes = torch.nn.Parameter(torch.from_numpy(codebook).clone(), requires_grad=not is_frozen)
        self.project = Linear(codebook.shape[1], width)
        self.encoder = ImpalaEncoder(width * all_columns // columns, widths, features, (rows, columns), patch_size=2)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return features (B, features) of tokens, which SB3 gives as float32."""
        tokens = rearrange(observations.long(), "b r (t c) -> b r c t", c=self._columns)
        embedded = F.embedding(tokens, self.project(self.codes)).flatten(3)  # (B, rows, columns, T width)
        pictures = embedded.to(getattr(torch, native_precision(embedded.device)))
        features: torch.Tensor = self.encoder(pictures.permute(0, 3, 1, 2)).float()  # channels-last in memory
        return features


def token_policy(vec_env: VecEnv, **settings: Any) -> dict[str, Any]:
    """Return ``policy_kwargs`` of an SB3 ``MlpPolicy`` that embeds the tokens of a world by a ``TokenExtractor``.

    Args:
        vec_env: Environment of ``make_sb3_vec_env(..., observation="tokens")``; SB3's wrappers may be around it.
        **settings: Arguments of ``TokenExtractor`` from ``is_frozen`` on.
    """
    columns = vec_env.get_attr("observation_space")[0].shape[-1]
    inputs = {"codebook": vec_env.get_attr("codebook")[0], "columns": columns, **settings}
    return {"features_extractor_class": TokenExtractor, "features_extractor_kwargs": inputs, "net_arch": []}


def _merge_options(options: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Merge SB3's options, one dict per row, into those of ``GenieVectorEnv``: each ``prompt`` into ``prompts``."""
    if not any(options):
        return None
    for each in options:
        require_options(each, "prompt", "state")
    for name in ("prompt", "state"):
        if all(list(each) == [name] for each in options):
            return {f"{name}s": [each[name] for each in options]}
    wanted = "options must have a prompt for every row, or a state for every row, or nothing for all"
    raise ValueError(f"{wanted}, got {reprlib.repr(options)}")


def _info_of(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """Return the start of one row from a vector environment's infos."""
    return {name: infos[name][row].item() for name in ("prompt_index", "world_seed")}
