"""Checkpoints on disk: a folder with config.json, safetensors files and start clips; no pickle anywhere."""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from genie_gym.checks import require, require_on_disk
from genie_gym.config_io import to_dict
from genie_gym.configs import PRECISIONS, WorldConfig
from genie_gym.models.base import require_ids
from genie_gym.models.hub import fetch_checkpoint, is_address, require_own
from genie_gym.models.listing import CHECKPOINT_FORMAT, SHIPPED, read_config
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.tensor_files import StoredTensor, build_on_meta, list_tensors, read_tensors, require_tensors
from genie_gym.nn.weights import write_tensors
from genie_gym.real_actions import RealActionConfig
from genie_gym.system import exchange, list_files, name_temporary, replace_file

_SHARD_BYTES = 15 * 2**20
_START_CLIPS = {"start_clips", "start_frames"}
_MOST_CLIP_BYTES = 1 << 30
_OLD_WEIGHT_NAMES = {
    r"^dynamics\.gather\.": "dynamics.fold_in.",
    r"^dynamics\.spread\.": "dynamics.fold_out.",
    r"^dynamics\.places$": "dynamics.position_embeddings",
    r"^(tokenizer|latent_action_model\.backbone)\.(encoder|decoder)_places$": r"\1.\2_position_embeddings",
}
"""Pattern of a weight's name in checkpoints of version 0.1 -> its present name."""


_REAL_ACTIONS_CARD = """# A world of real actions

Trained with `genie-gym train --actions real`: its {} actions are those of the recording, whose labels the dynamics has
read, to compare with worlds of latent actions. It has no latent action model, so it labels no videos.
"""


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
    """Return the folder of a checkpoint; one of the hub is fetched into the hub's cache.

    Raises:
        ValueError: If it is neither a shipped checkpoint's name nor a checkpoint's folder, nor the address
            ``hf://USER/REPO`` of one that can be fetched.
    """
    if is_address(name_or_path):
        return fetch_checkpoint(str(name_or_path))
    shipped = SHIPPED / str(name_or_path)
    for folder in (Path(name_or_path), shipped):
        if (folder / "config.json").is_file():
            return folder
    known = sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))
    raise ValueError(
        f"checkpoint {str(name_or_path)!r} is neither a checkpoint's folder nor one of {known}, nor hf://USER/REPO"
    )


def portable_name(folder: Path) -> str:
    """Return what names a checkpoint in every process: the name of a shipped one, else the whole path."""
    whole = folder.resolve()
    return whole.name if whole.parent == SHIPPED.resolve() else str(whole)


def digest_checkpoint(name_or_path: str | os.PathLike[str] = "coinrun") -> str:
    """Return 16 hex digits that identify a checkpoint's config and weights, whatever clips it starts from.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    folder, digest = find_checkpoint(name_or_path), hashlib.sha256()
    weights = {path for path in list_files(folder, [".safetensors"]) if not _is_for_clips(path)}
    for path in sorted({folder / "config.json", *weights}):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
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
    require_own(name_or_path)
    folder = find_checkpoint(name_or_path)
    config = replace(read_config(folder), action_names=tuple(action_names))
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
        card: Text of its model card, ``README.md``; by default only a world of real actions has one, which says so.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder cannot be written, or holds something other than a checkpoint.
        OSError: If the disk is full; an earlier checkpoint stays as it was.
    """
    folder = Path(folder)
    require_on_disk("folder", folder)
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
    """Rename ``temporary`` to ``folder``, and an earlier folder to ``temporary``, or else delete the earlier one."""
    if folder.exists() and exchange(temporary, folder):
        return
    earlier = name_temporary(temporary)
    if folder.exists():
        folder.rename(earlier)
    temporary.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def read_world(folder: Path) -> GenieWorldModel:
    """Read a world from its folder, in eval mode; ``genie_gym.serving`` prepares it for fast inference.

    Names, types and shapes of the weights are compared with those that the config asks for before their numbers are
    read or memory for them is allocated.

    Raises:
        ValueError: Naming the file, field or tensor, if the checkpoint is damaged or of another format.
    """
    config = read_config(folder)
    found = _list_stored(folder)
    clips = _START_CLIPS & found.keys()
    for name in clips:
        size = math.prod(found[name].shape)
        require(size <= _MOST_CLIP_BYTES, f"{name} in {str(folder)!r}", size, f"at most {_MOST_CLIP_BYTES} bytes")
    wanted = build_on_meta(lambda: GenieWorldModel(config)).state_dict()
    weights = {name: stored for name, stored in found.items() if name not in clips}
    require_tensors(f"weights in {str(folder)!r} do not fit their config", weights, wanted)
    tensors = {
        _present_name(name): tensor for path in _list_weights(folder) for name, tensor in read_tensors(path).items()
    }
    held = [tensors.pop(name) for name in sorted(clips)]
    # Earlier checkpoints ship single frames, (M, H, W, 3).
    world = GenieWorldModel(
        config, (held[0][:, None] if clips == {"start_frames"} else held[0]).numpy() if held else None
    )
    world.load_state_dict(tensors)
    actions = world.latent_action_model.action_of_code
    if actions is not None:
        require_ids("latent_action_model.action_of_code", actions, config.num_latent_actions)
    return world.eval()


def _list_weights(folder: Path) -> list[Path]:
    """Return what is named like a safetensors file in a checkpoint, in order; a pipe is refused when it is read."""
    shown = (
        path for path in folder.iterdir() if path.suffix.lower() == ".safetensors" and not path.name.startswith(".")
    )
    return sorted(shown)


def _list_stored(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors in a folder by their present names; ``ValueError`` if two files hold one of the same name."""
    found: dict[str, StoredTensor] = {}
    places: dict[str, Path] = {}
    for path in _list_weights(folder):
        for stored_name, stored in list_tensors(path).items():
            name = _present_name(stored_name)
            if _is_for_clips(path) and name not in _START_CLIPS:
                raise ValueError(f"weights {str(path)!r} must not lie in a file of start clips, got {name}")
            if name in found:
                both = f"{places[name].name} and {path.name}"
                raise ValueError(f"weights in {str(folder)!r} must hold each tensor once, got {name} in {both}")
            found[name], places[name] = stored, path
    return found


def _is_for_clips(path: Path) -> bool:
    """Return whether a file is one of start clips, which a checkpoint's digest leaves out."""
    return path.name.startswith("start_")


def _present_name(name: str) -> str:
    """Translate the name of a weight in a checkpoint of version 0.1 to its present name."""
    for pattern, replacement in _OLD_WEIGHT_NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def _format_config(config: WorldConfig) -> str:
    return json.dumps({"format": CHECKPOINT_FORMAT, "world": to_dict(config)}, indent=1) + "\n"


def _write(world: GenieWorldModel, folder: Path, card: str | None) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in world.state_dict().items()}
    shards = _split(tensors)
    for number, shard in enumerate(shards, start=1):
        write_tensors(folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors", shard)
    write_tensors(folder / "start_clips.safetensors", {"start_clips": torch.from_numpy(world.start_clips.copy())})
    (folder / "config.json").write_text(_format_config(world.config))
    if card is None and isinstance(world.config.latent_action_model, RealActionConfig):
        card = _REAL_ACTIONS_CARD.format(world.config.num_latent_actions)
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
