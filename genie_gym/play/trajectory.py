"""Trajectories: the prompt, seed, sampling and latent actions of an episode, as JSON that can be replayed."""

import base64
import json
import os
import reprlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_gym.envs.arguments import require_sampling
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES
from genie_gym.play.pictures import open_picture, pack_picture

_FORMAT = 1
_MAX_ACTIONS = 100_000


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Everything that determines an episode's frames, to the last bit on the same machine."""

    checkpoint: str
    """digest of the checkpoint (``digest_checkpoint``)"""
    prompt: np.ndarray
    """prompt frames, (P, H, W, 3) uint8"""
    world_seed: int
    """seed of the world's sampling"""
    maskgit_steps: int
    """number of MaskGIT steps per frame"""
    temperature: float
    """temperature of the token sampling"""
    latent_actions: tuple[int, ...]
    """latent actions from the start on"""


def save_trajectory(trajectory: Trajectory, path: Path) -> None:
    """Write a trajectory as JSON, to a temporary file that then replaces ``path``.

    Raises:
        ValueError: If it cannot be written.
    """
    beside = path.with_name(f"{path.name}.tmp")
    try:
        beside.write_text(format_trajectory(trajectory))
        os.replace(beside, path)
    except OSError as error:
        raise ValueError(f"trajectory {str(path)!r} cannot be written: {error}") from error


def load_trajectory(path: Path) -> Trajectory:
    """Read a trajectory that ``save_trajectory`` wrote.

    Raises:
        ValueError: If it cannot be read, or a field is missing or invalid.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"trajectory {str(path)!r} cannot be read: {error}") from error
    return parse_trajectory(text)


def format_trajectory(trajectory: Trajectory) -> str:
    """Format a trajectory as JSON; the prompt's frames are PNG in base64."""
    prompt = [base64.b64encode(pack_picture(frame)).decode() for frame in trajectory.prompt]
    values = {**asdict(trajectory), "prompt": prompt, "latent_actions": list(trajectory.latent_actions)}
    return json.dumps({"format": _FORMAT, **values}) + "\n"


def parse_trajectory(text: str) -> Trajectory:
    """Read a trajectory from its JSON.

    Raises:
        ValueError: Naming the field that is missing or invalid, and its value.
    """
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"trajectory must be JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
        raise ValueError(f"trajectory must be an object of format {_FORMAT}, got {reprlib.repr(values)}")
    known = set(Trajectory.__dataclass_fields__)
    if set(values) != known:
        raise ValueError(f"trajectory must have the fields {sorted(known)}, got {sorted(map(str, values))[:20]}")
    _require(isinstance(values["checkpoint"], str), "checkpoint", values["checkpoint"], "a text")
    _require(_is_count(values["world_seed"]), "world_seed", values["world_seed"], "an integer of at least 0")
    actions = values["latent_actions"]
    fits = isinstance(actions, list) and len(actions) <= _MAX_ACTIONS and all(map(_is_count, actions))
    _require(fits, "latent_actions", actions, f"at most {_MAX_ACTIONS} integers of at least 0")
    sampling = require_sampling(values["maskgit_steps"], values["temperature"])
    _require(None not in sampling, "maskgit_steps and temperature", sampling, "numbers")
    frames = values["prompt"]
    _require(isinstance(frames, list) and 1 <= len(frames) <= MAX_PROMPT_FRAMES, "prompt", frames, "1 to 4 frames")
    prompt = [_decode(frame) for frame in frames]
    _require(len({frame.shape for frame in prompt}) == 1, "prompt", frames, "frames of one size")
    own = {"prompt": np.stack(prompt), "latent_actions": tuple(actions)}
    return Trajectory(**{**values, **own})


def _require(fits: bool, field: str, value: Any, wanted: str) -> None:
    if not fits:
        raise ValueError(f"trajectory {field} must be {wanted}, got {reprlib.repr(value)}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _decode(text: Any) -> np.ndarray:
    """Decode a frame, (H, W, 3) uint8, from PNG in base64."""
    try:
        packed = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"trajectory prompt must hold PNG in base64, got {reprlib.repr(text)}: {error}") from error
    return np.array(open_picture(packed, "trajectory prompt", ("PNG",)).convert("RGB"))
