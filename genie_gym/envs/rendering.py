"""How an environment is looked at: arrays, or a window scaled up for human eyes."""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from genie_gym.extras import MissingExtraError, need_extra

WINDOW_PIXELS = 512
"""A window's longer side is at most this."""

FRAMES_PER_SECOND = 10
"""Of windows and recordings: the paper's platformer videos."""


def require_render_mode(render_mode: str | None, known: list[str]) -> None:
    """Raise unless ``render_mode`` is known and can be shown here.

    Raises:
        ValueError: If the mode is unknown.
        PygameMissingError: If it is ``human`` and pygame is missing.
    """
    if render_mode is not None and render_mode not in known:
        raise ValueError(f"render_mode must be None or one of {known}, got {render_mode!r}")
    if render_mode == "human":
        _import_pygame()


def modes_here(known: list[str]) -> list[str]:
    """The known modes that can be shown here: ``human`` only where pygame is installed."""
    return [mode for mode in known if mode != "human" or importlib.util.find_spec("pygame") is not None]


def window_scale(height: int, width: int) -> int:
    """The largest whole factor by which a frame still fits the window; at least 1."""
    return max(1, WINDOW_PIXELS // max(height, width))


class Window:
    """One pygame window, opened by the first frame."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._pygame = _import_pygame()
        self._screen: Any = None
        self._clock: Any = None

    def show(self, frame: np.ndarray) -> None:
        """Show (H, W, 3) uint8, pixels as squares, and wait for the frame's time to pass."""
        scale = window_scale(*frame.shape[:2])
        pixels = frame.repeat(scale, axis=0).repeat(scale, axis=1).transpose(1, 0, 2)
        if self._screen is None:
            self._open(pixels.shape[:2])
        self._pygame.surfarray.blit_array(self._screen, pixels)
        self._pygame.event.pump()
        self._clock.tick(FRAMES_PER_SECOND)
        self._pygame.display.flip()

    def close(self) -> None:
        """Close it, if it is open."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = self._clock = None

    def _open(self, size: tuple[int, ...]) -> None:
        self._pygame.display.init()
        self._screen = self._pygame.display.set_mode(size)
        self._pygame.display.set_caption(self.title)
        self._clock = self._pygame.time.Clock()


class PygameMissingError(MissingExtraError, DependencyNotInstalled):
    """Gymnasium's own error for it, too."""


def _import_pygame() -> ModuleType:
    try:
        with need_extra("human", "A window (render_mode='human'; 'rgb_array' needs none) needs pygame"):
            return importlib.import_module("pygame")
    except MissingExtraError as error:
        raise PygameMissingError(str(error)) from error
