"""Checkpoints on disk: a folder with config.json, safetensors files and start clips; no pickle anywhere."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genie_gym.config_io import from_dict, to_dict
from genie_gym.configs import PRECISIONS, WorldConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.weights import write_tensors
from genie_gym.system import exchange, list_files, name_temporary, replace_file

_SHIPPED = Path(__file__).parent.parent / "weights"
_FORMAT = 1
_SHARD_BYTES = 15 * 2**20
_OLD_WEIGHT_NAMES = {
    r"^dynamics\.gather\.": "dynamics.fold_in.",
    r"^dynamics\.spread\.": "dynamics.fold_out.",
    r"^dynamics\.places$": "dynamics.position_embeddings",
    r"^(tokenizer|latent_action_model\.backbone)\.(encoder|decoder)_places$": r"\1.\2_position_embeddings",
}
"""Pattern of a weight's name in checkpoints of version 0.1 -> its present name."""


def require_precision(precision: str | None) -> None:
    """Raise a ValueError unless ``precision`` is None or one of ``PRECISIONS``."""
    if precision not in (None, *PRECISIONS):
        raise ValueError(f"precision must be None or one of {PRECISIONS}, got {precision!r}")


def require_device(device: str | torch.device) -> str:
    """Return the name of a device that computes.

    Raises:
        ValueError: If torch knows no such device or cannot compute on it here; for a missing GPU it says why.
    """
    try:
        name = torch.device(device)
        torch.zeros(1, device=name).item()
    except (RuntimeError, TypeError, AssertionError, ImportError) as error:
        cause = str(error).split(". ")[0]
        if str(device).startswith("cuda"):
            reason = (
                f"{cause}: {torch.cuda.device_count()} found" if torch.cuda.is_available() else _explain_missing_gpu()
            )
            raise ValueError(f"device must be available, got {str(device)!r}, but {reason}") from error
        raise ValueError(
            f"device must be one that torch can compute on here, such as 'cpu', got {device!r}: {cause}"
        ) from error
    return str(name)


def _explain_missing_gpu() -> str:
    """Return why torch finds no GPU, and what mends it."""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built for CPUs alone. For a GPU: pip uninstall torch, then the command for "
            "your driver from https://pytorch.org/get-started/locally, such as "
            "pip install torch --index-url https://download.pytorch.org/whl/cu130"
        )
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        f"torch {torch.__version__} finds no GPU. nvidia-smi must list one, with a driver for {build} or newer, and "
        f"CUDA_VISIBLE_DEVICES ({'not set' if hidden is None else repr(hidden)}) must not hide it. "
        "Without a GPU use device='cpu'; a torch for CPUs alone takes 200 MB instead of gigabytes: "
        "pip uninstall torch, then pip install torch --index-url https://download.pytorch.org/whl/cpu"
    )


def find_checkpoint(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint.

    Raises:
        ValueError: If it is neither a shipped checkpoint's name nor a checkpoint's folder.
    """
    shipped = _SHIPPED / str(name_or_path)
    for folder in (Path(name_or_path), shipped):
        if (folder / "config.json").is_file():
            return folder
    known = sorted(path.parent.name for path in _SHIPPED.glob("*/config.json"))
    raise ValueError(f"checkpoint {str(name_or_path)!r} is neither a checkpoint's folder nor one of {known}")


def portable_name(folder: Path) -> str:
    """Return what names a checkpoint in every process: the name of a shipped one, else the whole path."""
    whole = folder.resolve()
    return whole.name if whole.parent == _SHIPPED.resolve() else str(whole)


def digest_checkpoint(name_or_path: str | os.PathLike[str] = "coinrun") -> str:
    """Return 16 hex digits that identify a checkpoint's config and weights, whatever clips it starts from.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    folder, digest = find_checkpoint(name_or_path), hashlib.sha256()
    weights = {path for path in list_files(folder, [".safetensors"]) if not path.name.startswith("start_")}
    for path in sorted({folder / "config.json", *weights}):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def name_checkpoint(name_or_path: str | os.PathLike[str], action_names: Sequence[str]) -> Path:
    """Replace the names of a checkpoint's latent actions; its weights stay unchanged.

    Args:
        name_or_path: Name of a shipped checkpoint, or its folder.
        action_names: One name per latent action, in order.

    Returns:
        The folder.

    Raises:
        ValueError: If there is no such checkpoint, its config cannot be written, or the names are too few, too many,
            empty or repeated.
    """
    folder = find_checkpoint(name_or_path)
    config = replace(_read_config(folder), action_names=tuple(action_names))
    try:
        with replace_file(folder / "config.json") as temporary:
            temporary.write_text(_format_config(config))
    except OSError as error:
        raise ValueError(f"checkpoint {str(folder)!r} cannot be written: {error}") from error
    return folder


def save_world(world: GenieWorldModel, folder: str | os.PathLike[str], card: str | None = None) -> Path:
    """Write a world to a folder, which appears whole or not at all and replaces an earlier checkpoint.

    Args:
        world: World to save.
        folder: Folder to write; parents are created.
        card: Text of its model card, ``README.md``.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder cannot be written, or holds something other than a checkpoint.
        OSError: If the disk is full; an earlier checkpoint stays as it was.
    """
    folder = Path(folder)
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not (folder / "config.json").is_file():
        raise ValueError(f"folder {str(folder)!r} exists and is no checkpoint: not overwritten")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = name_temporary(folder.with_name(f".{folder.name}"))
        temporary.mkdir()
    except OSError as error:
        raise ValueError(f"folder {str(folder)!r} cannot be written: {error}") from error
    try:
        _write(world, temporary, card)
        for path in temporary.iterdir():
            path.chmod(0o644)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename ``temporary`` to ``folder``; an earlier folder takes its name, or where that takes two steps another."""
    if folder.exists() and exchange(temporary, folder):
        return
    earlier = name_temporary(temporary)
    if folder.exists():
        folder.rename(earlier)
    temporary.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def read_world(folder: Path) -> GenieWorldModel:
    """Read a world from its folder, in eval mode; ``genie_gym.serving`` prepares it for fast inference.

    Raises:
        ValueError: If the checkpoint is damaged or of another format.
    """
    config = _read_config(folder)
    tensors: dict[str, Tensor] = {}
    for path in list_files(folder, [".safetensors"]):
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"weights {str(path)!r} are damaged: {error}") from error
    clips = tensors.pop("start_clips", None)
    if "start_frames" in tensors:  # earlier checkpoints ship single frames, (M, H, W, 3)
        clips = tensors.pop("start_frames")[:, None]
    world = GenieWorldModel(config, None if clips is None else clips.numpy())
    tensors = {_present_name(name): tensor for name, tensor in tensors.items()}
    try:
        world.load_state_dict(
            {name: tensor.float() if tensor.dtype == torch.bfloat16 else tensor for name, tensor in tensors.items()}
        )
    except RuntimeError as error:
        raise ValueError(f"weights in {str(folder)!r} do not fit their config: {error}") from error
    return world.eval()


def _present_name(name: str) -> str:
    """Translate the name of a weight in a checkpoint of version 0.1 to its present name."""
    for pattern, replacement in _OLD_WEIGHT_NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def _read_config(folder: Path) -> WorldConfig:
    path = folder / "config.json"
    try:
        values: Any = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"config {str(path)!r} is no JSON: {error}") from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise ValueError(f"config {str(path)!r} must have format {_FORMAT}, got {found!r}")
    if not isinstance(values.get("world"), dict):
        raise ValueError(f"config {str(path)!r} must have a world of named fields, got {values.get('world')!r}")
    return from_dict(WorldConfig, values["world"])


def _format_config(config: WorldConfig) -> str:
    return json.dumps({"format": _FORMAT, "world": to_dict(config)}, indent=1) + "\n"


def _write(world: GenieWorldModel, folder: Path, card: str | None) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in world.state_dict().items()}
    shards = _split(tensors)
    for number, shard in enumerate(shards, start=1):
        write_tensors(folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors", shard)
    write_tensors(folder / "start_clips.safetensors", {"start_clips": torch.from_numpy(world.start_clips.copy())})
    (folder / "config.json").write_text(_format_config(world.config))
    if card is not None:
        (folder / "README.md").write_text(card)


def _split(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split tensors into files of at most ``_SHARD_BYTES``, in order."""
    shards: list[dict[str, Tensor]] = [{}]
    room = _SHARD_BYTES
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room and shards[-1]:
            shards.append({})
            room = _SHARD_BYTES
        shards[-1][name] = tensor
        room -= size
    return shards
