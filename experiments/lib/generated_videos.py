"""Generated videos of menus and of camera footage, 64 x 64 pixels, for the experiment on curation.

Both kinds have hard cases that show frames of games: a pause menu over a stopped game, and a camera that films a
screen. A camera's picture has hand shake, perspective, noise, blur and drifting light.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from genie_gym.data.frames import resize

SIDE = 64
"""Height and width of frames in pixels."""
_CANVAS = 128
"""Height and width in pixels at which menus are drawn."""
_FONTS = ["DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif-Bold", "DejaVuSans", "STIXGeneralBol", "cmss10", "cmtt10"]
_WORDS = [
    "START GAME",
    "CONTINUE",
    "OPTIONS",
    "QUIT",
    "LOAD",
    "SAVE",
    "CREDITS",
    "LEVEL SELECT",
    "SOUND ON",
    "MUSIC",
    "BACK",
    "HIGH SCORES",
    "EASY",
    "HARD",
    "1 PLAYER",
    "PAUSED",
    "RESUME",
    "GAME OVER",
    "YOU WIN",
    "PRESS ANY KEY",
    "LOADING",
    "SUBSCRIBE",
]

Background = Callable[[int], Image.Image]
"""Function from a frame's number to the picture behind a menu, of ``_CANVAS`` pixels."""
Layout = Callable[[np.random.Generator], Callable[[ImageDraw.ImageDraw, int], None]]


def draw_menu(rng: np.random.Generator, num_frames: int, game: np.ndarray | None = None) -> np.ndarray:
    """Return a video of menus and titles (T, 64, 64, 3) uint8: one of five layouts, changed twice on average.

    Args:
        rng: Source of layouts, fonts, colours and animations.
        num_frames: Number of frames T.
        game: Frame (64, 64, 3) of a game that lies dimmed behind the menu; None for a drawn background.
    """
    frames: list[np.ndarray] = []
    while len(frames) < num_frames:
        background = _draw_background(rng) if game is None else _freeze(game, rng)
        draw = _LAYOUTS[rng.integers(len(_LAYOUTS))](rng)
        for number in range(int(rng.integers(num_frames // 4, num_frames))):
            picture = background(number)
            draw(ImageDraw.Draw(picture), number)
            frames.append(np.asarray(picture))
    kind = Image.Resampling.LANCZOS if rng.random() < 0.7 else Image.Resampling.NEAREST
    shown = frames[:num_frames]
    return np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), kind)) for frame in shown])


def film_scene(rng: np.random.Generator, num_frames: int, game: np.ndarray | None = None) -> np.ndarray:
    """Return camera footage (T, 64, 64, 3) uint8 of a room or a landscape, or of a screen that shows a game.

    Args:
        rng: Source of scenes and of the camera's motion.
        num_frames: Number of frames T.
        game: Video (T, 64, 64, 3) of a game on the screen that is filmed; None for a scene without a screen.
    """
    scene, screen = _paint_scene(rng), np.concatenate([rng.integers(60, 110, 2), rng.integers(110, 170, 1)])
    walk, light = _wander(rng, num_frames, 8, 0.9), _wander(rng, num_frames, 1, 0.98)[:, 0]
    shake, noise, blur = rng.uniform(0.5, 4), rng.uniform(2, 14), rng.uniform(0.3, 1.2)
    objects = [_paint_object(rng) for _ in range(rng.integers(0, 4))]
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    shade = 1 - rng.uniform(0, 0.5) * (rows**2 + columns**2)[..., None] / 2
    frames = []
    for number in range(num_frames):
        picture = scene.copy()
        for item, start, speed in objects:
            place = start + number * speed
            picture.paste(item, (int(place[0]) % 256 - 16, int(place[1]) % 256 - 16), item)
        if game is not None:
            left, top, side = (int(each) for each in screen)
            picture.paste((8, 8, 10), (left - 6, top - 6, left + side + 6, top + side + 6))
            picture.paste(Image.fromarray(game[number]).resize((side, side)), (left, top))
        corners = np.array([[40, 40], [40, 216], [216, 216], [216, 40]]) + shake * walk[number].reshape(4, 2)
        corners = corners + 3 * shake * walk[number, :2]  # the hand moves all corners, and turns them a little
        picture = picture.transform((SIDE, SIDE), Image.Transform.QUAD, corners.flatten(), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float64) * shade
        pixels = pixels * (1 + 0.15 * light[number]) + noise * rng.standard_normal(pixels.shape)
        frames.append(pixels.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def overlay_score(rng: np.random.Generator, video: np.ndarray) -> np.ndarray:
    """Return a video of a game (T, 64, 64, 3) with a line of text, as many games have one over their picture."""
    font, colour, place = _pick_font(rng, 9), tuple(rng.integers(150, 256, 3).tolist()), rng.choice([1, 52])
    name, points, lives = rng.choice(["SCORE", "COINS", "TIME", "HP"]), int(rng.integers(900)), int(rng.integers(9))
    frames = []
    for number, frame in enumerate(video):
        picture = Image.fromarray(frame)
        text = f"{name} {points + number // 12}  x{lives}"
        ImageDraw.Draw(picture).text((2, int(place)), text, fill=colour, font=font)
        frames.append(np.asarray(picture))
    return np.stack(frames)


def _pick_font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{rng.choice(_FONTS)}.ttf"), size)


def _pick_colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, ...]:
    return tuple(rng.integers(low, high, 3).tolist())


def _freeze(game: np.ndarray, rng: np.random.Generator) -> Background:
    dim = rng.uniform(0.3, 1.0)
    picture = Image.fromarray((resize(game, _CANVAS, _CANVAS) * dim).astype(np.uint8))
    return lambda number: picture.copy()


def _draw_background(rng: np.random.Generator) -> Background:
    """Return one of four backgrounds: plain, a gradient, moving tiles, or stars that fall."""
    first, second = (np.array(_pick_colour(rng, 0, 200)) for _ in range(2))
    kind, speed, side = rng.integers(4), int(rng.integers(0, 3)), int(rng.integers(8, 25))
    stars = rng.integers(_CANVAS, size=(rng.integers(20, 90), 2))
    ramp = np.linspace(0, 1, _CANVAS)[:, None, None]
    rows, columns = np.mgrid[:_CANVAS, :_CANVAS]

    def paint(number: int) -> Image.Image:
        if kind == 0:
            return Image.new("RGB", (_CANVAS, _CANVAS), tuple(first.tolist()))
        if kind == 1:
            pixels = np.broadcast_to(first + ramp * (second - first), (_CANVAS, _CANVAS, 3))
        elif kind == 2:
            is_odd = (((rows + number * speed) // side + (columns + number * speed) // side) % 2)[..., None]
            pixels = np.where(is_odd == 1, first, second)
        else:
            pixels = np.broadcast_to(first // 4, (_CANVAS, _CANVAS, 3)).copy()
            pixels[(stars[:, 0] + number * speed) % _CANVAS, stars[:, 1]] = 230
        return Image.fromarray(pixels.astype(np.uint8))

    return paint


def _list_words(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A title above a list, in which a cursor moves down."""
    title, entry = _pick_font(rng, int(rng.integers(16, 26))), _pick_font(rng, int(rng.integers(9, 15)))
    words, colour, lit = rng.choice(_WORDS, size=6, replace=False), _pick_colour(rng, 120), _pick_colour(rng, 60)
    pace, left = int(rng.integers(4, 25)), int(rng.integers(4, 40))

    def draw(pen: ImageDraw.ImageDraw, number: int) -> None:
        pen.text((_CANVAS // 2, 20), str(words[0]), fill=lit, font=title, anchor="mm")
        for row, word in enumerate(words[1:]):
            is_lit = row == number // pace % (len(words) - 1)
            text = f"> {word}" if is_lit else str(word)
            pen.text((left, 42 + 16 * row), text, fill=lit if is_lit else colour, font=entry)

    return draw


def _tile_levels(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A grid of numbered levels, one of which is lit."""
    font, rows, columns = _pick_font(rng, 12), int(rng.integers(2, 5)), int(rng.integers(3, 6))
    colours, lit, pace = (
        [_pick_colour(rng) for _ in range(rows * columns)],
        _pick_colour(rng, 180),
        int(rng.integers(3, 15)),
    )
    wide, tall = _CANVAS // columns, 100 // rows

    def draw(pen: ImageDraw.ImageDraw, number: int) -> None:
        for place, colour in enumerate(colours):
            left, top = place % columns * wide + 4, place // columns * tall + 20
            is_lit = place == number // pace % len(colours)
            box = (left, top, left + wide - 8, top + tall - 6)
            pen.rounded_rectangle(box, 4, fill=colour, outline=lit if is_lit else None, width=3)
            pen.text((left + wide // 3, top + tall // 3), str(place + 1), fill=(255, 255, 255), font=font)

    return draw


def _roll_credits(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """Lines of text that scroll up."""
    font, colour, speed = _pick_font(rng, int(rng.integers(9, 14))), _pick_colour(rng, 120), rng.uniform(0.3, 2)
    lines = [" ".join(rng.choice(_WORDS, size=2)) for _ in range(30)]

    def draw(pen: ImageDraw.ImageDraw, number: int) -> None:
        for row, line in enumerate(lines):
            top = (_CANVAS + 18 * row - number * speed) % (18 * len(lines)) - 18
            pen.text((_CANVAS // 2, top), line, fill=colour, font=font, anchor="mm")

    return draw


def _load_slowly(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A logo that pulses above a bar that fills."""
    font, word = _pick_font(rng, int(rng.integers(18, 32))), str(rng.choice(_WORDS))
    colour, bar, pace = _pick_colour(rng, 120), _pick_colour(rng, 80), rng.uniform(0.3, 2)

    def draw(pen: ImageDraw.ImageDraw, number: int) -> None:
        glow = 0.7 + 0.3 * np.sin(number / 5)
        fill = tuple(int(each * glow) for each in colour)
        pen.text((_CANVAS // 2, 50), word, fill=fill, font=font, anchor="mm")
        pen.rectangle((14, 90, 114, 100), outline=bar)
        pen.rectangle((14, 90, 14 + number * pace % 100, 100), fill=bar)

    return draw


def _ask_in_box(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A box of text that appears letter by letter, below a flashing title."""
    font, title = _pick_font(rng, int(rng.integers(9, 13))), _pick_font(rng, int(rng.integers(16, 28)))
    fill, edge, colour = _pick_colour(rng, 0, 90), _pick_colour(rng, 150), _pick_colour(rng, 170)
    text, word, top = "\n".join(" ".join(rng.choice(_WORDS, size=2)) for _ in range(3)), str(rng.choice(_WORDS)), 70

    def draw(pen: ImageDraw.ImageDraw, number: int) -> None:
        if number // 6 % 2:
            pen.text((_CANVAS // 2, 30), word, fill=edge, font=title, anchor="mm")
        pen.rounded_rectangle((6, top, _CANVAS - 6, _CANVAS - 6), 5, fill=fill, outline=edge, width=2)
        pen.text((12, top + 5), text[: number % (2 * len(text))], fill=colour, font=font)

    return draw


_LAYOUTS: list[Layout] = [_list_words, _tile_levels, _roll_credits, _load_slowly, _ask_in_box]


def _wander(rng: np.random.Generator, steps: int, size: int, keep: float) -> np.ndarray:
    """Return (steps, size) values of a random walk that is drawn back to zero, of standard deviation one."""
    walk = rng.standard_normal((steps, size))
    for step in range(1, steps):
        walk[step] = keep * walk[step - 1] + np.sqrt(1 - keep**2) * walk[step]
    return walk


def _paint_scene(rng: np.random.Generator) -> Image.Image:
    """Return a picture of 256 x 256 pixels: cloudy textures above and below a horizon, with lines towards it."""
    pixels = np.zeros((256, 256, 3))
    horizon = int(rng.integers(60, 180))
    for part in (slice(0, horizon), slice(horizon, 256)):
        sizes = (4, 8, 16, 32, 64, 128)
        cloud = np.sum([_enlarge(rng.standard_normal((size, size)), 256) / size**0.7 for size in sizes], axis=0)
        colour = np.array(_pick_colour(rng, 40, 220))
        pixels[part] = colour + rng.uniform(20, 70) * cloud[part, :, None] * rng.uniform(0.5, 1, 3)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.6:  # a floor of boards
        vanishing = (int(rng.integers(60, 200)), horizon)
        for left in range(-400, 660, int(rng.integers(25, 70))):
            pen.line((*vanishing, left, 256), fill=_pick_colour(rng, 30, 120), width=2)
    for _ in range(rng.integers(0, 6)):  # furniture, trees, houses
        left, top, wide, tall = rng.integers(0, 220), rng.integers(20, 180), rng.integers(15, 90), rng.integers(15, 110)
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((int(left), int(top), int(left + wide), int(top + tall)), fill=_pick_colour(rng, 20, 220))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.5)))


def _enlarge(grid: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(grid.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))


def _paint_object(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Return a blurred thing with its place and its speed in pixels a frame."""
    item = Image.new("RGBA", (48, 48))
    colour = (*_pick_colour(rng, 20, 240), 255)
    wide, tall = (int(each) for each in rng.integers(8, 22, 2))
    ImageDraw.Draw(item).ellipse((24 - wide, 24 - tall, 24 + wide, 24 + tall), fill=colour)
    return item.filter(ImageFilter.GaussianBlur(1.5)), rng.integers(0, 256, 2), rng.normal(0, 1.5, 2)
