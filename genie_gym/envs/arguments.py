"""Checks of the environments' arguments: each raises a ValueError that names the argument and its value."""

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from genie_gym.checks import LIMITS, is_integer, require


def require_latent_actions(latent_actions: Any, shape: tuple[int, ...], below: int) -> np.ndarray:
    """Return latent actions as int64 of ``shape`` in [0, ``below``)."""
    array = np.asarray(latent_actions)
    if array.dtype.kind not in "iu" or array.shape != shape:
        kind = "an integer" if shape == () else f"integers of shape {shape}"
        given = f"{reprlib.repr(latent_actions)} (shape {array.shape}, {array.dtype})"
        raise ValueError(f"latent actions must be {kind}, got {given}")
    fits = not array.size or (0 <= int(array.min()) and int(array.max()) < below)
    require(fits, "latent actions", latent_actions, f"in [0, {below})")
    return array.astype(np.int64)


def require_options(options: dict[str, Any] | None, *known: str) -> dict[str, Any]:
    """Return a copy of the options of a reset, all of which must be ``known``."""
    unknown = sorted(set(options or {}) - set(known))
    require(not unknown, "options of reset", unknown, f"among {sorted(known)}")
    return dict(options or {})


def require_sampling(maskgit_steps: Any, temperature: Any) -> tuple[int | None, float | None]:
    """Return the arguments that override a checkpoint's sampling; None keeps the checkpoint's value."""
    if maskgit_steps is not None:
        maskgit_steps = require_count("maskgit_steps", maskgit_steps)
        least, most = LIMITS["SamplingConfig.maskgit_steps"]
        require(maskgit_steps <= most, "maskgit_steps", maskgit_steps, f"None or an integer in [{least}, {most}]")
    if temperature is not None:
        is_real = isinstance(temperature, int | float | np.number) and not isinstance(temperature, bool)
        least, most = LIMITS["SamplingConfig.temperature"]
        fits = is_real and least <= temperature <= most
        require(fits, "temperature", temperature, f"None or a number from {least:g} to {most:g}")
        temperature = float(temperature)
    return maskgit_steps, temperature


def require_observation(observation: Any) -> str:
    """Return what agents observe, ``pixels`` or ``tokens``."""
    require(observation in ("pixels", "tokens"), "observation", observation, "'pixels' or 'tokens'")
    return str(observation)


def require_count(field: str, value: Any) -> int:
    """Return ``value`` as an int of at least 1."""
    require(is_integer(value, 1), field, value, "a positive integer")
    return int(value)


def require_limit(max_episode_steps: Any) -> float:
    """Return the number of steps after which an episode is truncated; None and ``gym.make``'s -1 mean never."""
    if max_episode_steps is None or max_episode_steps == -1:
        return float("inf")
    return require_count("max_episode_steps", max_episode_steps)


def require_autoreset_mode(mode: Any) -> AutoresetMode:
    """Return the autoreset mode that is given as an ``AutoresetMode`` or as its value."""
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        known = [known.value for known in AutoresetMode]
        raise ValueError(f"autoreset_mode must be an AutoresetMode or one of {known}, got {mode!r}") from error


def require_seeds(seed: Any, num_envs: int) -> list[int | None]:
    """Return one seed per row: ``seed + i`` for row i if ``seed`` is an int, else the list's entry, or None."""
    if seed is None:
        return [None] * num_envs
    if is_integer(seed, 0):
        return [int(seed) + row for row in range(num_envs)]
    listed = isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str) and len(seed) == num_envs
    fits = listed and all(each is None or is_integer(each, 0) for each in seed)
    require(fits, "seed", seed, f"an int of at least 0, or a list of num_envs={num_envs} of them")
    return [None if each is None else int(each) for each in seed]


def require_mask(mask: Any, num_envs: int) -> np.ndarray:
    """Return the row numbers that a reset mask selects, ascending; all rows if it is None."""
    if mask is None:
        return np.arange(num_envs)
    array = np.asarray(mask)
    fits = array.dtype == bool and array.shape == (num_envs,) and bool(array.any())
    require(fits, "options['reset_mask']", mask, f"({num_envs},) bool and not all False")
    return np.flatnonzero(array)
