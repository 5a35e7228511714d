"""The settings of ``genie-gym play`` and ``genie-gym prompt``; imports no torch."""

from dataclasses import dataclass

from genie_gym.data.fitting import Fit

LOOPBACK = "127.0.0.1"
"""Address that only this machine can reach."""


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """The world to play, the prompt to start from and how frames are sampled."""

    checkpoint: str = "coinrun"
    """name of a shipped checkpoint, folder of one, or hf://USER/REPO"""
    device: str = "cpu"
    """torch device to play on"""
    prompt: str | None = None
    """path of a picture or video, or a text; by default a shipped start clip is drawn"""
    text_to_image: str | None = None
    """model that draws a text prompt: diffusers, diffusers(MODEL), or path/to/file.py:factory(argument)"""
    fit: Fit = "crop"
    """method that changes a prompt's aspect ratio to the world's"""
    policy: str | None = None
    """policy that can play in a person's place: path/to/file.py:factory(argument)"""
    maskgit_steps: int | None = None
    """number of MaskGIT steps per frame; by default the checkpoint's"""
    temperature: float | None = None
    """temperature of the token sampling; by default the checkpoint's"""
    wait: bool = True
    """pause of the world while no key is pressed, once a jump had time to land; else it plays on by itself"""
    seed: int = 0
    """seed of start clips, text drawing and sampling"""
