"""The demo: every tile and row shows the latent action that its title names."""

from pathlib import Path

import numpy as np
from PIL import Image

from genie_gym.envs import GenieEnv, WorldHandle, zero_rewards
from genie_gym.envs import demo as module
from genie_gym.envs.demo import lay_out, play_demo
from genie_gym.models.world_model import GenieWorldModel


def test_each_row_of_the_sheet_holds_its_action_from_the_same_start(
    tiny_world: GenieWorldModel, tmp_path: Path
) -> None:
    handle = WorldHandle(tiny_world)
    play_demo(tmp_path, 3, seed=5, checkpoint=handle)
    with Image.open(tmp_path / "demo.png") as picture:
        sheet = np.asarray(picture)
    tiles = np.pad(sheet[:, 64:], [(0, 2), (0, 2), (0, 0)]).reshape(8, 66, 4, 66, 3).swapaxes(1, 2)
    played = tiles[:, :, :64, :64]
    env = GenieEnv(checkpoint=handle, reward_fn=zero_rewards)
    for action, row in enumerate(played):
        held = [env.reset(seed=5)[0], *(env.step(np.int64(action))[0] for _ in range(3))]
        assert np.array_equal(row, np.stack(held)), action
    with Image.open(tmp_path / "demo.gif") as animation:
        assert animation.n_frames == 4
        assert animation.info["duration"] > 500, "the start is shown for a while"


def test_tiles_keep_the_order_and_the_pixels_of_their_videos() -> None:
    videos = np.random.default_rng(0).integers(256, size=(5, 2, 8, 16, 3), dtype=np.uint8)
    pictures, scale = lay_out(videos, ["left", "right", "up", "down", "still"]), module._SCALE
    height, width = module._TITLE + 8 * scale + module._GAP, 16 * scale + module._GAP
    assert pictures.shape == (2, 2 * height, 4 * width, 3)
    for number in range(8):
        top, left = number // 4 * height, number % 4 * width
        title = pictures[:, top : top + module._TITLE, left : left + width]
        tile = pictures[:, top + module._TITLE : top + height - module._GAP, left : left + width - module._GAP]
        if number < 5:
            assert np.array_equal(tile[:, ::scale, ::scale], videos[number])
            assert title.min() < 50
        else:
            assert title.min() == tile.min() == 255
