"""Frames that are not square and not 64: from the command line to the environment, the page and the window."""

import json
import struct
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from genie_gym import cli
from genie_gym.config_io import vary
from genie_gym.data.video import write_video
from genie_gym.envs.rendering import PygameWindow
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.play.config import PlayConfig
from genie_gym.play.connection import FRAME_HEADER
from genie_gym.play.server import build_app
from genie_gym.play.setup import prepare_play
from genie_gym.presets import PRESETS

pytestmark = pytest.mark.pipeline


def write_videos(folder: Path, height: int, width: int) -> Path:
    """Write two videos of a bright square that moves over a shaded ground."""
    for number in range(2):
        ground = np.linspace(0, 120, width).astype(np.uint8)
        frames = np.broadcast_to(ground[:, None], (16, height, width, 3)).copy()
        for time, frame in enumerate(frames):
            frame[8 : height // 2, 2 * time + 4 * number : 2 * time + 4 * number + 10] = 240
        write_video(folder / f"{number}.mp4", frames, fps=12)
    return folder


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, out: Path, *options: object) -> Path:
    """Train ``tiny`` for two steps a phase by the command, and return its checkpoint."""
    steps = ("--tokenizer-training.train-steps", 2, "--world-training.train-steps", 2, "--start-clips", 2)
    arguments = ("train", "tiny", "--data", folder, "--out", out, *steps, *options)
    monkeypatch.setattr(sys, "argv", ["genie-gym", *map(str, arguments)])
    cli.main()
    return out / "checkpoint"


@pytest.mark.parametrize(("height", "width", "actions", "grid"), [(30, 52, 8, (2, 4)), (128, 128, 16, (8, 8))])
def test_sizes_of_the_command_line_reach_environment_page_and_window(
    height: int,
    width: int,
    actions: int,
    grid: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pygame: object,
) -> None:
    (tmp_path / "videos").mkdir()
    size = ("--world.height", height, "--world.width", width, "--fps", 12)
    codes = ("--world.latent-action-model.quantizer.codes", actions)
    folder = write_videos(tmp_path / "videos", height, width)
    checkpoint = train(monkeypatch, folder, tmp_path / "run", *size, *codes)

    env = gym.make("Genie-v0", checkpoint=str(checkpoint), render_mode="rgb_array")
    frame, _ = env.reset(seed=0)
    assert env.observation_space.shape == frame.shape == (height, width, 3)
    assert env.action_space == gym.spaces.Discrete(actions)
    assert env.unwrapped.metadata["render_fps"] == 12
    frame, *_ = env.step(actions - 1)
    assert np.array_equal(env.render(), frame)
    wide, _ = env.reset(options={"prompt": np.zeros((40, 200, 3), np.uint8)})  # a prompt of another shape is fitted
    assert wide.shape == (height, width, 3)
    tokens = gym.make("Genie-v0", checkpoint=str(checkpoint), observation="tokens")
    assert tokens.reset(seed=0)[0].shape == grid

    client = TestClient(build_app(prepare_play(PlayConfig(checkpoint=str(checkpoint)))), base_url="http://127.0.0.1")
    with client, client.websocket_connect("ws://127.0.0.1/play") as socket:
        world = socket.receive_json()
        found = world["height"], world["width"], len(world["names"]), world["frames_per_second"]
        assert found == (height, width, actions, 12)
        socket.send_text(json.dumps({"do": "start", "number": 0}))
        assert len(socket.receive_bytes()) == struct.calcsize(FRAME_HEADER) + height * width * 3

    window = PygameWindow(12)
    window.show(frame)
    shown = window._screen.get_size()
    assert shown[0] / shown[1] == width / height
    window.close()


def test_what_is_painted_beyond_the_frame_is_cut_off() -> None:
    torch.manual_seed(0)
    config = vary(PRESETS["tiny"].world, {"height": 30, "width": 52})
    model, videos = VideoTokenizer(config).eval(), torch.rand(2, 3, 3, 30, 52)
    tokens = model.encode(videos)
    rebuilt = model.decode(tokens)
    assert rebuilt.shape == videos.shape
    with torch.no_grad():
        model.patch_path.bias.view(3, 16, 16)[:, 14:] += 1  # in the second row of patches, beyond the 30th row
    changed = model.decode(tokens)
    assert not torch.equal(changed[..., :16, :], rebuilt[..., :16, :])
    assert torch.equal(changed[..., 16:, :], rebuilt[..., 16:, :])


def test_the_latent_action_model_for_any_video_learns_from_oblong_frames() -> None:
    """A box near an edge that is no multiple of 8 is painted and learned from."""
    torch.manual_seed(0)
    found = {"latent_action_model.agent_box": (66, 120, 20, 20), "latent_action_model.border": 0}
    changes = {"height": 90, "width": 160, **found}
    model = LatentActionModel(vary(PRESETS["videos"].world, changes))
    ramp = torch.arange(160.0).expand(3, 90, 160) / 160
    videos = torch.stack([ramp.roll(3 * time, -1) for time in range(4)])[None]
    model.loss(videos).loss.backward()
    gradients = [each.grad for each in model.parameters()]
    assert all(each is not None and each.isfinite().all() for each in gradients)
    assert model.label(videos).shape == (1, 3)


def test_a_world_without_a_frame_rate_plays_ten_frames_a_second(tiny_checkpoint: Path) -> None:
    env = gym.make("Genie-v0", checkpoint=str(tiny_checkpoint))
    assert env.unwrapped.metadata["render_fps"] == 10
