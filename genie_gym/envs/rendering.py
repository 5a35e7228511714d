"""Rendering: the modes of the environments, and a pygame window that shows frames scaled up."""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from genie_gym.checks import require
from genie_gym.configs import WorldConfig
from genie_gym.extras import MissingExtraError, need_extra

_MAX_WINDOW_PIXELS = 512  # longer side of the window; a larger frame is shown unscaled

FRAMES_PER_SECOND = 10
"""Frame rate of windows and recordings of a world without one: that of the paper's platformer videos."""


def playing_rate(config: WorldConfig) -> float:
    """Return the frames a second at which a world is shown: its own, or the usual rate if it has none."""
    return config.fps or FRAMES_PER_SECOND


def require_render_mode(render_mode: str | None, known: list[str]) -> None:
    """Check that ``render_mode`` is known and can be shown on this machine.

    Raises:
        ValueError: If the mode is unknown.
        PygameMissingError: If it is ``human`` and pygame is missing.
    """
    require(render_mode is None or render_mode in known, "render_mode", render_mode, f"None or one of {known}")
    if render_mode == "human":
        _import_pygame()


def available_modes(known: list[str]) -> list[str]:
    """Return the known modes that this machine can show: ``human`` only if pygame is installed."""
    return [mode for mode in known if mode != "human" or importlib.util.find_spec("pygame") is not None]


def window_scale(height: int, width: int) -> int:
    """Return the largest whole factor by which a frame can be scaled up and still fit the window; at least 1."""
    return max(1, _MAX_WINDOW_PIXELS // max(height, width))


class PygameWindow:
    """A pygame window, opened by the first frame that it shows, for at most ``fps`` frames a second."""

    def __init__(self, fps: float = FRAMES_PER_SECOND) -> None:
        self._fps, self._pygame = fps, _import_pygame()
        self._screen: Any = None
        self._clock: Any = None

    def __reduce__(self) -> tuple[type, tuple]:
        """Copy to a window that its first frame opens: what pygame holds cannot be copied."""
        return type(self), (self._fps,)

    def show(self, frame: np.ndarray) -> None:
        """Show an (H, W, 3) uint8 frame scaled up, after waiting for its turn."""
        scale = window_scale(*frame.shape[:2])
        pixels = frame.repeat(scale, axis=0).repeat(scale, axis=1).transpose(1, 0, 2)
        if self._screen is None:
            self._pygame.display.init()
            self._screen = self._pygame.display.set_mode(pixels.shape[:2])
            self._pygame.display.set_caption("Genie")
            self._clock = self._pygame.time.Clock()
        self._pygame.surfarray.blit_array(self._screen, pixels)
        self._pygame.event.pump()
        self._clock.tick(self._fps)
        self._pygame.display.flip()

    def close(self) -> None:
        """Close the window if it is open."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = self._clock = None


class PygameMissingError(MissingExtraError, DependencyNotInstalled):
    """Pygame is missing; also the error that Gymnasium defines for a missing package."""


def _import_pygame() -> ModuleType:
    try:
        with need_extra("human", "A window (render_mode='human'; 'rgb_array' needs none) needs pygame"):
            return importlib.import_module("pygame")
    except MissingExtraError as error:
        raise PygameMissingError(str(error)) from error
