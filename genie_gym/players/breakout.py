"""A scripted player of Atari's Breakout."""

import numpy as np
from gymnasium import spaces

from genie_gym.checks import require

_STAY, _FIRE, _RIGHT, _LEFT = range(4)
_BALL_ROWS = 0.457, 0.895
"""Rows below the bricks and above the paddle, as shares of the frame's height."""
PADDLE_ROWS = 0.9, 0.92
"""Rows of the paddle, as shares of the frame's height."""
_HALF_FIELD = 0.338
"""Distance of the walls from the middle, as a share of the frame's height: their feet are red and green."""
_REACH = 0.02
"""Distance of ball and paddle that needs no move, as a share of the frame's height."""


class BreakoutPlayer:
    """A player of ``ALE/Breakout-v5`` that keeps the paddle below the ball, and launches the ball where it sees none.

    It sees frames (B, H, W, 3) of any size that show the screen's full height, so 64 x 64 pixels with ``fit`` pad too.

    Raises:
        ValueError: If the action space is not that of Breakout, with four actions.
    """

    def __init__(self, space: spaces.Space[object]) -> None:
        is_breakout = isinstance(space, spaces.Discrete) and (space.n, space.start) == (4, 0)
        require(is_breakout, "action space of player 'breakout'", space, "that of ALE/Breakout-v5, Discrete(4)")

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        height = np.shape(frames)[1]
        ball, paddle = (find_red(frames, *rows) for rows in (_BALL_ROWS, PADDLE_ROWS))
        away = ball - paddle
        move = np.where(away > 0, _RIGHT, _LEFT)
        return np.where(np.isnan(away), _FIRE, np.where(np.abs(away) < _REACH * height, _STAY, move)).astype(np.int32)


def find_red(frames: np.ndarray, first: float, last: float) -> np.ndarray:
    """Return the mean columns (B,) of what is red between the walls in a band of rows, NaN where nothing is.

    Frames are (B, H, W, 3) uint8, as a ``BreakoutPlayer`` sees them; ``first`` and ``last`` are shares of the height.
    """
    height, width = np.shape(frames)[1:3]
    left = round(width / 2 - _HALF_FIELD * height)
    rows, columns = slice(round(first * height), round(last * height)), slice(left, width - left)
    band = np.asarray(frames)[:, rows, columns].astype(np.int32)
    red = np.maximum(band[..., 0] - band[..., 2] - 8, 0).sum(axis=1)  # (B, W)
    weights = red.sum(axis=1)
    return np.where(weights > 0, red @ np.arange(red.shape[1]) / np.maximum(weights, 1), np.nan)
