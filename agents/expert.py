"""A CoinRun player trained with PPO in the real game. Resumable.

    python -m agents.expert --mode easy --env-steps 25000000 --out runs/expert
    genie-gym record --players "agents/expert.py:load_expert(runs/expert/expert.safetensors)=1" ...

Procgen's recipe (arXiv 1912.01588): IMPALA network, 64 games x 256 steps, rewards in units of the return's spread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from stable_baselines3.common.vec_env import VecMonitor
from torch import Tensor, nn

from agents.config import FEATURES, WIDTHS
from agents.ppo import ImpalaExtractor, Keeper, open_ppo, save_ppo
from agents.procgen_vec_env import ProcgenVecEnv
from genie_gym.configs import RecordConfig
from genie_gym.data.frames import to_float
from genie_gym.data.procgen import FRAME_SIZE, NUM_REAL_ACTIONS, open_games
from genie_gym.metrics.held_out import restrict
from genie_gym.nn.convolution import ImpalaEncoder
from genie_gym.nn.layers import Linear
from genie_gym.nn.weights import load_half, save_half


class ImpalaActor(nn.Module):
    """What of the trained policy plays: frames (B, C, H, W) in [0, 1] to logits (B, 15)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImpalaEncoder(3, WIDTHS, FEATURES, (FRAME_SIZE, FRAME_SIZE))
        self.out = Linear(FEATURES, NUM_REAL_ACTIONS)

    def forward(self, videos: Tensor) -> Tensor:
        pixels = (videos - 0.5).contiguous(memory_format=torch.channels_last)
        return self.out(self.encoder(pixels))


def load_expert(path: str, seed: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """A ``Player`` that samples from an actor saved by ``Expert``: (B, 64, 64, 3) uint8 -> (B,) int32.

    Raises:
        ValueError: If the weights are missing, damaged, or of another network.
    """
    actor, generator = load_half(ImpalaActor(), Path(path)), torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def play(frames: np.ndarray) -> np.ndarray:
        shares = actor(to_float(frames)).softmax(dim=-1)
        return torch.multinomial(shares, 1, generator=generator)[:, 0].numpy().astype(np.int32)

    return play


@dataclass(frozen=True, kw_only=True)
class Expert:
    """Train on training levels, save the actor."""

    out: Path = Path("runs/expert")
    """Folder of the run, its TensorBoard log and expert.safetensors."""
    mode: Literal["easy", "hard"] = "easy"
    """Procgen's distribution mode."""
    env_steps: int = 25_000_000
    """Steps of all games together."""
    num_envs: int = 64
    """Games played at once."""
    rollout_steps: int = 256
    """Steps of each game between two updates."""
    save_every: int = 10
    """Updates between resumable checkpoints."""
    minutes: float | None = None
    """Stop after these; call again to go on."""
    device: str = "cpu"
    """Where to train."""
    seed: int = 0
    """Of weights, games and choices."""

    def run(self) -> Path:
        """Train what is missing; the actor's file."""
        config = restrict(RecordConfig(mode=self.mode), "training")
        games = ProcgenVecEnv(open_games(config, seed=self.seed, num_envs=self.num_envs))
        model = open_ppo(self.out, VecMonitor(games), self.rollout_steps, self.seed, self.device)
        left = self.env_steps - model.num_timesteps
        if left > 0:
            keeper = Keeper(lambda trained: save_ppo(trained, self.out), self.save_every, self.minutes)
            model.learn(left, callback=keeper, reset_num_timesteps=False, tb_log_name="ppo", progress_bar=True)
        save_ppo(model, self.out)
        games.close()
        actor, extractor = ImpalaActor(), model.policy.features_extractor
        assert isinstance(extractor, ImpalaExtractor)
        actor.encoder.load_state_dict(extractor.encoder.state_dict())
        actor.out.load_state_dict(model.policy.action_net.state_dict())
        save_half(actor, self.out / "expert.safetensors")
        print(f"{model.num_timesteps:,} of {self.env_steps:,} steps done: {self.out / 'expert.safetensors'}")
        return self.out / "expert.safetensors"


if __name__ == "__main__":
    tyro.cli(Expert).run()
