"""Worlds that are asked to learn from real actions do, and say so everywhere; all others never read them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import genie_gym
from genie_gym import cli
from genie_gym.config_io import from_dict, to_dict, vary
from genie_gym.configs import Preset, WorldConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.frames import to_float
from genie_gym.data.shards import Recording, Shard, write_shard
from genie_gym.data.video import write_video
from genie_gym.metrics.config import EvaluateConfig
from genie_gym.metrics.run import run_evaluation
from genie_gym.presets import PRESETS
from genie_gym.real_actions import RealActionConfig
from genie_gym.training.export import export_run
from genie_gym.training.real_actions import RealActions, hide_first_actions, take_real_actions
from genie_gym.training.run import train_preset
from tests.models.world_helpers import rollout_uncached

FIRST, ACTIONS, EPISODES, LENGTH = 5, 3, 8, 24
KNOWN = {"num_actions": ACTIONS, "first_action": FIRST, "action_names": '["dark", "grey", "bright"]'}
SMALL = {"world.height": 16, "world.width": 16, "world_training.picture_every": 10}
Write = Callable[..., Path]


def brightness(action: int) -> int:
    """Return the brightness of the frame that an action, counted from 0, leads to."""
    return 30 + 90 * action


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Return a function that records a game whose actions alone decide the brightness of the next frame."""

    def write_recording(attributes: Any = KNOWN, real_actions: np.ndarray | None = None) -> Path:
        total, rng = EPISODES * LENGTH, np.random.default_rng(0)
        actions = rng.integers(FIRST, FIRST + ACTIONS, size=total).astype(np.int32)
        shown = brightness(np.roll(actions, 1) - FIRST)  # type: ignore[arg-type]  # brightness of arrays, too
        starts = np.arange(total) % LENGTH == 0
        actions[np.roll(starts, -1)] = 99  # the action of an episode's last frame leads nowhere
        recording = Recording(
            frames=(shown[:, None, None, None] + rng.integers(-9, 10, size=(total, 16, 16, 3))).astype(np.uint8),
            episode_starts=starts,
            level_seeds=np.arange(total) // LENGTH,
            player=np.zeros(total, np.uint8),
            real_actions=actions if real_actions is None else real_actions,
            rewards=np.zeros(total, np.float32),
        )
        path = tmp_path_factory.mktemp("recording") / "shard.h5"
        write_shard(path, recording, ["random"], attributes)
        return path

    return write_recording


@pytest.fixture(scope="module")
def recording(write: Write) -> Path:
    return write()


def shorten(steps: int) -> Preset:
    """Return a preset of 16 x 16 pixels that trains for a few steps."""
    return vary(PRESETS["tiny"], SMALL | {f"{phase}_training.train_steps": steps for phase in ("tokenizer", "world")})


@pytest.fixture(scope="module")
def checkpoint(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a world that learned from the real actions of the recording."""
    dataset = ClipDataset(recording, clip_length=8, height=16, width=16)
    preset = take_real_actions(shorten(100), dataset)
    starts = np.stack([dataset[number][:4] for number in range(4)])
    out = train_preset(preset, dataset, tmp_path_factory.mktemp("run"), starts, progress=False)
    assert out is not None
    return out


def test_the_action_decides_the_next_frame(checkpoint: Path) -> None:
    world = genie_gym.load(checkpoint)
    prompts = to_float(world.start_clips[[0] * ACTIONS, :1])
    actions = torch.arange(ACTIONS)[:, None].expand(-1, 3)
    found = 255 * world.rollout(prompts, actions)[:, 1:].mean(dim=(2, 3, 4))
    wanted = torch.tensor([float(brightness(action)) for action in range(ACTIONS)])[:, None].expand(-1, 3)
    assert (found - wanted).abs().max() < 30, "actions are 90 apart"


def test_the_environment_has_the_actions_of_the_game(checkpoint: Path) -> None:
    env = gym.make("Genie-v0", checkpoint=str(checkpoint))
    assert env.action_space == gym.spaces.Discrete(ACTIONS)
    assert env.unwrapped.get_action_meanings() == ["dark", "grey", "bright"]  # type: ignore[attr-defined]
    first, _ = env.reset(seed=0)
    frames = [first, *(env.step(action)[0] for action in range(ACTIONS))]
    assert all(env.observation_space.contains(frame) for frame in frames)


def test_prompts_of_several_frames_need_no_actions(checkpoint: Path) -> None:
    """Those between their frames are unknown to a player, and taken as such, with a cache and without."""
    world = genie_gym.load(checkpoint, precision="float32")
    prompts, actions = torch.rand(2, 4, 3, 16, 16), torch.tensor([[0, 1], [2, 1]])
    assert (world.prompt_actions(prompts, world.tokenizer.encode(prompts)) == world.dynamics.no_action).all()
    played = world.rollout(prompts, actions)
    torch.testing.assert_close(played, rollout_uncached(world, prompts, actions), atol=1e-3, rtol=0)


def test_config_and_card_say_so(checkpoint: Path, tmp_path: Path) -> None:
    config = genie_gym.load(checkpoint).config
    assert config.latent_action_model == RealActionConfig(actions=ACTIONS)
    assert from_dict(WorldConfig, to_dict(config)) == config
    for folder in (checkpoint, export_run(checkpoint.parent, tmp_path / "exported")):
        assert f"its {ACTIONS} actions are those of the recording" in (folder / "README.md").read_text()
        assert not any(name.startswith("latent_action_model") for name in genie_gym.load(folder).state_dict())


def test_nothing_can_be_labelled(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, videos = genie_gym.load(checkpoint), torch.rand(1, 4, 3, 16, 16)
    model = world.latent_action_model
    for call in (world.label, model.encode, model.features, model.loss, model.label, lambda videos: model.frames_seen):
        with pytest.raises(ValueError, match=r"the world has no latent action model.* trained with --actions real"):
            call(videos)
    write_video(tmp_path / "a.mp4", np.zeros((8, 16, 16, 3), np.uint8))
    arguments = ["label", str(tmp_path / "a.mp4"), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "a.csv")]
    monkeypatch.setattr(sys, "argv", ["genie-gym", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert "the world has no latent action model" in capsys.readouterr().err


@pytest.mark.pipeline
def test_evaluation_plays_real_actions_and_compares_none(checkpoint: Path, recording: Path, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"clips": 4, "starts": 2, "maskgit_steps": (1,), "passes_clips": 2}
    config = EvaluateConfig(checkpoint=str(checkpoint), data=recording, **sizes)
    results, evaluated = run_evaluation(config)
    assert results["lam"]["kind"] == "real"
    assert results["lam"]["used"] == ACTIONS
    assert "nmi" not in results["lam"]
    assert "ceiling" not in results
    assert results["delta_psnr"][0]["delta_psnr"] > 3, "real actions tell the next frame, random ones do not"
    assert results["passes"][0]["rollout"][0]["psnr"] > 20
    assert evaluated.held.shape[0] == ACTIONS
    write_video(tmp_path / "a.mp4", np.zeros((80, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"data must be recordings with integer actions, since the world"):
        run_evaluation(EvaluateConfig(checkpoint=str(checkpoint), data=tmp_path, **sizes))


@pytest.mark.pipeline
def test_a_recording_of_another_game_is_not_evaluated(checkpoint: Path, write: Write) -> None:
    other = write({**KNOWN, "num_actions": 95})
    sizes: dict[str, Any] = {"clips": 4, "starts": 2, "maskgit_steps": (1,), "passes_clips": 2}
    with pytest.raises(ValueError, match=r"number of the data's actions must be the world's 3, got 95"):
        run_evaluation(EvaluateConfig(checkpoint=str(checkpoint), data=other, **sizes))


def test_real_actions_are_read_if_asked_for_and_never_else(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ["--tokenizer-steps", "2", "--world-steps", "2", "--start-clips", "2"]
    options = ["train", "tiny", "--data", str(recording), "--world.height", "16", "--world.width", "16", *steps]

    def train(out: str, *more: str) -> None:
        monkeypatch.setattr(sys, "argv", ["genie-gym", *options, "--out", str(tmp_path / out), *more])
        cli.main()

    read: list[Path] = []
    private = Shard.private

    def note(shard: Shard, start: int, stop: int) -> Any:
        read.append(shard.path)
        return private(shard, start, stop)

    monkeypatch.setattr(Shard, "private", note)
    train("latent")
    train("said", "--actions", "latent")
    assert read == []
    assert genie_gym.load(tmp_path / "latent" / "checkpoint").config.num_latent_actions == 8
    train("real", "--actions", "real")
    assert set(read) == {recording}
    assert genie_gym.load(tmp_path / "real" / "checkpoint").config.num_latent_actions == ACTIONS


def test_a_run_keeps_the_kind_of_its_actions(recording: Path, checkpoint: Path) -> None:
    dataset = ClipDataset(recording, clip_length=8, height=16, width=16)
    with pytest.raises(ValueError, match=r"was started with another world: latent_action_model.backbone"):
        train_preset(shorten(100), dataset, checkpoint.parent, progress=False)


def test_actions_are_those_of_the_clips(recording: Path) -> None:
    for length, step in ((2, 1), (8, 1), (5, 3)):
        dataset = ClipDataset(recording, clip_length=length, frame_step=step, height=16, width=16)
        numbers = torch.tensor([0, len(dataset) // 2, len(dataset) - 1])
        found = RealActions(dataset, ACTIONS)(Batch(torch.zeros(3), numbers))
        for number, actions in zip(numbers.tolist(), found, strict=True):
            assert (actions + FIRST).tolist() == dataset.private(number)[0].tolist()
            if step == 1:
                seen = dataset[number][1:].mean(axis=(1, 2, 3))
                assert seen == pytest.approx([brightness(action) for action in actions.tolist()], abs=3)


def test_first_actions_are_hidden_in_some_clips() -> None:
    hidden = hide_first_actions(torch.zeros(4000, 7, dtype=torch.int64), unknown=3) == 3
    counts = hidden.sum(dim=1)
    assert (hidden == (torch.arange(7) < counts[:, None])).all(), "none but the first"
    assert [float((counts == count).float().mean()) for count in range(5)] == pytest.approx(
        [5 / 8, 1 / 8, 1 / 8, 1 / 8, 0], abs=0.03
    )


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "num_actions must be told by the recording, .* got None"),
        ({**KNOWN, "num_actions": 0}, "num_actions must be told by the recording, .* got 0"),
        ({**KNOWN, "num_actions": "3"}, "num_actions must be told by the recording, .* got '3'"),
        ({**KNOWN, "num_actions": 2**40}, "num_actions must be told"),
        ({"num_actions": 3}, "first_action must be told by the recording, .* got None"),
        ({**KNOWN, "action_names": "["}, "action_names are damaged"),
        ({**KNOWN, "num_actions": 2}, r"real actions must be in \[5, 7\), got 7"),
        ({**KNOWN, "first_action": 6}, r"real actions must be in \[6, 9\), got 5"),
    ],
)
def test_recordings_of_unknown_actions_are_refused(attributes: Any, message: str, write: Write) -> None:
    path = write(attributes)
    dataset = ClipDataset(path, clip_length=8, height=16, width=16)
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        RealActions(dataset, dataset.real_action_space.number)


@pytest.mark.parametrize("names", ['["a", "a", "b"]', '["a"]', '"abc"', "7", '["a", "", "b"]', '["a", 7, "b"]'])
def test_names_that_do_not_fit_are_left_out(names: str, write: Write) -> None:
    space = ClipDataset(write({**KNOWN, "action_names": names}), 8, height=16, width=16).real_action_space
    assert (space.number, space.first, space.names) == (ACTIONS, FIRST, ())


def test_vectors_videos_and_mixed_recordings_are_refused(recording: Path, write: Write, tmp_path: Path) -> None:
    def read(*paths: Path) -> np.ndarray:
        return ClipDataset(list(paths), clip_length=8, height=16, width=16).real_actions()

    assert len(read(recording, write())) == 2 * EPISODES * LENGTH
    with pytest.raises(ValueError, match=r"real actions must be those of .*shard.h5, got others"):
        read(recording, write({"game": "coinrun"}))
    with pytest.raises(ValueError, match=r"real actions must be one integer a frame"):
        read(write(KNOWN, np.zeros((EPISODES * LENGTH, 2), np.float32)))
    write_video(tmp_path / "a.mp4", np.zeros((20, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a.mp4 is a video"):
        read(tmp_path / "a.mp4")


def test_a_preset_of_real_actions_trains_no_latent_ones(recording: Path) -> None:
    dataset = ClipDataset(recording, clip_length=8, height=16, width=16)
    preset = take_real_actions(PRESETS["coinrun"], dataset)
    assert preset.action_training is None
    with pytest.raises(
        ValueError, match=r"Preset.action_training must be None if latent actions come from tokens or are real"
    ):
        vary(preset, {"action_training": to_dict(preset.world_training)})
    assert take_real_actions(preset, dataset) == preset
