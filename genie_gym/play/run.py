"""``genie-gym play``: a checkpoint behind a page or in a window, or a trajectory again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genie_gym.data.video import write_video
from genie_gym.envs.arguments import require_sampling
from genie_gym.envs.prompts import load_prompt
from genie_gym.envs.rendering import FRAMES_PER_SECOND
from genie_gym.models.loading import digest_checkpoint, load
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.keys import Keymap
from genie_gym.play.seat import Seat, Start, replay
from genie_gym.play.trajectory import load_trajectory
from genie_gym.play.window import HELP, WindowedPlay

SEEDS = 2**31
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a person asks to play."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    device: str = "cpu"
    """Where to play."""
    prompt: str | None = None
    """Path of a picture or video; a start frame is drawn where not given."""
    maskgit_steps: int | None = None
    """Passes a frame; ``None`` for the checkpoint's."""
    temperature: float | None = None
    """Of the sampling; ``None`` for the checkpoint's."""
    seed: int = 0
    """Of start frames and sampling."""

    def load(self) -> tuple[GenieWorldModel, str, Start]:
        """The world, its digest, and where games begin.

        Raises:
            ValueError: If a field is off.
        """
        require_sampling(self.maskgit_steps, self.temperature)
        world = load(self.checkpoint, self.device)
        return world, digest_checkpoint(self.checkpoint), draw_starts(world, self.prompt, self.seed)


def play_in_browsers(opening: Opening, host: str, port: int, token: str | None) -> None:
    """Serve a page on which it is played, until interrupted.

    Args:
        opening: What is played.
        host: Address to listen on.
        port: The same.
        token: Without it nobody plays; must be given where others than this machine can come.

    Raises:
        ValueError: If an argument is off.
        ImportError: If the extra ``play`` is not installed.
    """
    if host != LOOPBACK and not token:
        raise ValueError(f"token must be given with a host that others can reach, got {token!r} and {host!r}")
    if not 0 <= port < 2**16:
        raise ValueError(f"port must be in [0, {2**16}), got {port}")
    try:
        import uvicorn

        from genie_gym.play.server import Limits, Stage, build_app
    except ImportError as error:
        raise ImportError("Playing on a page needs its server: pip install 'genie-gym[play]'") from error
    (world, digest, start), limits = opening.load(), Limits()
    stage = Stage(
        world=world,
        digest=digest,
        start=start,
        maskgit_steps=opening.maskgit_steps,
        temperature=opening.temperature,
    )
    uvicorn.run(
        build_app(stage, limits, token),
        host=host,
        port=port,
        log_level="info",
        ws_max_size=limits.message_bytes,
        ws_max_queue=4,
        timeout_graceful_shutdown=2,
    )


def play_in_window(opening: Opening, out: Path, tell: Callable[[str], object]) -> None:
    """Open a window and play until it is closed.

    Args:
        opening: What is played.
        out: Folder of ``play.gif`` and ``play.json``.
        tell: Hears which keys mean what.

    Raises:
        ValueError: If a field of the opening is off.
        DependencyNotInstalled: If pygame is missing.
    """
    world, digest, start = opening.load()
    seat = Seat(world, digest, opening.maskgit_steps, opening.temperature)
    names = world.config.action_names or tuple(map(str, range(world.config.num_latent_actions)))
    tell("\n".join([HELP, *(f"{number}: {name}" for number, name in enumerate(names, start=1))]))
    WindowedPlay(seat, Keymap(names), start, out).run()


def play_again(checkpoint: str, device: str, path: Path, out: Path) -> int:
    """Write a trajectory's frames as ``play.gif``; how many they are.

    Raises:
        ValueError: If the trajectory cannot be read, or is another world's.
    """
    frames = replay(load(checkpoint, device), digest_checkpoint(checkpoint), load_trajectory(path))
    out.mkdir(parents=True, exist_ok=True)
    write_video(out / "play.gif", frames, fps=FRAMES_PER_SECOND)
    return len(frames)


def draw_starts(world: GenieWorldModel, prompt: str | None, seed: int) -> Start:
    """Where games begin: always the prompt, or a start frame that is drawn; the first game has the seed itself.

    Raises:
        ValueError: If there is no such prompt, or no start frame where none is given.
    """
    rng, seeds = np.random.default_rng(seed), iter([seed])
    config = world.config
    given = None if prompt is None else load_prompt(prompt, config.height, config.width)
    if given is None and len(world.start_frames) == 0:
        raise ValueError("prompt must be given since this checkpoint ships no start frames, got None")

    def start() -> tuple[np.ndarray, int]:
        own = next(seeds, None)
        frames = world.start_frames[rng.integers(len(world.start_frames))][None] if given is None else given
        return frames, int(rng.integers(SEEDS)) if own is None else own

    return start
