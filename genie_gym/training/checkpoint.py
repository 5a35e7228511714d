"""The state of a training run on disk, without pickle: weights, optimiser moments by parameter name, and the step."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from genie_gym.config_io import to_dict
from genie_gym.configs import TrainConfig

RUN_FILE = "training.safetensors"
_MODEL, _OPTIMIZER = "model.", "optimizer."
"""Prefixes of tensor names in the file."""


def save_run(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> None:
    """Write the run's state to a temporary file, then replace the earlier one by it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_MODEL + name: tensor for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{name}.{moment}"] = value
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"step": str(step), "config": json.dumps(to_dict(config))}
    temporary = folder / f"{RUN_FILE}.tmp"
    save_file(tensors, temporary, metadata=metadata)
    os.replace(temporary, folder / RUN_FILE)


def has_run(folder: Path) -> bool:
    """Return whether the folder holds the state of a run."""
    return (folder / RUN_FILE).exists()


def resume_run(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> int:
    """Restore the run in ``folder`` and return the number of steps it has done; 0 if there is none.

    Raises:
        ValueError: If the run is damaged, has another config or model, or was saved before moments had names.
    """
    step = require_config(folder, config)
    if step == 0:
        return 0
    tensors = load_file(folder / RUN_FILE)
    try:
        module.load_state_dict(_select(tensors, _MODEL))
    except RuntimeError as error:
        raise ValueError(f"run {str(folder)!r} is of another model: {error}") from error
    # An optimiser numbers its moments by the order of its parameters.
    names = {parameter: name for name, parameter in module.named_parameters()}
    trained = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in _select(tensors, _OPTIMIZER).items():
        name, _, moment = key.rpartition(".")
        if name not in trained:
            reason = "an earlier version of genie-gym" if name.isdigit() else "a run that trained other parameters"
            raise ValueError(f"run {str(folder)!r} was saved by {reason}: start anew in another folder")
        state.setdefault(trained.index(name), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step


def require_config(folder: Path, config: TrainConfig) -> int:
    """Check that the run in ``folder`` has this config, and return the number of steps done; 0 if there is no run.

    The precision ``auto`` agrees with whichever was chosen.

    Raises:
        ValueError: If the run is damaged or was started with another config.
    """
    if not has_run(folder):
        return 0
    step, stored = _read_about(folder)
    given = json.loads(json.dumps(to_dict(config)))
    if config.precision == "auto":
        given["precision"] = stored["precision"]
    if stored != given:
        raise ValueError(f"run {str(folder)!r} was started with another config: {json.dumps(stored)}")
    return step


def read_precision(folder: Path) -> str | None:
    """Return the precision of the run in ``folder``, ``None`` if there is no run.

    Raises:
        ValueError: If the run is damaged.
    """
    return str(_read_about(folder)[1]["precision"]) if has_run(folder) else None


def _read_about(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return the number of steps done and the config of the run in ``folder``."""
    path = str(folder / RUN_FILE)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"run {path!r} is damaged: {error}") from error
    if not {"step", "config"} <= set(metadata):
        raise ValueError(f"run {path!r} is damaged: it lacks its step or config, and has only {sorted(metadata)}")
    return int(metadata["step"]), json.loads(metadata["config"])


def _select(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
