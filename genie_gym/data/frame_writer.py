"""Recording from a loop of one's own, or of an environment that anything plays, such as a person in a window."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from genie_gym.checks import is_integer, require
from genie_gym.data.config import RecordConfig, read_size
from genie_gym.data.env_games import check_reward, open_env, require_actions, to_action
from genie_gym.data.fitting import Fit, require_fit
from genie_gym.data.frames import check_frames, resize
from genie_gym.data.shards import SHARD_SUFFIX, Recording, Shard, describe_origin, write_shard
from genie_gym.extras import need_extra
from genie_gym.system import FolderClaim, list_files, lock_folder, require_folder

_NAME = "written-"
"""First part of the names of shards."""
_PATIENCE = 10.0
"""Seconds to wait for a folder that another one holds."""


class FrameWriter:
    """Writes frames, with the actions taken in them, into shards to train on; each instance adds shards of its own.

    It is a context that writes what it holds when it ends, also after an error. Several may add to one folder at the
    same time, in one process or many, if their frames have one size and fit, and their actions one kind.

    Args:
        out: Folder of the shards, created if it is missing.
        size: Height and width of the recorded frames, such as ``64x64``.
        fit: Method that changes the aspect ratio.
        player: Name of who plays.
        frames_per_shard: Number of frames held in memory before a shard is written.

    Raises:
        ValueError: If a setting is wrong, the folder cannot be written, or it holds shards that no ``FrameWriter``
            wrote, or shards of another size or fit, or a writer of such shards is at work. Actions of another kind than
            theirs are refused when added.
    """

    def __init__(
        self,
        out: str | Path,
        size: str = "64x64",
        fit: Fit = "crop",
        player: str = "person",
        frames_per_shard: int = 4096,
    ) -> None:
        require(is_integer(frames_per_shard, 1), "frames_per_shard", frames_per_shard, "a positive integer")
        require_fit(fit)
        self._out, self._size, self._fit, self._player = Path(out), read_size("size", size), fit, player
        self._frames_per_shard, self._attributes = frames_per_shard, {"size": size, "fit": fit}
        require_folder(self._out)
        self._rows: list[tuple[np.ndarray, np.ndarray, float, bool]] = []
        self._raw_size: tuple[int, ...] | None = None
        self._begins = True
        self._claim = FolderClaim(self._out)
        with lock_folder(self._out, _PATIENCE):  # other writers hold it for moments, a command until it ends
            self._kind = self._check_folder()
            agreed = self._claim.agree(self._attributes)
            if not self._attributes.items() <= agreed.items():
                self._claim.release()
                told = f"with frames of {agreed}, not {self._attributes}"
                raise ValueError(f"{self._out} is in use by another FrameWriter {told}; choose another folder")

    def add(self, frame: np.ndarray, action: Any = 0, reward: float = 0.0, is_first: bool = False) -> None:
        """Add a frame.

        Args:
            frame: (H, W, 3) uint8, of one size in a recording.
            action: Action that leads from this frame to the next: an integer, or a vector of D numbers.
            reward: Reward received for it.
            is_first: Whether the frame does not follow from the one before, such as the first of a level.

        Raises:
            ValueError: If the frame is none or of another size, or the action is of another kind than before.
        """
        check_frames("frame", frame, ndim=3)
        self._raw_size = self._raw_size or frame.shape
        require(frame.shape == self._raw_size, "shape of frame", frame.shape, f"{self._raw_size} like those before")
        require(is_first in (False, True), "is_first", is_first, "True or False")
        taken, paid = _store_action(action), check_reward("reward", reward)
        self._require_alike(taken, action)
        kept = resize(frame, *self._size, self._fit).copy()
        self._rows.append((kept, taken, paid, bool(is_first) or self._begins))
        self._begins = False
        if len(self._rows) == self._frames_per_shard:
            self._write()

    def close(self) -> None:
        """Write the frames that are not written yet."""
        if self._rows:
            self._write()
        self._claim.release()

    def __enter__(self) -> "FrameWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        finally:
            self._claim.release()

    def _require_alike(self, taken: np.ndarray, action: Any) -> None:
        """Raise ``ValueError`` if an action, as it is stored, is of another kind than those of the folder."""
        kind = _name_kind(taken)
        if self._kind is None:
            with lock_folder(self._out, math.inf):
                self._kind = self._claim.agree({"action": kind})["action"]
        rule = f"{self._kind[0]} of shape {tuple(self._kind[1])} like those before"
        require(kind == self._kind, "action", action, rule)

    def _check_folder(self) -> list[Any] | None:
        """Return the kind of the actions of the folder's shards, None if it has none; ``ValueError`` if they differ."""
        kind = None
        for path in list_files(self._out, [SHARD_SUFFIX]):
            shard = Shard(path)
            found = {name: shard.attributes.get(name) for name in self._attributes}
            if not path.name.startswith(_NAME):
                raise ValueError(f"{path} belongs to {describe_origin(shard)}; choose another folder")
            if found != self._attributes:
                raise ValueError(f"{path} has frames of {found}, not {self._attributes}; choose another folder")
            kind = _name_kind(shard.private(0, 1)[0][0])
        return kind

    def _write(self) -> None:
        frames, actions, rewards, starts = (np.stack(column) for column in zip(*self._rows, strict=True))
        starts[0] = True  # a trajectory begins with each shard
        zeros = np.zeros(len(frames), dtype=np.int64)
        recording = Recording(frames, starts, zeros, zeros.astype(np.uint8), actions, rewards.astype(np.float32))
        with lock_folder(self._out, math.inf):  # others may look for a free number too
            number = 0
            while (path := self._out / f"{_NAME}{number:05d}{SHARD_SUFFIX}").exists():
                number += 1
            write_shard(path, recording, [self._player], self._attributes)
        self._rows = []


def _name_kind(action: np.ndarray | np.generic) -> list[Any]:
    """Return what the actions of a folder have in common, as JSON keeps it: their type and shape."""
    return [action.dtype.name, list(action.shape)]


def _store_action(action: Any) -> np.ndarray:
    """Return an action as it is stored, () int32 or (D,) int32 or float32; ``ValueError`` if it cannot be."""
    taken = np.asarray(action)
    is_whole = np.issubdtype(taken.dtype, np.integer)
    is_number = (is_whole or np.issubdtype(taken.dtype, np.floating)) and taken.ndim <= 1 and taken.size > 0
    require(is_number, "action", action, "an integer or a vector of numbers")
    most = float(np.iinfo(np.int32).max if is_whole else np.finfo(np.float32).max)
    fits = all(abs(value) <= most for value in taken.ravel().tolist())
    require(fits, "action", action, "made of finite numbers of 32 bits")
    return taken.astype(np.int32) if is_whole else np.atleast_1d(taken.astype(np.float32))


class RecordFrames(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper that records an environment with the render mode ``rgb_array``, whoever plays it.

    The last frame of an episode, from which no action leads on, is left out. ``close`` writes the last shard.

    Args:
        env: Environment.
        writer: Writer of the frames.
    """

    def __init__(self, env: gym.Env[Any, Any], writer: FrameWriter) -> None:
        super().__init__(env)
        require(env.render_mode == "rgb_array", "render_mode of env", env.render_mode, "'rgb_array'")
        self._writer, self._frame, self._is_first = writer, np.empty(0), True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and begin an episode."""
        result = self.env.reset(seed=seed, options=options)
        self._frame, self._is_first = self._draw(), True
        return result

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and record the frame from which the action led."""
        result = self.env.step(action)
        taken = action if np.ndim(action) == 0 else np.ravel(action)  # a matrix is stored as a vector
        self._writer.add(self._frame, taken, float(result[1]), self._is_first)
        self._frame, self._is_first = self._draw(), False
        return result

    def close(self) -> None:
        """Write the last shard and close the environment."""
        self._writer.close()
        super().close()

    def _draw(self) -> np.ndarray:
        return np.array(self.env.render())  # a copy: renderers may draw into one array


def record_in_window(config: RecordConfig, keys: Sequence[str], out: Path) -> None:
    """Let a person play an environment in a window, and record it until the window is closed.

    Args:
        config: Recording config with an ``env``, which needs the render mode ``rgb_array``; an action lasts one step.
        keys: KEYS=ACTION each, such as ``d=3`` or ``dw=5`` for both keys; none for the environment's own.
        out: Folder of the shards.

    Raises:
        ValueError: If the environment cannot be recorded, has no keys, or a key's action is none of its actions.
        MissingExtraError: If pygame is not installed.
    """
    with need_extra("human", "Playing in a window needs pygame"):
        from gymnasium.utils.play import MissingKeysToAction, play
    require(config.env is not None, "RecordConfig.env", config.env, "given to record in a window")
    require(config.action_repeat == 1, "RecordConfig.action_repeat", config.action_repeat, "1 in a window")
    env = open_env(replace(config, frames_from="render"))[0]
    actions = _read_keys(keys, require_actions(config, env.action_space))
    noop: Any = 0 if isinstance(env.action_space, spaces.Discrete) else np.zeros_like(env.action_space.sample())
    with FrameWriter(out, config.size, config.fit) as writer, contextlib.closing(RecordFrames(env, writer)) as played:
        try:
            play(played, keys_to_action=actions or None, seed=config.seed, noop=noop)
        except MissingKeysToAction as error:
            raise ValueError(f"env {config.env!r} names no keys: give them by --keys KEYS=ACTION ...") from error


def _read_keys(texts: Sequence[str], space: spaces.Space[Any]) -> dict[str, Any]:
    """Return KEYS=ACTION texts as keys and actions, of which vectors are written with commas."""
    actions: dict[str, Any] = {}
    for text in texts:
        keys, _, value = text.rpartition("=")
        try:
            numbers = [float(number) for number in value.split(",")]
        except ValueError:
            numbers = []
        shape = space.shape or ()
        action = np.array(numbers).astype(space.dtype)
        is_kept = np.issubdtype(action.dtype, np.floating) or bool((action == np.array(numbers)).all())
        require(keys not in actions, "keys", text, "different keys")
        is_fit = is_kept and action.size == np.prod(shape) and space.contains(to_action(space, action.reshape(shape)))
        require(bool(keys) and is_fit, "keys", text, f"KEYS=ACTION with an action of {space}")
        actions[keys] = to_action(space, action.reshape(shape))
    return actions
