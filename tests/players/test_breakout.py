"""The scripted player of Breakout, on drawn screens of any size."""

import numpy as np
import pytest
from gymnasium import spaces

from genie_gym.data.frames import resize
from genie_gym.players.breakout import BreakoutPlayer
from genie_gym.players.specs import load_player

STAY, FIRE, RIGHT, LEFT = range(4)
RED, GREY = (200, 72, 72), (142, 142, 142)


def draw_screen(ball: int | None, paddle: int) -> np.ndarray:
    """Return Atari's screen (210, 160, 3) with walls, the wall's red foot, bricks, a paddle and maybe a ball."""
    screen = np.zeros((210, 160, 3), np.uint8)
    screen[32:196, :8] = screen[32:196, 152:] = GREY
    screen[189:195, 152:] = RED
    screen[57:63, 8:152] = RED
    screen[189:193, paddle : paddle + 16] = RED
    if ball is not None:
        screen[150:154, ball : ball + 2] = RED
    return screen


@pytest.mark.parametrize("size", [(210, 160), (64, 64), (90, 160)])
@pytest.mark.parametrize(
    ("ball", "paddle", "wanted"),
    [(30, 80, LEFT), (140, 80, RIGHT), (87, 80, STAY), (12, 20, LEFT), (148, 130, RIGHT), (None, 80, FIRE)],
)
def test_the_paddle_goes_below_the_ball(size: tuple[int, int], ball: int | None, paddle: int, wanted: int) -> None:
    player = BreakoutPlayer(spaces.Discrete(4))
    screens = [draw_screen(ball, paddle), draw_screen(30, 100)]
    frames = np.stack([resize(screen, *size, "pad") for screen in screens])
    assert player(frames).tolist() == [wanted, LEFT]


def test_it_is_refused_in_other_action_spaces() -> None:
    assert isinstance(load_player("breakout", space=spaces.Discrete(4)), BreakoutPlayer)
    for space in (spaces.Discrete(3), spaces.Discrete(4, start=1), spaces.Box(0, 1, (4,))):
        with pytest.raises(ValueError, match="action space of player 'breakout' must be that of ALE/Breakout-v5"):
            load_player("breakout", space=space)
