"""What a person asks to play; imports no torch."""

from dataclasses import dataclass

from genie_gym.data.fitting import Fit

LOOPBACK = "127.0.0.1"
"""Where nobody but this machine can come."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a person asks to play."""

    checkpoint: str = "coinrun"
    """A shipped checkpoint's name, or a folder."""
    device: str = "cpu"
    """Where to play."""
    prompt: str | None = None
    """Path of a picture or video, or a text; a start frame is drawn where not given."""
    text_to_image: str | None = None
    """Who draws a text: diffusers, diffusers(MODEL), or path/to/file.py:factory(argument)."""
    fit: Fit = "crop"
    """How a prompt of another shape comes to the world's."""
    policy: str | None = None
    """Who plays where a person asks for it: path/to/file.py:factory(argument)."""
    maskgit_steps: int | None = None
    """Passes a frame; ``None`` for the checkpoint's."""
    temperature: float | None = None
    """Of the sampling; ``None`` for the checkpoint's."""
    seed: int = 0
    """Of start frames, drawing and sampling."""
