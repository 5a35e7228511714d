"""Playing in a window (needs the extra ``human``) with the keys listed in ``WINDOW_KEYS``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genie_gym.data.video import write_video
from genie_gym.envs.keys import SETTLING_STEPS, Keymap
from genie_gym.envs.rendering import PygameWindow
from genie_gym.envs.session import Start
from genie_gym.play.drivers import DRIVER_FRAMES, Driver
from genie_gym.play.trajectory import save_trajectory
from genie_gym.play.visitor import Visitor

WINDOW_KEYS = (
    "arrows or WASD: directions; 1-9: latent actions; space: pause; n: one frame; backspace: undo; r: restart; "
    "e: another start; p: switch the policy on or off, if there is one; q: save and quit"
)


class WindowedPlay:
    """Plays in a window until it is closed, then saves the episode.

    Args:
        visitor: Visitor who plays.
        keymap: Map from keys to latent actions.
        starts: Starts of successive episodes.
        out: Folder to write ``play.gif`` and ``play.json`` into.
        driver: Policy that plays while it is switched on.
        wait: Whether the world waits while no key is pressed, ``SETTLING_STEPS`` after the last one.
    """

    def __init__(
        self,
        visitor: Visitor,
        keymap: Keymap,
        starts: Iterator[Start],
        out: Path,
        driver: Driver | None = None,
        wait: bool = True,
    ) -> None:
        self._visitor, self._keymap, self._starts, self._out, self._driver = visitor, keymap, starts, out, driver
        self._window = PygameWindow(visitor.session.fps)
        self._is_paused = self._is_over = self._is_driven = False
        self._wait, self._idle_steps = wait, SETTLING_STEPS

    def run(self, most_frames: int | None = None) -> None:
        """Play at the world's frame rate, or slower if the world is slower.

        Args:
            most_frames: Number of frames to show before the window closes; None waits for the person to close it.
        """
        import pygame

        self._visitor.start(next(self._starts))
        shown = 0
        while not self._is_over and (most_frames is None or shown < most_frames):
            self._window.show(self._visitor.frame)
            shown += 1
            steps_once = self._handle_events(pygame)
            if not self._is_paused or steps_once:
                self._step(_held(pygame), steps_once)
        self._window.close()
        self._out.mkdir(parents=True, exist_ok=True)
        save_trajectory(self._visitor.trajectory, self._out / "play.json")  # first: the pictures can be made from it
        write_video(self._out / "play.gif", self._visitor.frames, fps=self._visitor.session.fps)

    def _handle_events(self, pygame: Any) -> bool:
        """Run the commands of the keys just pressed, and return whether one of them asks for a single frame."""
        steps_once = False
        for event in pygame.event.get():
            is_key, is_quit = event.type == pygame.KEYDOWN, event.type == pygame.QUIT
            key = pygame.key.name(event.key) if is_key else "q" if is_quit else None
            if key in ("backspace", "r", "e"):
                self._idle_steps = SETTLING_STEPS  # the frame shown next stays
            match key:
                case "n":
                    steps_once = True
                case "space":
                    self._is_paused = not self._is_paused
                case "backspace":
                    self._visitor.undo()
                case "r":
                    self._visitor.restart()
                case "e":
                    self._visitor.start(next(self._starts))
                case "p":
                    self._is_driven = not self._is_driven
                case "q":
                    self._is_over = True
        return steps_once

    def _step(self, held: set[str], steps_once: bool) -> None:
        if self._driver is not None and self._is_driven:
            self._visitor.step(self._driver(*self._visitor.look_back(DRIVER_FRAMES)))
            return
        self._idle_steps = 0 if held else self._idle_steps + 1
        if self._wait and self._idle_steps > SETTLING_STEPS and not steps_once:
            return
        action = self._keymap.choose(held)
        if action is not None:
            self._visitor.step(action)


def _held(pygame: Any) -> set[str]:
    """Return the names of the keys that are down."""
    pressed, keys = pygame.key.get_pressed(), (pygame.K_UP, pygame.K_DOWN, pygame.K_LEFT, pygame.K_RIGHT)
    letters = [pygame.key.key_code(letter) for letter in "wasd123456789"]
    return {pygame.key.name(key) for key in (*keys, *letters) if pressed[key]}
