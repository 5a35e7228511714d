"""``genie-gym play``: a checkpoint behind a page or in a window, or a trajectory again."""

from collections.abc import Callable
from pathlib import Path

from genie_gym.data.frames import contact_sheet, write_image
from genie_gym.data.video import write_video
from genie_gym.envs.prompts import FittedPrompt
from genie_gym.envs.rendering import FRAMES_PER_SECOND
from genie_gym.extras import need_extra
from genie_gym.models.loading import digest_checkpoint
from genie_gym.play.config import LOOPBACK
from genie_gym.play.keys import Keymap
from genie_gym.play.opening import Opened
from genie_gym.play.seat import UNDONE, replay
from genie_gym.play.trajectory import load_trajectory
from genie_gym.play.window import HELP, WindowedPlay
from genie_gym.serving import load_world


def require_address(host: str, port: int, token: str | None) -> None:
    """Check where a page is to be served.

    Raises:
        ValueError: If others than this machine can come without a token, or there is no such port.
    """
    if host != LOOPBACK and not token:
        raise ValueError(f"token must be given with a host that others can reach, got {token!r} and {host!r}")
    if not 0 <= port < 2**16:
        raise ValueError(f"port must be in [0, {2**16}), got {port}")


def play_in_browsers(opened: Opened, host: str, port: int, token: str | None) -> None:
    """Serve a page on which it is played, until interrupted.

    Args:
        opened: What is played.
        host: Address to listen on.
        port: The same.
        token: Without it nobody plays; must be given where others than this machine can come.

    Raises:
        ValueError: If the address is off.
        MissingExtraError: If the extra ``play`` is not installed.
    """
    require_address(host, port, token)
    with need_extra("play", "Playing on a page needs its server"):
        import uvicorn

        from genie_gym.play.player import LIMITS
        from genie_gym.play.server import build_app
    uvicorn.run(
        build_app(opened, token=token),
        host=host,
        port=port,
        log_level="info",
        access_log=False,  # addresses may hold the token
        ws_max_size=LIMITS.message_bytes,
        ws_max_queue=4,
        ws_per_message_deflate=False,  # a frame is small, and packing it takes time that the world could use
        timeout_graceful_shutdown=2,
    )


def play_in_window(opened: Opened, out: Path, tell: Callable[[str], object]) -> None:
    """Open a window and play until it is closed.

    Args:
        opened: What is played.
        out: Folder of ``play.gif`` and ``play.json``.
        tell: Hears which keys mean what.

    Raises:
        DependencyNotInstalled: If pygame is missing.
    """
    tell("\n".join([HELP, *(f"{number}: {name}" for number, name in enumerate(opened.names, start=1))]))
    WindowedPlay(opened.take_seat(UNDONE), Keymap(opened.names), opened.start, out, opened.driver).run()


def write_prompt(prompt: FittedPrompt, out: Path) -> Path:
    """Write a prompt's frames as ``prompt.png``, oldest at the left; its path.

    Raises:
        ValueError: If it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_image(out / "prompt.png", contact_sheet(prompt.frames[None]))
    return out / "prompt.png"


def play_again(checkpoint: str, device: str, path: Path, out: Path) -> int:
    """Write a trajectory's frames as ``play.gif``; how many they are.

    Raises:
        ValueError: If the trajectory cannot be read, or is another world's.
    """
    frames = replay(load_world(checkpoint, device), digest_checkpoint(checkpoint), load_trajectory(path))
    out.mkdir(parents=True, exist_ok=True)
    write_video(out / "play.gif", frames, fps=FRAMES_PER_SECOND)
    return len(frames)
