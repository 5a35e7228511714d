"""Train a CoinRun player with PPO in the real game, from the start or from a trained one; resumable.

    python -m agents.player --env-steps 25000000 --out runs/player
    genie-gym record --players "agents/player.py:load_trained(runs/player/player.safetensors)=1" ...

Procgen's recipe (arXiv 1912.01588): 64 games x 256 steps, rewards divided by the return's standard deviation. The
network is that of the shipped player ``skilled`` and sees Procgen's painted velocity.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecMonitor

from agents.config import Training
from agents.game import Game, GameBatch, GameName, JoinedGames, make_game
from agents.game_vec_env import GameVecEnv
from agents.ppo import CriticFirst, copy_actor, open_ppo, save_ppo, set_actor, train_ppo
from genie_gym.failures import run_command
from genie_gym.nn.weights import save_half
from genie_gym.players.networks import NetworkPlayer, SkilledPolicy, load_skilled_policy

PLAYER_NETWORK = {
    "widths": SkilledPolicy.widths,
    "features": SkilledPolicy.features,
    "patch_size": SkilledPolicy.patch_size,
}
"""Sizes of the encoder, as for ``agents.ppo.ImpalaExtractor``."""


def load_trained(path: str, temperature: float = 1.0, seed: int = 0) -> NetworkPlayer:
    """Return a ``Player`` that samples from a network of ``PlayerTraining``.

    Raises:
        ValueError: If the weights are missing, damaged or of another network, or the temperature is negative.
    """
    return NetworkPlayer(load_skilled_policy(Path(path)), seed, temperature)


@dataclass(frozen=True, kw_only=True)
class PlayerTraining(Training):
    """Train a player on training levels and save its network."""

    out: Path = Path("runs/player")
    """folder of the run, its TensorBoard log and player.safetensors"""
    modes: tuple[GameName, ...] = ("easy", "hard")
    """Procgen's distribution modes, with an equal number of games each"""
    start: Path | None = None
    """weights of a player to start from; its critic is trained first"""
    critic_steps: int = 262_144
    """number of initial steps in which a player to start from is frozen, since an untrained critic would spoil it"""
    env_steps: int = 25_000_000
    """number of environment steps, of all games together"""
    num_envs: int = 64
    """number of games played at once"""
    rollout_steps: int = 256
    """number of steps of each game between two updates"""
    learning_rate: float = 5e-4
    """learning rate of PPO"""
    ent_coef: float = 0.01
    """weight of the entropy bonus"""
    save_every: int = 10
    """number of updates between two saved states of the run"""

    def run(self) -> Path:
        """Train the remaining steps and return the file of the network's weights.

        Raises:
            ValueError: If the number of games is no multiple of the modes', or the weights to start from do not fit.
        """
        each, rest = divmod(self.num_envs, len(self.modes))
        if rest or not each:
            raise ValueError(f"num_envs must be a multiple of {len(self.modes)}, the modes, got {self.num_envs}")
        game = make_game(self.modes[0])
        games = JoinedGames([_open(make_game(mode), each, self.seed + n) for n, mode in enumerate(self.modes)])
        envs, is_new = GameVecEnv(game, games), not (self.out / "ppo.zip").exists()
        settings: dict[str, Any] = {name: getattr(self, name) for name in ("learning_rate", "ent_coef")}
        settings |= {"network": PLAYER_NETWORK, "is_critic_apart": self.start is not None}
        model = open_ppo(self.out, VecMonitor(envs), self.rollout_steps, self.seed, self.device, **settings)
        if self.start is not None and is_new:
            begun = load_skilled_policy(self.start)
            set_actor(model, begun.encoder, begun.out)
        first = [] if self.start is None else [CriticFirst(self.critic_steps)]
        train_ppo(model, self.env_steps, lambda: save_ppo(model, self.out), self.save_every, self.minutes, *first)
        games.close()
        policy, path = SkilledPolicy(), self.out / "player.safetensors"
        copy_actor(model, policy.encoder, policy.out)
        save_half(policy, path)
        print(f"{model.num_timesteps:,} of {self.env_steps:,} steps done: {path}")
        return path


def _open(game: Game, number: int, seed: int) -> GameBatch:
    return game.open_games("training", number, seed, paint_velocity=True)


if __name__ == "__main__":
    run_command(PlayerTraining)
