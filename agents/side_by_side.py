"""An agent in a world and in the real game, from the same picture, side by side as a GIF.

python -m agents.side_by_side --policy runs/dream/policy --labelled runs/demonstrations/labelled
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro

from agents.acting import ClonedAgent, PolicyMemory
from agents.evaluation import Mode
from agents.mapping import map_from_recordings
from agents.policy import LatentPolicy, load_policy
from genie_gym.configs import RecordConfig
from genie_gym.data.procgen import open_levels
from genie_gym.data.video import write_video
from genie_gym.envs import WorldHandle
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import load_world

SCALE, GAP = 4, 8
"""Pixels a pixel; pixels between both."""


def play_in_world(
    world: GenieWorldModel, policy: LatentPolicy, prompt: np.ndarray, frames: int, seed: int
) -> np.ndarray:
    """What a policy of latent actions makes of a picture.

    Args:
        world: Whose latent actions the policy chooses.
        policy: Frozen.
        prompt: (H, W, 3) uint8.
        frames: To play.
        seed: Of the world's draws and the policy's choices.

    Returns:
        (1 + frames, H, W, 3) uint8.
    """
    env = gym.make("Genie-v0", checkpoint=WorldHandle(world), prompt=prompt, max_episode_steps=frames)
    memory, alone = PolicyMemory(policy, 1, np.random.default_rng(seed)), np.zeros(1, dtype=np.int64)
    video = [env.reset(seed=seed)[0]]
    for step in range(frames):
        chosen, _ = memory.choose(alone, video[-1][None], np.array([step == 0]))
        video.append(env.step(int(chosen[0]))[0])
    env.close()
    return np.stack(video)


def play_in_game(agent: ClonedAgent, mode: Mode, level: int, frames: int) -> np.ndarray:
    """(1 + frames, 64, 64, 3) uint8 of one level; where it ends before, its last picture stays.

    Args:
        agent: With memory for one game.
        mode: Procgen's distribution mode.
        level: Its seed.
        frames: To play.
    """
    games, alone = open_levels(RecordConfig(mode=mode), [level]), np.zeros(1, dtype=np.int64)
    video, is_over = [games.observe().frames[0].copy()], False
    for step in range(frames):
        if not is_over:
            games.act(agent.act(alone, video[-1][None], np.array([step == 0])))
            now = games.observe()
            is_over = bool(now.episode_starts[0])
        video.append(video[-1] if is_over else now.frames[0].copy())
    games.close()
    return np.stack(video)


def put_side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two videos (T, H, W, 3) as one, scaled up."""
    gap = np.full((*left.shape[:2], GAP // SCALE, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=2).repeat(SCALE, axis=1).repeat(SCALE, axis=2)


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Play, write."""

    policy: Path
    """Folder of a policy of latent actions, cloned or dreamt."""
    labelled: Path
    """Folder of recordings with actions, for the mapping."""
    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    out: Path = Path("out/side_by_side.gif")
    """GIF or mp4: the world on the left, the game on the right."""
    mode: Mode = "easy"
    """Procgen's distribution mode."""
    level: int = 10_000
    """Of the game; the world opens on its first picture. A validation level's seed, where not given."""
    frames: int = 64
    """To play."""
    labels: int = 200
    """Labelled samples for the mapping."""
    seed: int = 0
    """Of samples, draws and choices."""

    def run(self) -> None:
        """Play both."""
        world, policy = load_world(self.checkpoint), load_policy(self.policy)
        mapping = map_from_recordings(world, self.labelled, self.labels, self.seed)
        game = play_in_game(ClonedAgent(policy, 1, self.seed, mapping), self.mode, self.level, self.frames)
        dream = play_in_world(world, policy, game[0], self.frames, self.seed)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_video(self.out, put_side_by_side(dream, game), fps=10)
        print(f"look at {self.out}: the world on the left, the game on the right")


if __name__ == "__main__":
    tyro.cli(SideBySide).run()
