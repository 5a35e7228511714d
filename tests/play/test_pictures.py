"""Pictures from strangers: bounded in pixels, scaled before they are padded, decoded one at a time."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genie_gym.configs import WorldConfig
from genie_gym.envs.prompts import fit_prompt
from genie_gym.play.pictures import open_picture, pack_picture
from genie_gym.play.trajectory import Trajectory, format_trajectory, parse_trajectory

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "CMYK")
SIZES = ((20_000, 1), (1, 20_000), (25_000_000, 1), (4_999, 4_999), (3, 65_000), (12_000, 2_000))
MEASURE = """
import io, pathlib, resource, sys
from PIL import Image
from genie_gym.envs.prompts import fit_prompt
from genie_gym.play.pictures import open_picture
fit_prompt(Image.new("RGB", (80, 64)), 64, 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for fit in ("crop", "pad"):
        image = open_picture(path.read_bytes(), "picture")
        assert fit_prompt(image, 64, 64, fit=fit).frames.shape == (1, 64, 64, 3), path
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, path.name, fit)
"""


def encode(mode: str, size: tuple[int, int], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def test_pictures_of_any_shape_take_bounded_memory(tmp_path: Path) -> None:
    for width, height in SIZES:
        (tmp_path / f"{width} x {height}").write_bytes(encode("L", (width, height)))
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert int(line.split()[0]) < 150, f"megabytes: {line}"


@pytest.mark.parametrize("mode", MODES)
def test_a_large_picture_of_any_mode_looks_like_a_small_one(mode: str) -> None:
    """Grey on the left and light on the right, at 2,400 x 1,200 pixels and at 96 x 48."""
    grey = np.tile(np.repeat(np.array([100, 200], np.uint8), 1_200), (1_200, 1))
    looks = []
    for step in (1, 25):
        levels = grey[::step, ::step]
        if mode in ("I", "I;16"):
            image = Image.fromarray(levels.astype(np.uint16 if mode == "I;16" else np.int32) * 257)
        else:
            image = Image.fromarray(levels).convert(mode, dither=Image.Dither.NONE)
        file = io.BytesIO()
        image.save(file, "TIFF" if mode in ("CMYK", "I") else "PNG")
        looks.append(fit_prompt(open_picture(file.getvalue(), "picture", ("TIFF", "PNG")), 64, 64).frames.astype(int))
    assert np.abs(looks[0] - looks[1]).mean() < 3


@pytest.mark.parametrize("mode", ["1", "P", "L", "RGB"])
def test_fine_patterns_of_a_large_picture_are_averaged(mode: str) -> None:
    """Black and white in turn: without a mean, a picture of numbered colours would become black or white."""
    lines = np.tile(np.array([0, 255], np.uint8), (2_100, 1_050))
    file = io.BytesIO()
    Image.fromarray(lines).convert(mode, dither=Image.Dither.NONE).save(file, "PNG")
    frames = fit_prompt(open_picture(file.getvalue(), "picture"), 64, 64).frames
    assert 100 < frames.mean() < 155


def test_a_large_photo_stays_upright() -> None:
    image = Image.fromarray(np.repeat(np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8), 1_500, 0).repeat(3_000, 1))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    frame = fit_prompt(open_picture(file.getvalue(), "picture"), 64, 64).frames[0]
    assert frame[0, 0, 2] > 200 > frame[0, 0, 0]


def written(**changes: Any) -> str:
    trajectory = Trajectory(
        checkpoint="digest",
        prompt=np.zeros((1, 64, 64, 3), dtype=np.uint8),
        world_seed=1,
        maskgit_steps=2,
        temperature=0.5,
        latent_actions=(0, 1),
    )
    return json.dumps({**json.loads(format_trajectory(trajectory)), **changes})


LARGE = base64.b64encode(encode("L", (4_990, 5_000))).decode()
SMALL = base64.b64encode(pack_picture(np.zeros((63, 64, 3), np.uint8))).decode()
HOSTILE = [
    *({"temperature": value} for value in (1e-320, 1e-7, 0, -1, 1e7, 10**400, -(10**400), float("nan"), float("inf"))),
    *({"temperature": value} for value in (True, "1", None, [1])),
    *({"maskgit_steps": value} for value in (0, -1, 2.0, True, "1", None, float("nan"))),
    *({"latent_actions": value} for value in ([8], [-1], [2**62], [10**400], [0.0], [True], [None], "01", {"0": 1})),
    *({"world_seed": value} for value in (-1, 2**63, 10**400, 1.0, None, "1")),
    *({name: value} for name in ("checkpoint", "checkpoint_name") for value in (None, 1, "x" * 2**20, ["x"])),
    *(
        {"prompt": value}
        for value in ([LARGE] * 4, [SMALL], [LARGE], [SMALL] * 5, [], "x", [None], [""], ["x" * 2**20])
    ),
    {"x" * 2**20: 1},
]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: str(next(iter(change.items())))[:60])
def test_a_value_that_the_world_cannot_play_is_named_before_a_picture_is_decoded(
    tiny_config: WorldConfig, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    assert parse_trajectory(written(), config=tiny_config).latent_actions == (0, 1)
    decoded: list[Any] = []
    monkeypatch.setattr(Image.Image, "convert", lambda image, *_: decoded.append(image))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decoded.append)
    with pytest.raises(ValueError, match=r"temperature|steps|actions|seed|checkpoint|prompt|fields") as refused:
        parse_trajectory(written(**change), config=tiny_config)
    assert not decoded
    name = next(iter(change))
    assert name.removeprefix("trajectory ") in str(refused.value) or len(name) > 100
    assert len(str(refused.value)) < 1_000, "what a visitor sends is not sent back at length"
