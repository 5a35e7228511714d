"""Tests of the whole pipeline at a small size: record, train, save, load, step as ``Genie-v0``."""

import dataclasses
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import genie_gym
from genie_gym import cli
from genie_gym.config_io import vary
from genie_gym.data.clips import ClipDataset
from genie_gym.data.video import write_video
from genie_gym.presets import PRESETS
from genie_gym.training.checkpoint import RUN_FILE
from genie_gym.training.run import train_preset

pytestmark = pytest.mark.pipeline

BAD_TIMES = ("nan", "inf", "-1", "0")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", *map(str, arguments)])
    cli.main()


def test_record_train_load_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, out = tmp_path / "recording", tmp_path / "run"
    run(monkeypatch, "record", "--out", recording, "--frames", 2048, "--num-envs", 8, "--num-levels", 20)
    train = ("train", "--preset", "tiny", "--data", recording, "--out", out, "--start-clips", 4)
    run(monkeypatch, *train, "--minutes", 0.0001)
    assert not (out / "checkpoint").exists(), "time was over before the last step"
    run(monkeypatch, *train)

    world = genie_gym.load(out / "checkpoint")
    assert world.start_clips.shape == (4, 4, 64, 64, 3)
    env = gym.make("Genie-v0", checkpoint=str(out / "checkpoint"))
    first, _ = env.reset(seed=3)
    frames = [env.step(action)[0] for action in (0, 1, 2)]
    assert all(env.observation_space.contains(frame) for frame in (first, *frames))
    again, _ = env.reset(seed=3)
    assert np.array_equal(first, again)


def test_a_folder_of_videos_can_be_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    for number, suffix in enumerate(("mp4", "gif")):
        frames = generator.integers(256, size=(24, 64, 64, 3), dtype=np.uint8) // 64 * 64
        write_video(tmp_path / f"{number}.{suffix}", frames, fps=10)
    out = tmp_path / "run"
    steps = ("--tokenizer-steps", 2, "--world-steps", 2)
    run(monkeypatch, "train", "--preset", "tiny", "--data", tmp_path, "--out", out, "--start-clips", 3, *steps)
    assert genie_gym.load(out / "checkpoint").start_clips.shape == (3, 4, 64, 64, 3)


def test_training_on_a_missing_device_is_refused_before_it_begins(tmp_path: Path) -> None:
    write_video(tmp_path / "0.gif", np.zeros((24, 64, 64, 3), dtype=np.uint8), fps=10)
    dataset = ClipDataset(tmp_path, clip_length=9)
    with pytest.raises(ValueError, match=r"device must be one .*, got 'meta'"):
        train_preset(PRESETS["tiny"], dataset, tmp_path / "run", device="meta", progress=False)
    assert not (tmp_path / "run").exists()


def test_each_phase_cuts_clips_of_its_own_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolutional tokenizer trains on single frames and the dynamics on clips of 5, resumed in between."""
    run(monkeypatch, "record", "--out", tmp_path / "recording", "--frames", 512, "--num-envs", 4, "--num-levels", 4)
    convolutions = {f"world.tokenizer.{part}.attention": "conv" for part in ("encoder", "decoder")}
    lengths = {"tokenizer_training.clip_length": 1, "world_training.clip_length": 5}
    steps = {f"{phase}.train_steps": 3 for phase in ("tokenizer_training", "world_training")}
    preset = vary(PRESETS["tiny"], {**convolutions, **lengths, **steps})
    dataset = ClipDataset(tmp_path / "recording", clip_length=9)
    assert train_preset(preset, dataset, tmp_path / "run", minutes=0.0001, progress=False) is None
    other = vary(preset, {"world.sampling.maskgit_steps": 9})
    with pytest.raises(ValueError, match=r"was started with another world: sampling.maskgit_steps \(9, not 2\)"):
        train_preset(other, dataset, tmp_path / "run", progress=False)
    checkpoint = train_preset(preset, dataset, tmp_path / "run", progress=False)
    assert checkpoint is not None
    later = vary(preset, {"world_training.seed": 7})
    monkeypatch.setattr("genie_gym.training.run.train_tokenizer", None)  # it is refused before anything is trained
    with pytest.raises(ValueError, match=r"run '.*world' was started with another config: seed \(7, not 0\)"):
        train_preset(later, dataset, tmp_path / "run", progress=False)
    world = genie_gym.load(checkpoint)
    frames = world.rollout(torch.rand(2, 1, 3, 64, 64), torch.zeros(2, 3, dtype=torch.int64))
    assert frames.shape == (2, 4, 3, 64, 64)


def test_latent_actions_can_be_trained_first_and_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three phases are interrupted and resumed; the saved latent action model is that of its own phase."""
    run(monkeypatch, "record", "--out", tmp_path / "recording", "--frames", 512, "--num-envs", 4, "--num-levels", 4)
    tiny, dataset = PRESETS["tiny"], ClipDataset(tmp_path / "recording", clip_length=8)
    short = dataclasses.replace(tiny.world_training, train_steps=3)
    preset = dataclasses.replace(tiny, tokenizer_training=short, action_training=short, world_training=short)
    resumed = [train_preset(preset, dataset, tmp_path / "resumed", minutes=0.00001, progress=False) for _ in range(9)]
    assert not any(resumed[:3])
    checkpoint = train_preset(preset, dataset, tmp_path / "resumed", progress=False)
    whole = train_preset(preset, dataset, tmp_path / "whole", progress=False)
    assert whole is not None
    assert checkpoint is not None
    first, second = (genie_gym.load(folder).state_dict() for folder in (whole, checkpoint))
    assert all(torch.equal(first[name], second[name]) for name in first)
    trained = load_file(tmp_path / "whole" / "actions" / RUN_FILE)
    prefix = "model.latent_action_model."
    model = {name.removeprefix(prefix): value for name, value in trained.items() if name.startswith(prefix)}
    assert model
    assert all(torch.equal(first[f"latent_action_model.{name}"], value) for name, value in model.items())
    assert not any(name.startswith(prefix) for name in load_file(tmp_path / "whole" / "world" / RUN_FILE))


def test_demo_writes_a_picture_and_a_gif(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(monkeypatch, "demo", "--checkpoint", tiny_checkpoint, "--frames", 3, "--out", out)
    assert {path.name for path in out.iterdir()} == {"demo.png", "demo.gif"}
    assert "frames/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("demo", "--checkpoint", "nowhere"), "nowhere"),
        (("demo", "--frames", 0), "frames"),
        (("train", "--preset", "huge", "--data", ".", "--out", "x"), "huge"),
        (("train", "--preset", "tiny", "--data", ".", "--out", "x", "--tokenizer-steps", 0), "train_steps"),
        (("train", "tiny", "--data", ".", "--out", "x", "--fps", 5, "--world.fps", 6), "--world.fps must be 5.0 too"),
        (
            ("train", "tiny", "--data", ".", "--out", "x", "--world-steps", 5, "--world-training.train-steps", 6),
            "--world-training.train-steps must be 5 too, if given, got 6",
        ),
        (("train", "tiny", "--data", ".", "--out", "x", "--device", "foo"), "device"),
        (("record", "--env", "CartPole-v1", "--out", "x", "--keys", "a=1"), "--keys must be left out without --window"),
        (("record", "--env", "CartPole-v1", "--out", "x", "--window", "--workers", 2), "--workers must be left out"),
        (("record", "--env", "CartPole-v1", "--out", "x", "--window", "--players", "random"), "--players"),
        (("record", "--out", "x", "--window"), "RecordConfig.env must be given to record in a window"),
        (("record", "--out", "x", "--num-envs", 10**8), "RecordConfig.num_envs must be at most 65536"),
        (("plan", "tiny", "--world.height", 10**8), "WorldConfig.height must be in [1, 8192]"),
        *((("train", "tiny", "--data", ".", "--out", "x", "--minutes", value), "--minutes") for value in BAD_TIMES),
        *((("doctor", "--seconds", value), "--seconds") for value in BAD_TIMES),
        (("record", "--out", "x", "--game", "pong"), "pong"),
    ],
)
def test_user_errors_end_in_one_line(
    arguments: tuple[object, ...],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, *arguments)
    assert error.value.code == 2
    printed = capsys.readouterr().err.strip()
    assert named in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("failure", "status", "told"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), 1, "[Errno 13] Permission denied: 'runs/x'"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (FloatingPointError("loss is nan at step 6"), 1, "loss is nan at step 6"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_system_refuses_ends_in_one_line(
    failure: BaseException,
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(command: object) -> None:
        raise failure

    monkeypatch.setattr("genie_gym.cli.DoctorCommand.run", fail)
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "doctor")
    assert error.value.code == status
    assert capsys.readouterr().err == f"genie-gym: {told}\n"


def test_a_missing_package_is_reported_in_one_line(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = (
        ("procgen", "procgen", ("record", "--out", "x", "--frames", 64)),
        ("pygame", "human", ("play", "--window", "--checkpoint", tiny_checkpoint)),
        ("uvicorn", "play", ("play", "--checkpoint", tiny_checkpoint)),
    )
    for package, extra, arguments in asked:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(SystemExit) as error:
            run(monkeypatch, *arguments)
        assert error.value.code == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("genie-gym: ")
        assert last.endswith(f"pip install 'genie-gym[{extra}]'")


def test_demo_reports_that_it_cannot_write(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit):
        run(monkeypatch, "demo", "--checkpoint", tiny_checkpoint, "--out", tmp_path / "file")
    assert "out" in capsys.readouterr().err
