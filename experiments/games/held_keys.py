"""Held actions of a world against held keys of its game, from the same starts.

A start is a moment of random play. The game is played again from its beginning for each key, with the same seeds and
actions up to the start, which needs no saved states: any environment that is deterministic can be compared.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.games.games import ScoredGame
from experiments.games.motions import Motion, find_thrust, see_camera, see_paddle, teach_sprites
from genie_gym.data.frames import to_float
from genie_gym.metrics.held_out import restrict
from genie_gym.metrics.motion import explain_motion, play_each_action
from genie_gym.models.world_model import GenieWorldModel

HELD_STEPS = 8
"""Number of steps for which an action or a key is held."""
PROMPT_FRAMES = 4
"""Number of frames up to a start, which show how fast things move."""
SPRITE_SIZES = {
    "smoke": {"frames": 64, "train_steps": 2},
    "full": {"frames": 8_192, "train_steps": 1_000},
}
"""Sizes by preset of what teaches where a player's sprite is: frames of training levels, and batches of 32."""
_EARLIEST, _LATEST = 8, 48
"""Range of the steps of random play before a start."""
_SPARE = 2
"""Games played for each start that is wanted: some end on the way to it."""
_STAY, _UP = 4, 5
"""Procgen's actions without a key and with the key up alone."""


class KeyPlay(NamedTuple):
    """M starts, and the game's frames after them while each of K keys is held."""

    prompts: np.ndarray
    """(M, ``PROMPT_FRAMES``, H, W, 3) uint8 frames up to each start."""
    frames: np.ndarray
    """(K, M, 1 + ``HELD_STEPS``, H, W, 3) uint8 frames from the start on."""
    lasts: Tensor
    """(K, M) int64: the last step before the game ended, at most ``HELD_STEPS``."""


def play_keys(game: ScoredGame, keys: Sequence[int], levels: str, number: int, seed: int) -> KeyPlay:
    """Hold each of the game's keys from up to ``number`` starts on ``training``, ``validation`` or ``test`` levels.

    Games that end in the frames of a start, or are not the same for all keys up to it, are left out.

    Raises:
        ValueError: If fewer than two starts are left.
    """
    plays = [_play_to_key(game, key, levels, _SPARE * number, seed) for key in keys]
    prompts = plays[0][0][:, :PROMPT_FRAMES]
    is_same = np.all([(each[0][:, :PROMPT_FRAMES] == prompts).all(axis=(1, 2, 3, 4)) for each in plays], axis=0)
    goes_on = np.all([~each[1][:, 1:PROMPT_FRAMES].any(axis=1) for each in plays], axis=0)
    chosen = np.flatnonzero(is_same & goes_on)[:number]
    if len(chosen) < 2:
        raise ValueError(f"number of starts must be larger: {number} games left {len(chosen)} of them")
    ends = np.stack([each[1][chosen, PROMPT_FRAMES:] for each in plays])  # (K, M, HELD_STEPS)
    lasts = np.where(ends.any(axis=2), ends.argmax(axis=2), HELD_STEPS)
    frames = np.stack([each[0][chosen, PROMPT_FRAMES - 1 :] for each in plays])
    return KeyPlay(prompts[chosen], frames, torch.from_numpy(lasts))


def _play_to_key(game: ScoredGame, key: int, levels: str, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (number, P + S, H, W, 3) around each start, S of them with the key held, and episode starts."""
    starts = np.random.default_rng(seed).integers(_EARLIEST, _LATEST, size=number)
    player, shown = game.load_player(seed), []
    with contextlib.closing(game.open(levels, seed, number)) as games:
        for step in range(_LATEST + HELD_STEPS):
            now = games.observe()
            shown.append((now.frames.copy(), now.episode_starts.copy()))
            actions = player(games.views())
            games.act(np.where(step >= starts, key, actions).astype(actions.dtype))
    frames, begins = (np.stack(each, axis=1) for each in zip(*shown, strict=True))
    rows, span = np.arange(number)[:, None], np.arange(1 - PROMPT_FRAMES, HELD_STEPS + 1)
    return frames[rows, starts[:, None] + span], begins[rows, starts[:, None] + span]


def find_motion(
    game: ScoredGame, keys: Sequence[int], play: KeyPlay, size: dict[str, int], seed: int, work: Path
) -> Motion:
    """Return what reads motion along the game's main axis from videos that begin at the starts of ``play``.

    Args:
        game: The game.
        keys: The keys held in ``play``.
        play: Starts, and the game after them.
        size: Sizes of ``SPRITE_SIZES``.
        seed: Seed of this teaching.
        work: Folder for it.
    """
    if game.seen_by == "thrust":
        pushed, idle = (to_float(play.frames[list(keys).index(key)]) for key in (_UP, _STAY))
        return find_thrust(pushed, idle).see
    if game.seen_by == "sprite":
        config = restrict(game.config, "training")
        folder = work / f"sprites-{size['train_steps']}"
        return teach_sprites(config, game.tiles, size["frames"], size["train_steps"], seed, folder).see
    return see_camera if game.seen_by == "camera" else see_paddle


def explain_held(world: GenieWorldModel, play: KeyPlay, motion: Motion, seed: int) -> tuple[dict[str, Any], Tensor]:
    """Hold each latent action from all starts, and compare with the keys.

    Returns:
        ``starts``; ``held_explained``, ``keys_explained`` and ``shuffled_explained``, the share (omega squared) of the
        motion along the main axis after ``HELD_STEPS`` that is explained by the latent action, by the key, and by
        latent actions shuffled at every start; ``held_ratio``, the first as a share of the second, None if that is 0;
        ``keys_ended``, the share of keys that end the game. And the (A, M, 1 + ``HELD_STEPS``, C, H, W) roll-outs.
    """
    played = play_each_action(world, to_float(play.prompts), HELD_STEPS, seed)
    by_key = motion(to_float(play.frames)).gather(2, play.lasts[..., None])[..., 0]
    by_action = motion(played)[..., -1]
    is_known = by_key.isfinite().all(dim=0) & by_action.isfinite().all(dim=0)
    by_key, by_action = by_key[:, is_known], by_action[:, is_known]
    order = torch.rand(by_action.shape, generator=torch.Generator().manual_seed(seed)).argsort(dim=0)
    motions = {"held": by_action, "keys": by_key, "shuffled": by_action.gather(0, order)}
    explained = {f"{name}_explained": explain_axis(each) for name, each in motions.items()}
    keys = explained["keys_explained"]
    return {
        "starts": int(is_known.sum()),
        **explained,
        "held_ratio": explained["held_explained"] / keys if keys > 0 else None,
        "keys_ended": float((play.lasts < HELD_STEPS).double().mean()),
        "mean_motion": [round(float(each), 2) for each in by_action.mean(dim=1)],
        "mean_motion_of_keys": [round(float(each), 2) for each in by_key.mean(dim=1)],
    }, played


def explain_axis(distances: Tensor) -> float:
    """Return the share of the variance of (A, M) distances that the action explains; see ``explain_motion``."""
    return float(explain_motion(torch.stack([distances, torch.zeros_like(distances)], dim=-1))["x_explained"])
