"""Reward models from recordings: their targets, priors and scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.demonstrations import DemonstrationFolders
from agents.game import COINRUN
from agents.reward_models import (
    AgreementModelTraining,
    RewardModelTraining,
    plan_training,
    score_outputs,
    shift_prior,
    train_reward_model,
)
from agents.windows import Footage, VideoWindows, read_outcomes
from genie_gym.data.record import find_cuts
from genie_gym.data.shards import Recording, Shard, write_shard
from genie_gym.envs import AgreementReward, LearnedReward
from genie_gym.models.reward_model import RewardModel, load_reward_model
from tests.agents.small import random_frames


def write_games(path: Path, starts: list[int], rewards: list[int], frames: int) -> None:
    is_start, gained = np.zeros(frames, dtype=np.bool_), np.zeros(frames, dtype=np.float32)
    is_start[starts], gained[rewards] = True, 10
    seeds, none = np.zeros(frames, dtype=np.int64), np.zeros(frames, dtype=np.uint8)
    recording = Recording(random_frames(frames), is_start, seeds, none, none.astype(np.int32), gained)
    write_shard(path, recording, ["someone"])


def test_outcomes_are_those_of_the_last_action(tmp_path: Path) -> None:
    """Two shards: games of 3, 4 (won) and 2 frames, then of 2 (won) and 3; the last ends are unrecorded."""
    write_games(tmp_path / "shard-00000.h5", [0, 3, 7], [6], 9)
    write_games(tmp_path / "shard-00001.h5", [0, 2], [1, 4], 5)
    rewarded, ended = read_outcomes(tmp_path)
    assert np.flatnonzero(ended).tolist() == [2, 6, 10]
    assert np.flatnonzero(rewarded).tolist() == [6, 10]


def test_where_the_recording_of_a_game_stops_no_episode_ends(tmp_path: Path) -> None:
    """Eight games of 13 frames, the last one cut short, in one shard; each game starts an episode in the shard."""
    COINRUN.record("training", "skilled", tmp_path / "short", frames=100, seed=0, num_envs=8)
    (shard,) = map(Shard, (tmp_path / "short").iterdir())
    assert find_cuts(shard).tolist() == [12, 25, 38, 51, 64, 77, 90, 99]
    assert shard.episode_starts[[13, 26, 39, 52, 65, 78, 91]].all()
    rewarded, ended = read_outcomes(tmp_path / "short")
    assert not rewarded[find_cuts(shard)].any()
    assert not ended[find_cuts(shard)].any()

    COINRUN.record("training", "skilled", tmp_path / "long", frames=1200, seed=0, num_envs=8)
    (shard,) = map(Shard, (tmp_path / "long").iterdir())
    rewarded, ended = read_outcomes(tmp_path / "long")
    inner = np.delete(np.arange(1200), find_cuts(shard))
    assert np.array_equal(ended[inner], shard.episode_starts[inner + 1])
    assert (rewarded <= ended).all()
    assert rewarded.sum() > 2


def test_precision_and_recall_by_hand() -> None:
    predicted, actual = np.array([1, 1, 1, 0, 0], dtype=bool), np.array([1, 0, 0, 1, 0], dtype=bool)
    assert score_outputs(predicted, actual) == {"precision": pytest.approx(1 / 3), "recall": 0.5, "claimed": 3, "so": 2}
    assert score_outputs(~predicted & predicted, actual)["precision"] is None
    assert score_outputs(predicted, ~actual & actual)["recall"] is None


def test_the_prior_shifts_from_the_training_share_to_the_natural_share() -> None:
    model = RewardModel(("reward", "end"), 16, 16, channels=8).requires_grad_(False)
    trained, natural = np.array([0.3, 0.5]), np.array([0.006, 0.01])
    model.encoder.out.weight.zero_()
    model.encoder.out.bias.copy_(torch.from_numpy(np.log(trained / (1 - trained))))
    shift_prior(model, trained, natural)
    assert model(torch.rand(1, 2, 3, 16, 16)).sigmoid().flatten().tolist() == pytest.approx(natural.tolist())


def test_bright_frames_are_found(tmp_path: Path) -> None:
    """Few bright frames among many dark ones; only those in the groups are learned from."""
    frames = random_frames(400) // 2
    is_bright = np.arange(400) % 20 == 7
    frames[is_bright] += 120
    starts = np.arange(400) == 0
    windows = VideoWindows(Footage(frames, starts), 2)
    groups = [np.flatnonzero(is_bright)[:10], np.flatnonzero(~is_bright)[:100]]
    model = train_reward_model(("bright",), windows, is_bright[:, None], groups, plan_training(40, seed=0), tmp_path)
    rest = np.arange(200, 400)
    logits = model(windows.videos_at(rest))[:, 0, 0].numpy()
    assert ((logits > 0) == is_bright[rest]).all()
    with pytest.raises(ValueError, match=r"groups must have a transition each, got \[0, 100\]"):
        train_reward_model(
            ("bright",), windows, is_bright[:, None], [groups[0][:0], groups[1]], plan_training(4, 0), tmp_path
        )


@pytest.mark.pipeline
def test_a_reward_of_labelled_games(demonstrations: DemonstrationFolders, tmp_path: Path) -> None:
    command = RewardModelTraining(
        labelled=demonstrations.oracle, held_out=demonstrations.labelled, out=tmp_path, labels=40, train_steps=4
    )
    model = command.run()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["labels"] == 40
    assert 1 <= scores["labelled_wins"] <= 10
    assert scores["reward"]["so"] == read_outcomes(demonstrations.labelled)[0].sum()
    reward = LearnedReward(command.folder)
    frames = random_frames(4)
    rewards, ends = reward(frames, np.zeros(4, dtype=np.int64), frames)
    assert rewards.shape == ends.shape == (4,)
    again = load_reward_model(command.folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="labels must be such that"):
        RewardModelTraining(
            labelled=demonstrations.labelled, held_out=demonstrations.oracle, out=tmp_path, labels=9999
        ).run()


@pytest.mark.pipeline
def test_agreement_needs_no_labels(demonstrations: DemonstrationFolders, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    write_games(tmp_path / "others" / "shard-00000.h5", [0], [], 1024)
    command = AgreementModelTraining(
        videos=demonstrations.videos, others=tmp_path / "others", out=tmp_path / "out", train_steps=20
    )
    command.run()
    assert (
        json.loads((tmp_path / "out" / "scores.json").read_text())["balanced_accuracy"] > 0.9
    )  # noise is easy to distinguish
    assert AgreementReward(command.folder).reward_model.outputs == ("demonstration",)
