"""``genie-gym play``: a checkpoint in a window, or a trajectory again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from genie_gym.data.video import write_video
from genie_gym.envs.arguments import require_sampling
from genie_gym.envs.prompts import load_prompt
from genie_gym.envs.rendering import FRAMES_PER_SECOND
from genie_gym.models.loading import digest_checkpoint, load
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.keys import Keymap
from genie_gym.play.seat import Seat, replay
from genie_gym.play.trajectory import load_trajectory
from genie_gym.play.window import HELP, Start, WindowedPlay

SEEDS = 2**31


def play_in_window(  # noqa: PLR0913
    checkpoint: str,
    device: str,
    prompt: str | None,
    maskgit_steps: int | None,
    temperature: float | None,
    seed: int,
    out: Path,
    tell: Callable[[str], object],
) -> None:
    """Open a window and play until it is closed.

    Args:
        checkpoint: A shipped checkpoint's name, or a folder.
        device: Where to play.
        prompt: Path of a picture or video; a start frame is drawn where not given.
        maskgit_steps: Passes a frame; ``None`` for the checkpoint's.
        temperature: ``None`` for the checkpoint's.
        seed: Of start frames and sampling.
        out: Folder of ``play.gif`` and ``play.json``.
        tell: Hears which keys mean what.

    Raises:
        ValueError: If an argument is off.
        DependencyNotInstalled: If pygame is missing.
    """
    world = load(checkpoint, device)
    seat = Seat(world, digest_checkpoint(checkpoint), *require_sampling(maskgit_steps, temperature))
    names = world.config.action_names or tuple(map(str, range(world.config.num_latent_actions)))
    tell("\n".join([HELP, *(f"{number}: {name}" for number, name in enumerate(names, start=1))]))
    WindowedPlay(seat, Keymap(names), draw_starts(world, prompt, seed), out).run()


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
