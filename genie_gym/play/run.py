"""The parts of ``genie-gym play``: a page in the browser, a window, and the replay of a trajectory."""

import contextlib
import importlib
from collections.abc import Callable
from pathlib import Path

from genie_gym.checks import require
from genie_gym.data.frames import contact_sheet, write_image
from genie_gym.data.video import write_video
from genie_gym.envs.keys import Keymap
from genie_gym.envs.prompts import FittedPrompt
from genie_gym.envs.rendering import playing_rate
from genie_gym.extras import need_extra
from genie_gym.play.config import LOOPBACK
from genie_gym.play.limits import DEFAULT_LIMITS
from genie_gym.play.setup import PlaySetup
from genie_gym.play.trajectory import identify_checkpoint, load_trajectory
from genie_gym.play.visitor import replay
from genie_gym.play.window import WINDOW_KEYS, WindowedPlay
from genie_gym.results.files import require_writable
from genie_gym.serving import load_world

WINDOW_UNDO_STEPS = 32
"""Number of successive steps that can be undone in a window; each keeps at most 0.8 MB in the shipped world."""


def require_address(host: str, port: int, token: str | None) -> None:
    """Check the address at which a page will be served.

    Raises:
        ValueError: If other machines can reach the page without a token, or there is no such port.
    """
    if host != LOOPBACK and not token:
        raise ValueError(f"token must be given with a host that other machines can reach, got {token!r} and {host!r}")
    require(0 <= port < 2**16, "port", port, f"in [0, {2**16})")


def require_server() -> None:
    """Raise a MissingExtraError unless the server of the page is installed."""
    with need_extra("play", "Playing on a page needs its server"):
        for package in ("starlette", "uvicorn", "websockets"):
            importlib.import_module(package)


def play_in_browsers(setup: PlaySetup, host: str, port: int, token: str | None) -> None:
    """Serve the page at an address until interrupted; all visitors must give the token.

    Raises:
        ValueError: If ``require_address`` refuses the address.
        MissingExtraError: If the extra ``play`` is not installed.
    """
    require_address(host, port, token)
    require_server()
    import uvicorn

    from genie_gym.play.door import configure_server
    from genie_gym.play.server import build_app

    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        uvicorn.Server(configure_server(build_app(setup, token=token), DEFAULT_LIMITS, host, port)).run()


def play_in_window(setup: PlaySetup, out: Path, report: Callable[[str], object]) -> None:
    """Open a window and play until it is closed.

    Args:
        setup: World and settings to play with.
        out: Folder to write ``play.gif`` and ``play.json`` into.
        report: Function that shows a text, such as ``print``; it is called with the list of keys.

    Raises:
        DependencyNotInstalled: If pygame is missing.
        ValueError: If the files cannot be written.
    """
    require_writable(out / "play.json")
    names = setup.session.action_meanings
    visitor = setup.new_visitor(WINDOW_UNDO_STEPS)
    window = WindowedPlay(visitor, Keymap(names), setup.starts, out, setup.driver, setup.wait)
    report("\n".join([WINDOW_KEYS, *(f"{number}: {name}" for number, name in enumerate(names, start=1))]))
    window.run()


def write_prompt(prompt: FittedPrompt, out: Path) -> Path:
    """Write a prompt's frames side by side, oldest at the left, and return the path of ``prompt.png``.

    Raises:
        ValueError: If the file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_image(out / "prompt.png", contact_sheet(prompt.frames[None]))
    return out / "prompt.png"


def write_replay(checkpoint: str, device: str, path: Path, out: Path) -> int:
    """Write a trajectory's frames as ``play.gif`` and return their number.

    Raises:
        ValueError: If the trajectory cannot be read or is of another checkpoint, or the file cannot be written.
    """
    require_writable(out / "play.gif")
    identity, world = identify_checkpoint(checkpoint), load_world(checkpoint, device)
    frames = replay(world, identity, load_trajectory(path, identity, world.config))
    write_video(out / "play.gif", frames, fps=playing_rate(world.config))
    return len(frames)
