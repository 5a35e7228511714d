"""What was played, as JSON that plays it again: the prompt, the seed, the sampling, and every latent action."""

import base64
import json
import os
import reprlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_gym.envs.arguments import require_sampling
from genie_gym.envs.prompts import PROMPT_FRAMES
from genie_gym.play.pictures import open_picture, pack_picture

FORMAT = 1
LONGEST = 100_000
"""Latent actions."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Frames follow from it, on the same machine to the last bit."""

    checkpoint: str
    """``digest_checkpoint`` of the world."""
    prompt: np.ndarray
    """(P, H, W, 3) uint8."""
    world_seed: int
    """Of the world's sampling."""
    maskgit_steps: int
    """Passes a frame."""
    temperature: float
    """Of the sampling."""
    latent_actions: tuple[int, ...]
    """In order."""


def save_trajectory(trajectory: Trajectory, path: Path) -> None:
    """Write JSON, beside ``path`` and then in its place.

    Raises:
        ValueError: If it cannot be written.
    """
    beside = path.with_name(f"{path.name}.tmp")
    try:
        beside.write_text(tell_trajectory(trajectory))
        os.replace(beside, path)
    except OSError as error:
        raise ValueError(f"trajectory {str(path)!r} cannot be written: {error}") from error


def load_trajectory(path: Path) -> Trajectory:
    """Read what ``save_trajectory`` wrote.

    Raises:
        ValueError: If it cannot be read, or a field is missing or off.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"trajectory {str(path)!r} cannot be read: {error}") from error
    return parse_trajectory(text)


def tell_trajectory(trajectory: Trajectory) -> str:
    """As JSON; the prompt's frames are PNG in base64."""
    prompt = [base64.b64encode(pack_picture(frame)).decode() for frame in trajectory.prompt]
    values = {**asdict(trajectory), "prompt": prompt, "latent_actions": list(trajectory.latent_actions)}
    return json.dumps({"format": FORMAT, **values}) + "\n"


def parse_trajectory(text: str) -> Trajectory:
    """From JSON.

    Raises:
        ValueError: Naming the field that is missing or off, and its value.
    """
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"trajectory is no JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ValueError(f"trajectory must be an object of format {FORMAT}, got {reprlib.repr(values)}")
    known = set(Trajectory.__dataclass_fields__)
    if set(values) != known:
        raise ValueError(f"trajectory must have the fields {sorted(known)}, got {sorted(map(str, values))[:20]}")
    _require(isinstance(values["checkpoint"], str), "checkpoint", values["checkpoint"], "a text")
    _require(_is_whole(values["world_seed"]), "world_seed", values["world_seed"], "a whole number of 0 or more")
    actions = values["latent_actions"]
    fits = isinstance(actions, list) and len(actions) <= LONGEST and all(map(_is_whole, actions))
    _require(fits, "latent_actions", actions, f"at most {LONGEST} whole numbers of 0 or more")
    sampling = require_sampling(values["maskgit_steps"], values["temperature"])
    _require(None not in sampling, "maskgit_steps and temperature", sampling, "numbers")
    frames = values["prompt"]
    _require(isinstance(frames, list) and 1 <= len(frames) <= PROMPT_FRAMES, "prompt", frames, "1 to 4 frames")
    prompt = [_decode(frame) for frame in frames]
    _require(len({frame.shape for frame in prompt}) == 1, "prompt", frames, "frames of one size")
    own = {"prompt": np.stack(prompt), "latent_actions": tuple(actions)}
    return Trajectory(**{**values, **own})


def _require(fits: bool, field: str, value: Any, wanted: str) -> None:
    if not fits:
        raise ValueError(f"trajectory {field} must be {wanted}, got {reprlib.repr(value)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _decode(text: Any) -> np.ndarray:
    """(H, W, 3) uint8."""
    try:
        packed = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"trajectory prompt must hold PNG in base64, got {reprlib.repr(text)}: {error}") from error
    return np.array(open_picture(packed, "trajectory prompt", ("PNG",)).convert("RGB"))
