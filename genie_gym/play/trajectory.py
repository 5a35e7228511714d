"""Trajectories: the prompt, seed, sampling and latent actions of an episode, as JSON that can be replayed."""

import base64
import json
import reprlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genie_gym.checks import is_integer, require
from genie_gym.configs import WorldConfig
from genie_gym.envs.arguments import require_sampling
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES
from genie_gym.foreign import read_json_text
from genie_gym.models.hub import is_address
from genie_gym.models.loading import digest_checkpoint, find_checkpoint
from genie_gym.play.pictures import open_picture, pack_picture
from genie_gym.system import replace_file

_FORMAT = 1
_MAX_ACTIONS = 100_000
_MAX_BYTES = 1 << 28
_MAX_NAME = 255


class CheckpointIdentity(NamedTuple):
    """What a trajectory keeps of the checkpoint that it was played in."""

    digest: str
    """digest of config and weights (``digest_checkpoint``), by which a trajectory is accepted or refused"""
    name: str
    """address on the hub, or name of the checkpoint's folder, which tells a person where to look; empty if not known"""

    def __str__(self) -> str:
        return f"checkpoint {self.name!r} of digest {self.digest!r}"

    def require(self, playing: "CheckpointIdentity") -> None:
        """Check that a checkpoint has the digest of this one, which a trajectory needs.

        Raises:
            ValueError: If it has not; the message says which checkpoint the trajectory needs.
        """
        if self.digest != playing.digest:
            raise ValueError(f"trajectory needs the {self}, got the {playing}")


def identify_checkpoint(name_or_path: str) -> CheckpointIdentity:
    """Return the identity of a checkpoint; of a path only the last part, since trajectories are given to others.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    name = name_or_path if is_address(name_or_path) else find_checkpoint(name_or_path).resolve().name
    return CheckpointIdentity(digest_checkpoint(name_or_path), name)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Everything that determines an episode's frames, to the last bit on the same machine."""

    checkpoint: str
    """digest of the checkpoint (``digest_checkpoint``)"""
    checkpoint_name: str = ""
    """name of the checkpoint's folder; empty in files of earlier versions"""
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

    @property
    def needed(self) -> CheckpointIdentity:
        """The checkpoint that it was played in."""
        return CheckpointIdentity(self.checkpoint, self.checkpoint_name)


def save_trajectory(trajectory: Trajectory, path: Path) -> None:
    """Write a trajectory as JSON, to a temporary file that then replaces ``path``.

    Raises:
        ValueError: If it cannot be written.
    """
    try:
        with replace_file(path) as temporary:
            temporary.write_text(format_trajectory(trajectory))
    except OSError as error:
        raise ValueError(f"trajectory {str(path)!r} cannot be written: {error}") from error


def load_trajectory(
    path: Path, playing: CheckpointIdentity | None = None, config: WorldConfig | None = None
) -> Trajectory:
    """Read a trajectory that ``save_trajectory`` wrote; arguments as in ``parse_trajectory``.

    Raises:
        ValueError: If it cannot be read, or a field is missing or invalid.
    """
    try:
        text = read_json_text(path, _MAX_BYTES)
    except ValueError as error:
        raise ValueError(f"trajectory {str(path)!r} cannot be read: {error}") from error
    return parse_trajectory(text, playing, config)


def format_trajectory(trajectory: Trajectory) -> str:
    """Format a trajectory as JSON; the prompt's frames are PNG in base64."""
    prompt = [base64.b64encode(pack_picture(frame)).decode() for frame in trajectory.prompt]
    values = {**asdict(trajectory), "prompt": prompt, "latent_actions": list(trajectory.latent_actions)}
    return json.dumps({"format": _FORMAT, **values}) + "\n"


def parse_trajectory(
    text: str, playing: CheckpointIdentity | None = None, config: WorldConfig | None = None
) -> Trajectory:
    """Read a trajectory from its JSON. Everything else is checked before a picture of the prompt is decoded.

    Args:
        text: JSON of the trajectory.
        playing: Identity of the checkpoint in which it will be replayed; None accepts those of any.
        config: Config of the world in which it will be replayed; None accepts any latent actions and sizes of frames.

    Raises:
        ValueError: If a field is missing or invalid, or does not fit the world; the message names it and its value.
    """
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"trajectory must be JSON: {error}") from error
    fits = isinstance(values, dict) and values.pop("format", None) == _FORMAT
    require(fits, "trajectory", values, f"an object of format {_FORMAT}")
    values = {"checkpoint_name": "", **values}
    known = set(Trajectory.__dataclass_fields__)
    if set(values) != known:
        raise ValueError(f"trajectory must have the fields {sorted(known)}, got {reprlib.repr(sorted(values))}")
    checkpoint, name, seed = values["checkpoint"], values["checkpoint_name"], values["world_seed"]
    _require_name("checkpoint", checkpoint)
    _require_name("checkpoint_name", name)
    if playing is not None:
        CheckpointIdentity(checkpoint, name).require(playing)
    require(is_integer(seed, 0, 2**63), "trajectory world_seed", seed, "an integer of at least 0")
    actions = values["latent_actions"]
    fits = isinstance(actions, list) and len(actions) <= _MAX_ACTIONS
    below = 2**63 if config is None else config.num_latent_actions
    fits = fits and all(is_integer(action, 0, below) for action in actions)
    require(fits, "trajectory latent_actions", actions, f"at most {_MAX_ACTIONS} integers in [0, {below})")
    sampling = require_sampling(values["maskgit_steps"], values["temperature"])
    require(None not in sampling, "trajectory maskgit_steps and temperature", sampling, "numbers")
    frames = values["prompt"]
    fits = isinstance(frames, list) and 1 <= len(frames) <= MAX_PROMPT_FRAMES
    require(fits, "trajectory prompt", frames, f"1 to {MAX_PROMPT_FRAMES} frames")
    sampled = {"maskgit_steps": sampling[0], "temperature": sampling[1]}
    prompt = _decode(frames, None if config is None else (config.width, config.height))
    return Trajectory(**{**values, **sampled, "prompt": prompt, "latent_actions": tuple(actions)})


def _require_name(field: str, value: Any) -> None:
    fits = isinstance(value, str) and len(value) <= _MAX_NAME
    require(fits, f"trajectory {field}", value, f"a text of at most {_MAX_NAME} letters")


def _decode(texts: list[Any], size: tuple[int, int] | None) -> np.ndarray:
    """Decode PNG in base64 to (P, H, W, 3) uint8; ``size`` is the width and height, None for those of the first."""
    frames: list[np.ndarray] = []
    for text in texts:
        try:
            packed = base64.b64decode(text, validate=True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"trajectory prompt must hold PNG in base64, got {reprlib.repr(text)}: {error}") from error
        picture = open_picture(packed, "trajectory prompt", ("PNG",), size)
        size = picture.size
        frames.append(np.array(picture.convert("RGB")))
    return np.stack(frames)
