"""Recording of games into shards.

Every shard depends on the config, the players and its number alone, so an interrupted recording can be resumed and
several processes can record at once.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from genie_gym.checks import require
from genie_gym.data.config import RecordConfig, read_size
from genie_gym.data.env_games import EnvGames, action_layout, check_env_actions, describe_actions, find_action_space
from genie_gym.data.procgen import FRAME_SIZE, Games, check_actions, import_procgen, open_games
from genie_gym.data.shards import SHARD_SUFFIX, Recording, Shard, describe_origin, write_shard
from genie_gym.parallel import run_in_processes
from genie_gym.players.specs import Planner, Player, PlayerShare
from genie_gym.plugins import describe_failure
from genie_gym.system import list_files, lock_folder

_MOST_SHARDS = 100_000
"""Largest number of shards of a recording."""


class Job(NamedTuple):
    """One shard to record."""

    config: RecordConfig
    players: tuple[PlayerShare, ...]
    number: int
    """Number of the shard, part of its file name and its seed."""
    num_frames: int
    """Number of frames in the shard."""
    path: Path
    """File to write."""


def record(
    config: RecordConfig, players: Sequence[PlayerShare], out: Path, progress: bool = True, workers: int = 1
) -> list[Path]:
    """Record ``config.frames`` frames into ``out/shard-00000.h5`` and so on.

    The games are divided among the players by weight. Complete shards that exist are kept; shorter ones are
    recorded again.

    Args:
        config: Recording config. A worker needs about 12 kB x ``frames_per_shard`` of memory.
        players: Players and their shares of the games.
        out: Folder to write, created if it is missing.
        progress: Whether to show a progress bar.
        workers: Number of processes; more than one needs picklable players. The frames do not depend on it.

    Returns:
        Paths of all shards, in order.

    Raises:
        ValueError: If the folder holds a recording with another config or other players, there are more players than
            games, a player returns invalid actions, or ``workers`` or the config's seed is out of range.
        MissingExtraError: If Procgen is missing, or the environment needs another package.
    """
    if config.seed < 0 or workers < 1:
        raise ValueError(f"seed must be 0 or more and workers positive, got {config.seed} and {workers}")
    _split_games(config.num_envs, players)  # fails before anything is written if there are too many players
    out = Path(out)
    jobs = _plan(config, tuple(players), out)
    if not out.is_dir() or _missing(jobs, out):  # several processes may use a whole recording
        if config.env is None:
            import_procgen()  # before a folder is made and a bar is shown
        with lock_folder(out):
            _record_missing(jobs, out, config, progress, workers)
    return [job.path for job in jobs]


def _record_missing(jobs: Sequence[Job], out: Path, config: RecordConfig, progress: bool, workers: int) -> None:
    missing = _missing(jobs, out)
    done = config.frames - sum(job.num_frames for job in missing)
    with tqdm(total=config.frames, initial=done, unit=" frames", unit_scale=True, disable=not progress) as bar:
        if workers == 1 or len(missing) < 2:
            for job in missing:
                record_shard(job, bar.update)
        else:
            for _, frames in run_in_processes(record_shard, missing, min(workers, len(missing))):
                bar.update(frames)


def record_shard(job: Job, advance: Callable[[int], object] = lambda frames: None) -> int:
    """Record one shard and return its number of frames; each step calls ``advance`` with the number of new frames."""
    config = job.config
    length = -(-job.num_frames // config.num_envs)  # frames of each game; the last game may be cut short
    layout = (FRAME_SIZE, FRAME_SIZE) if config.env is None else _measure(config)
    buffers = Recording.allocate((config.num_envs, length), *layout)
    ends = np.cumsum(_split_games(config.num_envs, job.players))
    for index, parts in enumerate(zip(*(np.split(array, ends[:-1]) for array in buffers), strict=True)):
        part = Recording(*parts)  # views of the buffers
        part.player[:] = index
        seed = int(np.random.SeedSequence([config.seed, job.number, index]).generate_state(1)[0] >> 1)
        _play(config, job.players[index], seed, part, advance)
    flat = (array.reshape(-1, *array.shape[2:])[: job.num_frames] for array in buffers)
    write_shard(job.path, Recording(*flat), [player.name for player in job.players], _attributes(job))
    return job.num_frames


def find_cuts(shard: Shard) -> np.ndarray:
    """Return the last frame (n,) of each of a shard's n games in order: the recording stops there, whatever happens.

    A shard that ``record`` has not written holds one game.
    """
    recording = shard.attributes.get("recording")
    games = 1 if recording is None else int(json.loads(recording)["config"]["num_envs"])
    length = -(-shard.num_frames // games)
    return np.minimum(np.arange(length, shard.num_frames + length, length), shard.num_frames) - 1


def _measure(config: RecordConfig) -> tuple[int, int, tuple[tuple[int, ...], type[np.generic]]]:
    """Return the height and width of an environment's recorded frames, and an action's shape and type."""
    return (*read_size("RecordConfig.size", config.size), action_layout(find_action_space(config)))


def _open(config: RecordConfig, *, seed: int, num_envs: int, paint_velocity: bool = False) -> Games | EnvGames:
    if config.env is None:
        return open_games(config, seed=seed, num_envs=num_envs, paint_velocity=paint_velocity)
    return EnvGames(config, seed, num_envs)


def _play(
    config: RecordConfig, share: PlayerShare, seed: int, part: Recording, advance: Callable[[int], object]
) -> None:
    """Fill a player's part (b, t, ...) of the buffers.

    A player that sees the velocity plays games with it painted, while identical games without it are recorded.
    """
    num_envs, length = part.episode_starts.shape
    open_twin = functools.partial(_open, config, seed=seed, num_envs=num_envs)
    player = share.player(seed)
    with contextlib.ExitStack() as stack:
        twins = [stack.enter_context(contextlib.closing(open_twin()))]
        if share.sees_velocity:
            twins.append(stack.enter_context(contextlib.closing(open_twin(paint_velocity=True))))
        games, shown = twins[0], twins[-1]
        for t in range(length):
            now = games.observe()
            part.frames[:, t], part.level_seeds[:, t] = now.frames, now.level_seeds
            part.episode_starts[:, t] = now.episode_starts | (t == 0)
            chosen = _choose(share.name, player, shown)
            part.real_actions[:, t] = chosen.reshape(part.real_actions[:, t].shape)
            for twin in twins:
                twin.act(chosen)
            part.rewards[:, t] = games.observe().rewards
            advance(num_envs)


def _choose(name: str, player: Player, games: Games | EnvGames) -> np.ndarray:
    """Return a player's actions (B,) in Procgen, or (B, ...) of an environment's action space."""
    field, views = f"actions of player {name!r}", games.views()
    if isinstance(games, EnvGames):
        return check_env_actions(field, games.action_space, _ask(name, player, views), len(views))
    chosen = player.plan(games.save()) if isinstance(player, Planner) else _ask(name, player, views)
    real_actions = check_actions(field, chosen)
    if real_actions.shape != (len(views),):
        raise ValueError(f"{field} must have the shape {(len(views),)}, got {real_actions.shape}")
    return real_actions


def _ask(name: str, player: Player, views: Any) -> np.ndarray:
    """Return what a player answers, which may be any code; ``ValueError`` if it fails."""
    try:
        return player(views)
    except Exception as error:
        raise ValueError(f"player {name!r} failed: {describe_failure(error)}") from error


def _split_games(num_envs: int, players: Sequence[PlayerShare]) -> list[int]:
    """Divide ``num_envs`` games among the players by weight, with at least one for each."""
    if not 1 <= len(players) <= min(num_envs, 256):
        raise ValueError(f"players must be 1 to {min(num_envs, 256)} for {num_envs} games, got {len(players)}")
    bounds = np.cumsum([player.weight for player in players])
    bounds = np.round(bounds / bounds[-1] * num_envs).astype(int)
    counts = np.diff(bounds, prepend=0)
    while counts.min() < 1:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts.tolist()


def _plan(config: RecordConfig, players: tuple[PlayerShare, ...], out: Path) -> list[Job]:
    starts = range(0, config.frames, config.frames_per_shard)
    rule = f"at most {_MOST_SHARDS} times frames_per_shard, {config.frames_per_shard}"
    require(len(starts) <= _MOST_SHARDS, "RecordConfig.frames", config.frames, rule)
    sizes = [min(config.frames_per_shard, config.frames - start) for start in starts]
    return [Job(config, players, index, size, out / f"shard-{index:05d}.h5") for index, size in enumerate(sizes)]


def _attributes(job: Job) -> dict[str, str | int]:
    """Return the attributes of a job's shard; ``recording`` identifies the config and players of all shards."""
    config = job.config.identify()
    source = ["env"] if job.config.env is not None else ["game", "mode"]
    names = [*source, "seed", "start_level", "num_levels"]
    shares = [
        (player.name, player.weight, player.sees_velocity, *([player.digest] if player.digest else []))
        for player in job.players
    ]
    recording = json.dumps({"config": config, "players": shares}, sort_keys=True)
    actions = {} if job.config.env is None else describe_actions(job.config)
    return {**{name: config[name] for name in names}, **actions, "shard": job.number, "recording": recording}


def _missing(jobs: Sequence[Job], out: Path) -> list[Job]:
    """Return the jobs whose shards are not yet complete.

    Raises:
        ValueError: If the folder holds a shard that is not part of these jobs, or is longer than planned.
    """
    planned = {job.path: job for job in jobs}
    missing = dict(planned)
    for path in list_files(out, [SHARD_SUFFIX]):
        job, shard = planned.get(path), Shard(path)
        ours = job is not None and all(shard.attributes.get(k) == v for k, v in _attributes(job).items())
        if job is None or not ours or shard.num_frames > job.num_frames:
            raise ValueError(f"{path} belongs to {describe_origin(shard)}; choose another folder")
        if shard.num_frames == job.num_frames:
            del missing[path]
    return list(missing.values())
