"""Train a CoinRun player with PPO in the real game; resumable.

    python -m agents.expert --mode easy --env-steps 25000000 --out runs/expert
    genie-gym record --players "agents/expert.py:load_expert(runs/expert/expert.safetensors)=1" ...

Procgen's recipe (arXiv 1912.01588): IMPALA, 64 games x 256 steps, rewards divided by the return's standard deviation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from stable_baselines3.common.vec_env import VecMonitor
from torch import Tensor, nn

from agents.config import IMPALA_FEATURES, IMPALA_WIDTHS, Training
from agents.game import COINRUN, Game, make_game
from agents.game_vec_env import GameVecEnv
from agents.ppo import copy_actor, open_ppo, save_ppo, train_ppo
from genie_gym.configs import Mode
from genie_gym.data.frames import to_float
from genie_gym.nn.convolution import ImpalaEncoder
from genie_gym.nn.layers import Linear
from genie_gym.nn.weights import load_half, save_half


class ImpalaActor(nn.Module):
    """The actor of the trained policy: maps frames (B, C, H, W) in [0, 1] to logits (B, R) of real actions."""

    def __init__(self, game: Game = COINRUN) -> None:
        super().__init__()
        self.encoder = ImpalaEncoder(3, IMPALA_WIDTHS, IMPALA_FEATURES, game.frame_size)
        self.out = Linear(IMPALA_FEATURES, game.num_actions)

    def forward(self, frames: Tensor) -> Tensor:
        pixels = (frames - 0.5).contiguous(memory_format=torch.channels_last)
        return self.out(self.encoder(pixels))


def load_expert(path: str, seed: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Return a ``Player``, (B, 64, 64, 3) uint8 -> (B,) int32, that samples from an actor of ``ExpertTraining``.

    Raises:
        ValueError: If the weights are missing, damaged or of another network.
    """
    actor, generator = load_half(ImpalaActor(), Path(path)), torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def play(frames: np.ndarray) -> np.ndarray:
        probabilities = actor(to_float(frames)).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0].numpy().astype(np.int32)

    return play


@dataclass(frozen=True, kw_only=True)
class ExpertTraining(Training):
    """Train a player on training levels and save its actor."""

    out: Path = Path("runs/expert")
    """folder of the run, its TensorBoard log and expert.safetensors"""
    mode: Mode = "easy"
    """Procgen's distribution mode"""
    env_steps: int = 25_000_000
    """number of environment steps, of all games together"""
    num_envs: int = 64
    """number of games played at once"""
    rollout_steps: int = 256
    """number of steps of each game between two updates"""
    save_every: int = 10
    """number of updates between two saved states of the run"""

    def run(self) -> Path:
        """Train the remaining steps and return the actor's file."""
        game = make_game(self.mode)
        games = GameVecEnv(game, game.open_games("training", self.num_envs, self.seed))
        model = open_ppo(self.out, VecMonitor(games), self.rollout_steps, self.seed, self.device)
        train_ppo(model, self.env_steps, lambda: save_ppo(model, self.out), self.save_every, self.minutes)
        games.close()
        actor = ImpalaActor(game)
        copy_actor(model, actor.encoder, actor.out)
        save_half(actor, self.out / "expert.safetensors")
        print(f"{model.num_timesteps:,} of {self.env_steps:,} steps done: {self.out / 'expert.safetensors'}")
        return self.out / "expert.safetensors"


if __name__ == "__main__":
    tyro.cli(ExpertTraining).run()
