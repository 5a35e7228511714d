"""Checkpoints that can be loaded: shipped ones, those in the cache of the Hugging Face hub, and those in folders.

Only configs and cards are read; imports no torch.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from genie_gym.checks import is_integer, require
from genie_gym.config_io import from_dict
from genie_gym.configs import WorldConfig
from genie_gym.foreign import read_json
from genie_gym.system import list_files

SHIPPED = Path(__file__).parent.parent / "weights"
"""Folder of the checkpoints that ship with the package, by name."""
CHECKPOINT_FORMAT = 1
"""Version of a checkpoint's config.json."""
_DEPTH = 4
"""Number of levels of subfolders that are searched, enough for runs/NAME/checkpoint."""


class ListedCheckpoint(NamedTuple):
    """What the files of a checkpoint tell of it."""

    name: str
    """name, hf:// address or folder to load it by"""
    place: str
    """``shipped``, ``cached`` or ``disk``"""
    config: WorldConfig | None
    """its config; None if this version cannot read it"""
    megabytes: float
    """size of its weights"""
    licence: str
    """licence that its card names; empty if it names none"""
    title: str
    """first heading of its card; empty if there is no card"""


def read_config(folder: Path) -> WorldConfig:
    """Read the config of a checkpoint.

    Raises:
        ValueError: If it is no JSON, of another format, or does not fit this version.
    """
    path = folder / "config.json"
    values = read_json(path)
    found = values.get("format") if isinstance(values, dict) else values
    fits = isinstance(values, dict) and is_integer(found) and found == CHECKPOINT_FORMAT
    require(fits, f"config {str(path)!r}", found, f"an object of format {CHECKPOINT_FORMAT}")
    try:
        return from_dict(WorldConfig, values.get("world"))
    except ValueError as error:
        raise ValueError(f"config {str(path)!r}: {error}") from error


def list_checkpoints(folders: Iterable[Path]) -> list[ListedCheckpoint]:
    """Return the shipped and the cached checkpoints, and those in folders and their subfolders, up to four levels deep.

    Raises:
        ValueError: If there is no such folder.
    """
    found = [_describe(path.parent, path.parent.name, "shipped") for path in sorted(SHIPPED.glob("*/config.json"))]
    found += [_describe(folder, address, "cached") for address, folder in sorted(_find_cached())]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"folders must be folders, got {str(folder)!r}")
        found += [_describe(inner, str(inner), "disk") for inner in _search(folder)]
    return found


def _find_cached() -> Iterator[tuple[str, Path]]:
    """Yield the address and the folder of each world in the hub's cache, its newest snapshot."""
    try:
        from huggingface_hub import CacheNotFound, scan_cache_dir
    except ImportError:  # without the extra, genie-gym has loaded none
        return
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:  # nothing has been loaded yet
        return
    for repository in repositories:
        snapshots = sorted(repository.revisions, key=lambda revision: revision.last_modified)
        if repository.repo_type == "model" and snapshots and _is_checkpoint(snapshots[-1].snapshot_path):
            yield f"hf://{repository.repo_id}", snapshots[-1].snapshot_path


def _search(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints in a folder, in order, without hidden ones."""
    for path, inner, _ in os.walk(folder):
        depth = len(Path(path).relative_to(folder).parts)
        inner[:] = sorted(name for name in inner if not name.startswith(".")) if depth < _DEPTH else []
        if _is_checkpoint(Path(path)):
            yield Path(path)


def _is_checkpoint(folder: Path) -> bool:
    """Return whether a folder's config.json is a checkpoint's, of any version; other programs write such files, too."""
    try:
        values = read_json(folder / "config.json")
    except ValueError:
        return False
    return isinstance(values, dict) and {"format", "world"} <= set(values)


def _describe(folder: Path, name: str, place: str) -> ListedCheckpoint:
    weights = sum(path.stat().st_size for path in list_files(folder, [".safetensors"])) / 1e6
    try:
        config = read_config(folder)
    except ValueError as error:
        return ListedCheckpoint(name, place, None, weights, "", str(error))
    card = folder / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    about = text.split("---\n")[1] if text.startswith("---\n") else ""
    licence = re.search(r"^license: *(.+)$", about, flags=re.MULTILINE)
    title = re.search(r"^# +(.+)$", text.removeprefix(f"---\n{about}"), flags=re.MULTILINE)
    found = (match[1].strip() if match else "" for match in (licence, title))
    return ListedCheckpoint(name, place, config, weights, *found)
