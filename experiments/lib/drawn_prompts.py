"""Pictures to play from, drawn in a few strokes: scenes on white paper, and figures in the middle of made-up games."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

_SIDE = 256  # of the drawing, which is then scaled down
_BACKGROUNDS = {
    "paper": ("white", "white", "black"),
    "meadow": ("#9ad8ff", "#3f9b3a", "#f4f4ff"),
    "night": ("#10183c", "#55556a", "#f2e28a"),
    "cave": ("#4a3326", "#8c6a4f", "#2a1b14"),
    "desert": ("#f7dfae", "#c98f4e", "#8a5a2b"),
    "city": ("#b9bcc4", "#3c3f46", "#7d4f7a"),
}
"""Kind of background -> colours of sky, ground and things."""
_FIGURE_COLOURS = ("#d62728", "#1f77b4", "#ff7f0e", "#9467bd", "#17becf", "#111111")


def draw_scene(seed: int) -> np.ndarray:
    """Draw a platform game (64, 64, 3) uint8 in thick lines on white: ground, boxes, a sun and a stick figure."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (_SIDE, _SIDE), "white")
    pen = ImageDraw.Draw(image)
    ground = int(rng.integers(170, 220))
    pen.line([(0, ground), (256, ground)], fill="black", width=6)
    for _ in range(int(rng.integers(1, 4))):
        left, size = int(rng.integers(90, 220)), int(rng.integers(24, 52))
        pen.rectangle([left, ground - size, left + size, ground], outline="black", width=6)
    pen.ellipse([190, 16, 236, 62], outline="black", width=6)
    x = int(rng.integers(20, 70))
    pen.ellipse([x, ground - 90, x + 28, ground - 62], outline="black", width=6)
    pen.line([(x + 14, ground - 62), (x + 14, ground - 28)], fill="black", width=6)
    for foot in (0, 28):
        pen.line([(x + 14, ground - 28), (x + foot, ground)], fill="black", width=6)
    return _scale_down(image)


def draw_figure_scene(number: int) -> np.ndarray:
    """Draw a player-like figure on the ground in the middle of a game that does not exist, (64, 64, 3) uint8.

    Numbers go through every style on every background; colours, height and things around are drawn by chance.
    """
    rng = np.random.default_rng(number)
    sky, ground, things = list(_BACKGROUNDS.values())[number // len(_STYLES) % len(_BACKGROUNDS)]
    image = Image.new("RGB", (_SIDE, _SIDE), sky)
    pen = ImageDraw.Draw(image)
    height = int(rng.integers(28, 68))
    feet = _SIDE // 2 + height // 2
    _draw_things(pen, rng, feet, things)
    _draw_ground(pen, rng, feet, ground, things)
    _STYLES[number % len(_STYLES)](pen, height, feet, _FIGURE_COLOURS[int(rng.integers(len(_FIGURE_COLOURS)))])
    return _scale_down(image)


def _draw_things(pen: ImageDraw.ImageDraw, rng: np.random.Generator, feet: int, colour: str) -> None:
    """Draw round things in the sky, and boxes on the ground on both sides of the middle."""
    for _ in range(int(rng.integers(4, 8))):
        left, top = int(rng.integers(0, 230)), int(rng.integers(0, max(feet - 90, 8)))
        width, height = rng.integers(12, 48, size=2).tolist()
        pen.ellipse([left, top, left + width, top + height // 2], fill=colour)
    for left in (int(rng.integers(0, 50)), int(rng.integers(160, 220))):
        width, height = rng.integers(16, 44, size=2).tolist()
        pen.rectangle([left, feet - height, left + width, feet], fill=colour)


def _draw_ground(pen: ImageDraw.ImageDraw, rng: np.random.Generator, feet: int, ground: str, colour: str) -> None:
    """Fill everything below the feet with stones of different widths."""
    pen.rectangle([0, feet, _SIDE, _SIDE], fill=ground)
    for top in range(feet, _SIDE, 28):
        pen.line([(0, top), (_SIDE, top)], fill=colour, width=5)
        for joint in np.cumsum(rng.integers(16, 56, size=16)).tolist():
            pen.line([(joint, top), (joint, top + 28)], fill=colour, width=5)


def _draw_stick(pen: ImageDraw.ImageDraw, height: int, feet: int, colour: str) -> None:
    middle, head, hips = _SIDE // 2, height // 3, feet - height // 3
    pen.ellipse([middle - head // 2, feet - height, middle + head // 2, feet - height + head], outline=colour, width=5)
    pen.line([(middle, feet - height + head), (middle, hips)], fill=colour, width=6)
    for side in (-head // 2, head // 2):
        pen.line([(middle, hips), (middle + side, feet)], fill=colour, width=6)


def _draw_robot(pen: ImageDraw.ImageDraw, height: int, feet: int, colour: str) -> None:
    middle, half = _SIDE // 2, height // 3
    pen.rectangle([middle - half, feet - height, middle + half, feet - height // 5], fill=colour)
    pen.rectangle(
        [middle - half // 2, feet - height * 4 // 5, middle + half // 2, feet - height * 3 // 5], fill="white"
    )
    for side in (-half, half // 3):
        pen.rectangle([middle + side, feet - height // 5, middle + side + half * 2 // 3, feet], fill=colour)


def _draw_blob(pen: ImageDraw.ImageDraw, height: int, feet: int, colour: str) -> None:
    middle, half = _SIDE // 2, height // 2
    pen.ellipse([middle - half, feet - height, middle + half, feet], fill=colour)
    for side in (-half // 2, half // 4):
        top = feet - height * 3 // 4
        pen.ellipse([middle + side, top, middle + side + height // 5, top + height // 4], fill="white")


def _draw_gown(pen: ImageDraw.ImageDraw, height: int, feet: int, colour: str) -> None:
    middle, head = _SIDE // 2, height // 3
    pen.polygon([(middle, feet - height), (middle - head, feet), (middle + head, feet)], fill=colour)
    pen.ellipse([middle - head // 2, feet - height, middle + head // 2, feet - height + head], fill="#f1c9a5")


_STYLES: tuple[Callable[[ImageDraw.ImageDraw, int, int, str], None], ...] = (
    _draw_stick,
    _draw_robot,
    _draw_blob,
    _draw_gown,
)


def _scale_down(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((64, 64), Image.Resampling.BOX))
