"""A world in a window (needs the extra ``human``): arrows, WASD or digits play; see ``HELP``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genie_gym.data.video import write_video
from genie_gym.envs.rendering import FRAMES_PER_SECOND, Window
from genie_gym.play.drivers import SEEN, Driver
from genie_gym.play.keys import Keymap
from genie_gym.play.seat import Start, Visitor
from genie_gym.play.trajectory import save_trajectory

HELP = (
    "arrows or WASD: directions; 1-8: latent actions; space: pause; n: one frame; backspace: undo; r: from the start; "
    "e: elsewhere; p: the policy plays, if there is one; q: write and quit"
)


class WindowedPlay:
    """Play until the window is closed, then write what was played.

    Args:
        seat: Where to play.
        keymap: What keys mean.
        start: Where games begin.
        out: Folder of ``play.gif`` and ``play.json``.
        driver: Who plays where a person asks for it.
    """

    def __init__(self, seat: Visitor, keymap: Keymap, start: Start, out: Path, driver: Driver | None = None) -> None:
        self._seat, self._keymap, self._start, self._out, self._driver = seat, keymap, start, out, driver
        self._window = Window("Genie")
        self._is_paused = self._is_over = self._is_driven = False
        self._commands: dict[str, Callable[[], None]] = {
            "space": self._pause,
            "backspace": self._undo,
            "r": self._restart,
            "e": self._elsewhere,
            "p": self._change_driver,
            "q": self._quit,
        }

    def run(self, most_frames: int | None = None) -> None:
        """Show ``FRAMES_PER_SECOND`` frames a second, or fewer where the world is slower.

        Args:
            most_frames: Stop after so many pictures; when a person says so where not given.
        """
        import pygame

        self._elsewhere()
        shown = 0
        while not self._is_over and (most_frames is None or shown < most_frames):
            self._window.show(self._seat.frame)
            shown += 1
            steps_once = self._obey(pygame)
            if not self._is_paused or steps_once:
                self._go_on(_held(pygame))
        self._window.close()
        self._write()

    def _obey(self, pygame: Any) -> bool:
        """Do what keys were pressed for; whether one frame was asked for."""
        steps_once = False
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._is_over = True
            elif event.type == pygame.KEYDOWN:
                name = pygame.key.name(event.key)
                steps_once |= name == "n"
                self._commands.get(name, _nothing)()
        return steps_once

    def _go_on(self, held: set[str]) -> None:
        if self._driver is not None and self._is_driven:
            action: int | None = self._driver(*self._seat.look_back(SEEN))
        else:
            action = self._keymap.choose(held)
        if action is not None:
            self._seat.step(action)

    def _pause(self) -> None:
        self._is_paused = not self._is_paused

    def _change_driver(self) -> None:
        self._is_driven = not self._is_driven

    def _undo(self) -> None:
        self._seat.undo()

    def _restart(self) -> None:
        self._seat.restart()

    def _elsewhere(self) -> None:
        self._seat.open(*self._start())

    def _quit(self) -> None:
        self._is_over = True

    def _write(self) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        write_video(self._out / "play.gif", self._seat.frames, fps=FRAMES_PER_SECOND)
        save_trajectory(self._seat.trajectory, self._out / "play.json")


def _held(pygame: Any) -> set[str]:
    """Names of the keys that are down."""
    pressed, keys = pygame.key.get_pressed(), (pygame.K_UP, pygame.K_DOWN, pygame.K_LEFT, pygame.K_RIGHT)
    letters = [pygame.key.key_code(letter) for letter in "wasd123456789"]
    return {pygame.key.name(key) for key in (*keys, *letters) if pressed[key]}


def _nothing() -> None:
    """No command."""
