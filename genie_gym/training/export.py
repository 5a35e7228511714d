"""Worlds from training runs: the weights of a run's last checkpoints, in the format that ``load`` reads."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from genie_gym.config_io import from_dict, to_dict
from genie_gym.configs import WorldConfig
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.weights import write_tensors
from genie_gym.system import replace_file
from genie_gym.training.checkpoint import has_run, read_weights
from genie_gym.training.distributed import list_differences

_WORLD, _CLIPS, _MERGED = "world.json", "start_clips.safetensors", "merged_actions.safetensors"


def write_run_config(world: GenieWorldModel, folder: Path) -> None:
    """Write a new run's world config and start clips into its folder, which its weights alone do not tell.

    Raises:
        ValueError: If the folder holds a run of another world.
    """
    if (folder / _WORLD).exists() and has_run(folder / "tokenizer"):
        stored, given = json.loads((folder / _WORLD).read_text()), json.loads(json.dumps(to_dict(world.config)))
        if differences := list_differences(stored, given):
            raise ValueError(f"run {str(folder)!r} was started with another world: {'; '.join(differences)}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / _CLIPS, {"start_clips": torch.from_numpy(world.start_clips.copy())})
    with replace_file(folder / _WORLD) as path:
        path.write_text(json.dumps(to_dict(world.config), indent=1) + "\n")


def write_merged(world: GenieWorldModel, folder: Path) -> None:
    """Write what is merged into latent actions, if anything is: the weights of a run are those before."""
    merged = world.latent_action_model.merged
    if merged:
        write_tensors(folder / _MERGED, {f"latent_action_model.{name}": each.cpu() for name, each in merged.items()})


def export_run(folder: Path, out: Path) -> Path:
    """Save the world of a run as a checkpoint, whether or not the run is over and however many ranks train it.

    Args:
        folder: Folder of the run, as ``train_preset`` was given it.
        out: Folder of the checkpoint.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: If there is no run, it is damaged, or some model has not been trained yet.
    """
    try:
        config = from_dict(WorldConfig, json.loads((folder / _WORLD).read_text()))
        clips: np.ndarray = load_file(folder / _CLIPS)["start_clips"].numpy()
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"run {str(folder)!r} must hold {_WORLD} and {_CLIPS}, as genie-gym train writes: {error}"
        ) from None
    world = GenieWorldModel(config, clips)
    weights = world.state_dict()
    found = set[str]()
    for phase in ("tokenizer", "actions", "world"):
        if has_run(folder / phase):
            found |= set(read_weights(folder / phase, weights))
    with_weights = [name for name, model in world.named_children() if model.state_dict()]
    missing = [name for name in with_weights if not any(key.startswith(f"{name}.") for key in found)]
    if missing:
        raise ValueError(f"run {str(folder)!r} must have trained all models, but has not begun {missing}")
    if (folder / _MERGED).exists():
        for name, tensor in load_file(folder / _MERGED).items():
            weights[name].copy_(tensor)
    return save_world(world.eval(), out)
