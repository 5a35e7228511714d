"""Write a GIF of a policy that plays in a world and, side by side, in the real game, from the same frame.

python -m agents.side_by_side --policy runs/dream/policy --labelled runs/demonstrations/labelled
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np

from agents.acting import ClonedAgent, PolicyMemory
from agents.game import Game, GameName, make_game
from agents.mapping import map_from_recordings
from agents.policy import LatentPolicy, load_policy
from genie_gym.data.video import write_video
from genie_gym.envs import WorldHandle
from genie_gym.failures import run_command
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world

_SCALE, _GAP = 4, 8
"""Factor of enlargement, and number of pixels between the two enlarged videos."""


def play_in_world(
    world: GenieWorldModel, policy: LatentPolicy, prompt: np.ndarray, frames: int, seed: int
) -> np.ndarray:
    """Play a frozen policy in a world from the frame ``prompt`` (H, W, 3); return (1 + frames, H, W, 3), both uint8.

    The seed determines the world's sampling and the policy's choices.
    """
    env = gym.make("Genie-v0", checkpoint=WorldHandle(world), prompt=prompt, max_episode_steps=frames)
    memory, row = PolicyMemory(policy, 1, np.random.default_rng(seed)), np.zeros(1, dtype=np.int64)
    video = [env.reset(seed=seed)[0]]
    for step in range(frames):
        chosen, _ = memory.choose(row, video[-1][None], np.array([step == 0]))
        video.append(env.step(int(chosen[0]))[0])
    env.close()
    return np.stack(video)


def play_in_game(agent: ClonedAgent, game: Game, level: int, frames: int) -> np.ndarray:
    """Play the level with a seed and return (1 + frames, H, W, 3) uint8; after the end, the last frame is repeated.

    The agent needs memory for one game.
    """
    games, row = game.open_levels([level]), np.zeros(1, dtype=np.int64)
    video = [games.observe().frames[0].copy()]
    for step in range(frames):
        games.act(agent.act(row, video[-1][None], np.array([step == 0])))
        now = games.observe()
        if now.episode_starts[0]:
            break
        video.append(now.frames[0].copy())
    games.close()
    return np.stack(video + video[-1:] * (1 + frames - len(video)))


def put_side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Join two videos (T, H, W, 3) uint8 into one, with a white gap between them, and enlarge it."""
    gap = np.full((*left.shape[:2], _GAP // _SCALE, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=2).repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Play a policy in the world and in the game, and write both videos side by side."""

    policy: Path
    """folder of a saved latent policy"""
    labelled: Path
    """folder of recordings with actions, for the mapping"""
    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, or a folder"""
    out: Path = Path("out/side_by_side.gif")
    """GIF or mp4 file to write, with the world on the left and the game on the right"""
    mode: GameName = "easy"
    """game: CoinRun on easy or hard levels, or another by name"""
    level: int = 10_000
    """seed of the level; the world starts from its first frame"""
    frames: int = 64
    """number of frames to play"""
    labels: int = 200
    """number of labelled samples for the mapping"""
    seed: int = 0
    """seed of the labelled samples, the world's sampling and the policy's choices"""

    def run(self) -> None:
        """Play the game, then the world from the same frame, and write the video."""
        world, policy, game = load_world(self.checkpoint), load_policy(self.policy), make_game(self.mode)
        mapping = map_from_recordings(world, self.labelled, self.labels, self.seed, game)
        real = play_in_game(ClonedAgent(policy, 1, self.seed, mapping, game=game), game, self.level, self.frames)
        dream = play_in_world(world, policy, real[0], self.frames, self.seed)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_video(self.out, put_side_by_side(dream, real), fps=10)
        print(f"wrote {self.out}: the world on the left, the game on the right")


if __name__ == "__main__":
    run_command(SideBySide)
