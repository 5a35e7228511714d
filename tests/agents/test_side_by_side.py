"""One agent in a world and in the real game."""

from pathlib import Path

import numpy as np

from agents.acting import ClonedAgent
from agents.demonstrations import DemonstrationFolders
from agents.game import COINRUN
from agents.mapping import ActionMapping
from agents.policy import LatentPolicy, save_policy
from agents.side_by_side import SideBySide, play_in_game, play_in_world
from genie_gym.data.video import read_video
from genie_gym.serving import load_world
from tests.agents.small import SMALL, random_frames


def test_a_policy_sees_what_it_causes(tiny_checkpoint: Path) -> None:
    world, prompt = load_world(tiny_checkpoint), random_frames(1)[0]
    policy = LatentPolicy(SMALL, world.config.num_latent_actions).eval()
    video = play_in_world(world, policy, prompt, frames=5, seed=0)
    assert video.shape == (6, 64, 64, 3)
    assert np.array_equal(play_in_world(world, policy, prompt, frames=5, seed=0), video)
    assert not np.array_equal(play_in_world(world, policy, prompt, frames=5, seed=1), video)
    assert len(np.unique(video.reshape(6, -1), axis=0)) == 6


def test_the_last_frame_is_repeated_after_a_level() -> None:
    policy = LatentPolicy(SMALL, 8).eval()
    counts = np.zeros((8, COINRUN.num_actions), dtype=np.int64)
    counts[:, 8] = 1  # right and up, which ends this level soon
    agent = ClonedAgent(policy, 1, 0, ActionMapping(counts))
    video = play_in_game(agent, COINRUN, 0, frames=300)
    moved = np.flatnonzero((video[1:] != video[:-1]).any(axis=(1, 2, 3)))
    assert 20 < moved[-1] < 290
    assert len(video) == 301


def test_both_are_written_side_by_side(
    tiny_checkpoint: Path, demonstrations: DemonstrationFolders, tmp_path: Path
) -> None:
    save_policy(LatentPolicy(SMALL, 8), tmp_path / "policy")
    SideBySide(
        policy=tmp_path / "policy",
        labelled=demonstrations.labelled,
        checkpoint=str(tiny_checkpoint),
        out=tmp_path / "new" / "both.gif",
        frames=4,
        labels=16,
    ).run()
    video = read_video(tmp_path / "new" / "both.gif")
    assert video.shape == (5, 256, 2 * 256 + 8, 3)
    assert (video[:, :, 256:264] > 200).all()
