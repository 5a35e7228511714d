"""Where a training run stands, on disk: weights, optimiser moments and the step, without pickle."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from genie_gym.configs import TrainConfig, to_dict

NAME = "training.safetensors"


def save_run(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> None:
    """Write the run beside the old one, then put it in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {"step": str(step), "config": json.dumps(to_dict(config))}
    beside = folder / f"{NAME}.tmp"
    save_file(tensors, beside, metadata=about)
    os.replace(beside, folder / NAME)


def resume_run(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> int:
    """Restore the run in ``folder`` and return the steps it has done; 0 where there is none.

    Raises:
        ValueError: If the run is damaged, was made with another config, or is of another model.
    """
    path = folder / NAME
    if not path.exists():
        return 0
    require_config(folder, config)
    tensors = load_file(path)
    model = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    try:
        module.load_state_dict(model)
    except RuntimeError as error:
        raise ValueError(f"run {str(folder)!r} is of another model: {error}") from error
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(_metadata(path)["step"])


def require_config(folder: Path, config: TrainConfig) -> None:
    """Raise a ValueError if there is a run in ``folder`` that is damaged or was started with another config."""
    if not (folder / NAME).exists():
        return
    about = _metadata(folder / NAME)
    if json.loads(about["config"]) != json.loads(json.dumps(to_dict(config))):
        raise ValueError(f"run {str(folder)!r} was started with another config: {about['config']}")


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"run {str(path)!r} is damaged: {error}") from error
    if not {"step", "config"} <= set(about):
        raise ValueError(f"run {str(path)!r} is damaged: it tells no step and config, only {sorted(about)}")
    return about
