"""Resumable PPO with the network of Procgen's baselines, for ``agents.player`` and ``agents.dream``."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor, nn

from agents.config import IMPALA_FEATURES, IMPALA_WIDTHS
from genie_gym.nn.convolution import ImpalaEncoder
from genie_gym.sb3 import token_policy
from genie_gym.serving import native_precision
from genie_gym.system import keep_freed_memory, replace_file

_SAVED, _STATISTICS = "ppo.zip", "rewards.pkl"


class ImpalaExtractor(BaseFeaturesExtractor):
    """IMPALA's network: maps k frames (B, 3 k, H, W) in [0, 1], scaled and stacked by SB3, to features.

    It computes in bfloat16 where the device is fast in it; weights and features are float32. Sizes are those of
    ``ImpalaEncoder``, by default those of Procgen's baselines.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        widths: Sequence[int] = IMPALA_WIDTHS,
        features: int = IMPALA_FEATURES,
        patch_size: int = 1,
    ) -> None:
        super().__init__(observation_space, features)
        assert observation_space.shape is not None
        channels, *size = observation_space.shape
        self.encoder = ImpalaEncoder(channels, widths, features, (size[0], size[1]), patch_size)

    def forward(self, observations: Tensor) -> Tensor:
        precision = getattr(torch, native_precision(observations.device))
        pixels = (observations - 0.5).to(precision, memory_format=torch.channels_last)
        features: Tensor = self.encoder(pixels).float()
        return features


def open_ppo(
    out: Path,
    envs: VecEnv,
    rollout_steps: int,
    seed: int,
    device: str,
    *,
    is_critic_apart: bool = False,
    network: Mapping[str, Any] | None = None,
    **settings: Any,
) -> PPO:
    """Resume the run in ``out`` with its settings, or begin one; rewards are scaled by the return's standard deviation.

    Args:
        out: Folder of the run and its TensorBoard log.
        envs: Environments to train in, of frames or of a world's tokens.
        rollout_steps: Steps of each environment between two updates.
        seed: Seed of the initial weights and the sampled actions.
        device: Device to train on.
        is_critic_apart: Whether the critic has its own network, so that its training leaves the policy unchanged.
        network: Sizes of the ``ImpalaExtractor`` of frames, if not its defaults.
        **settings: Learning rate, discounts and entropy bonus that replace Procgen's (arXiv 1912.01588).
    """
    keep_freed_memory()
    out.mkdir(parents=True, exist_ok=True)
    saved, statistics = out / _SAVED, out / _STATISTICS
    if saved.exists():
        return PPO.load(saved, VecNormalize.load(str(statistics), envs), device=device)
    settings = {"learning_rate": 5e-4, "gamma": 0.999, "gae_lambda": 0.95, "ent_coef": 0.01, **settings}
    settings |= {"n_steps": rollout_steps, "batch_size": envs.num_envs * rollout_steps // 8, "n_epochs": 3}
    kind, layers = "CnnPolicy", {"features_extractor_class": ImpalaExtractor, "net_arch": []}
    layers["features_extractor_kwargs"] = dict(network or {})
    if len(envs.observation_space.shape or ()) == 2:  # a grid of tokens
        kind, layers = "MlpPolicy", token_policy(envs)
    layers["share_features_extractor"] = not is_critic_apart
    normalized = VecNormalize(envs, norm_obs=False, gamma=settings["gamma"])
    layers["optimizer_kwargs"] = {"eps": 1e-5, "fused": True}  # the eps of SB3, which it sets only if none are given
    settings |= {"policy_kwargs": layers, "tensorboard_log": str(out / "log")}
    return PPO(kind, normalized, seed=seed, device=device, **settings)


def save_ppo(model: PPO, out: Path) -> None:
    """Save the run in ``out`` in SB3's own format, a pickle: load only files of your own runs."""
    normalized = model.get_vec_normalize_env()
    assert normalized is not None
    with replace_file(out / _SAVED) as saved, replace_file(out / _STATISTICS) as statistics:
        with saved.open("wb") as file:  # SB3 would add a suffix to a path
            model.save(file)
        normalized.save(str(statistics))


def copy_actor(model: PPO, encoder: nn.Module, head: nn.Module) -> None:
    """Copy the weights of a trained agent's actor into an encoder and a last layer of the same sizes."""
    extractor = model.policy.features_extractor
    assert isinstance(extractor, ImpalaExtractor)
    encoder.load_state_dict(extractor.encoder.state_dict())
    head.load_state_dict(model.policy.action_net.state_dict())


def set_actor(model: PPO, encoder: nn.Module, head: nn.Module) -> None:
    """Copy an encoder and a last layer into an agent's actor, and the encoder into its critic: ``copy_actor`` back."""
    for extractor in (model.policy.pi_features_extractor, model.policy.vf_features_extractor):
        assert isinstance(extractor, ImpalaExtractor)
        extractor.encoder.load_state_dict(encoder.state_dict())
    model.policy.action_net.load_state_dict(head.state_dict())


def train_ppo(
    model: PPO, env_steps: int, keep: Callable[[], object], every: int, minutes: float | None, *others: BaseCallback
) -> None:
    """Train the remaining steps of a run of ``env_steps``, or until a time limit of this call in minutes.

    ``keep``, such as a function that saves, is called at the end and once in ``every`` updates; ``others`` are further
    callbacks.
    """
    left, callbacks = env_steps - model.num_timesteps, [Keeper(keep, every, minutes), *others]
    if left > 0:
        model.learn(left, callback=callbacks, reset_num_timesteps=False, tb_log_name="ppo", progress_bar=True)
        keep()


class CriticFirst(BaseCallback):
    """Freezes the policy for the first ``env_steps`` steps, while a separate critic learns."""

    def __init__(self, env_steps: int) -> None:
        super().__init__()
        self._env_steps = env_steps

    def _on_rollout_start(self) -> None:
        policy = self.model.policy
        for part in (policy.features_extractor, policy.action_net):
            part.requires_grad_(self.num_timesteps >= self._env_steps)

    def _on_step(self) -> bool:
        return True


class Keeper(BaseCallback):
    """Calls ``keep``, such as a function that saves, once in ``every`` updates; stops training at a time limit."""

    def __init__(self, keep: Callable[[], object], every: int, minutes: float | None) -> None:
        super().__init__()
        self._keep, self._every, self._seconds = keep, every, float("inf") if minutes is None else 60 * minutes
        self._updates = 0

    def _on_training_start(self) -> None:
        self._began = time.monotonic()

    def _on_rollout_start(self) -> None:
        self._updates += 1
        if self._updates % self._every == 0:
            self._keep()

    def _on_step(self) -> bool:
        return time.monotonic() - self._began < self._seconds
