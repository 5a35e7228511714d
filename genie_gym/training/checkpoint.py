"""The state of a training run on disk, without pickle: weights, optimiser moments by parameter name, and the step.

One process writes one file, ``training.safetensors``; several write folders of safetensors in the background
(``sharded_checkpoint``). Both hold the same tensors by the same names, and either number of processes reads both. Two
formats, because one file is the simplest that one process can write, and needs no process group.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from genie_gym.config_io import from_dict, to_dict
from genie_gym.configs import TrainConfig
from genie_gym.nn.weights import write_tensors
from genie_gym.training.distributed import Ranks, list_differences
from genie_gym.training.sharded_checkpoint import (
    ShardedSaver,
    find_sharded,
    list_sharded,
    load_sharded,
    read_sharded_about,
    remove_sharded,
)
from genie_gym.training.sharding import fill_tensor, zeros_like

RUN_FILE = "training.safetensors"
_MODEL, _OPTIMIZER = "model.", "optimizer."
"""Prefixes of tensor names in the file."""


def run_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return every tensor of a run by name: weights and buffers, then the optimiser's moments."""
    tensors = {_MODEL + name: tensor for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{name}.{moment}"] = value
    return {name: tensor.detach() for name, tensor in tensors.items()}


def about_run(step: int, config: TrainConfig) -> dict[str, Any]:
    """Return the number of steps done and the config as plain JSON values."""
    return {"step": step, "config": json.loads(json.dumps(to_dict(config)))}


def save_run(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> None:
    """Write the run's state, whole or not at all, in place of the earlier one; for one process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in run_state(module, optimizer).items()}
    metadata = {
        name: str(value) if name == "step" else json.dumps(value) for name, value in about_run(step, config).items()
    }
    write_tensors(folder / RUN_FILE, tensors, metadata)
    remove_sharded(folder)


class RunSaver:
    """Saves a run's states: by one process at once, by several in the background.

    Args:
        folder: Folder of the run.
        ranks: This rank and the number of them.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder = folder
        self._sharded = ShardedSaver(folder, ranks, folder / RUN_FILE) if ranks.size > 1 else None

    def save(self, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> None:
        """Save the state after ``step`` steps."""
        if self._sharded is None:
            save_run(self._folder, step, module, optimizer, config)
        else:
            self._sharded.save(run_state(module, optimizer), about_run(step, config))

    def poll(self) -> None:
        """Make a state that has been written the one to resume from."""
        if self._sharded is not None:
            self._sharded.poll()

    def wait(self) -> None:
        """Wait until the last state is written."""
        if self._sharded is not None:
            self._sharded.wait()


def has_run(folder: Path) -> bool:
    """Return whether the folder holds the state of a run."""
    return (folder / RUN_FILE).exists() or find_sharded(folder) is not None


def resume_run(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> int:
    """Restore the run in ``folder`` and return the number of steps it has done; 0 if there is none.

    The module may be whole or sharded by FSDP2, and the run saved by any number of processes.

    Raises:
        ValueError: If the run is damaged, has another config or model, or was saved before moments had names.
    """
    step = require_config(folder, config)
    if step == 0:
        return 0
    path = _latest(folder)[1]
    found = _list_tensors(path)
    weights = {_MODEL + name: tensor.detach() for name, tensor in module.state_dict().items()}
    _require_same_model(folder, weights, found)
    # An optimiser numbers its moments by the order of its parameters.
    numbers = {id(each): number for number, each in enumerate(_trained(optimizer))}
    parameters = {name: each for name, each in module.named_parameters() if id(each) in numbers}
    moments: dict[str, Tensor] = {}
    for key in sorted(key for key in found if key.startswith(_OPTIMIZER)):
        name, _, moment = key.removeprefix(_OPTIMIZER).rpartition(".")
        if name not in parameters:
            reason = "an earlier version of genie-gym" if name.isdigit() else "a run that trained other parameters"
            raise ValueError(f"run {str(folder)!r} was saved by {reason}: start anew in another folder")
        moments[key] = torch.zeros(()) if moment == "step" else zeros_like(parameters[name])
    _fill(path, weights | moments)
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in moments.items():
        name, _, moment = key.removeprefix(_OPTIMIZER).rpartition(".")
        state.setdefault(numbers[id(parameters[name])], {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step


def read_weights(folder: Path, like: dict[str, Tensor]) -> list[str]:
    """Fill those of the tensors ``like`` that the run in ``folder`` holds, and return their names.

    Raises:
        ValueError: If the run is damaged, or a tensor has another shape.
    """
    path = _latest(folder)[1]
    found = _list_tensors(path)
    held = {_MODEL + name: tensor for name, tensor in like.items() if _MODEL + name in found}
    wrong = [name for name, tensor in held.items() if _flat_size(tensor.shape) != _flat_size(found[name])]
    if wrong:
        raise ValueError(f"run {str(folder)!r} is of another model: {', '.join(wrong)}")
    _fill(path, held)
    return [name.removeprefix(_MODEL) for name in held]


def require_config(folder: Path, config: TrainConfig) -> int:
    """Check that the run in ``folder`` has this config, and return the number of steps done; 0 if there is no run.

    The precision ``auto`` agrees with whichever was chosen.

    Raises:
        ValueError: If the run is damaged or was started with another config.
    """
    if not has_run(folder):
        return 0
    about, _ = _latest(folder)
    given = json.loads(json.dumps(to_dict(config)))
    if config.precision == "auto":
        given["precision"] = about["config"]["precision"]
    if differences := list_differences(about["config"], given):
        raise ValueError(f"run {str(folder)!r} was started with another config: {'; '.join(differences)}")
    return int(about["step"])


def read_precision(folder: Path) -> str | None:
    """Return the precision of the run in ``folder``, ``None`` if there is no run.

    Raises:
        ValueError: If the run is damaged.
    """
    return str(_latest(folder)[0]["config"]["precision"]) if has_run(folder) else None


def _latest(folder: Path) -> tuple[dict[str, Any], Path]:
    """Return the step and config, and the place, of the last checkpoint of the run in ``folder``."""
    found, sharded = list[tuple[dict[str, Any], Path]](), find_sharded(folder)
    if sharded is not None:
        found.append((read_sharded_about(sharded), sharded))
    if (folder / RUN_FILE).exists():
        found.append((_read_about(folder / RUN_FILE), folder / RUN_FILE))
    about, path = max(found, key=lambda each: each[0]["step"])
    try:  # a run of an earlier version lacks the fields that are new
        config = json.loads(json.dumps(to_dict(from_dict(TrainConfig, about["config"]))))
    except ValueError:
        config = about["config"]
    return {"step": about["step"], "config": config}, path


def _read_about(path: Path) -> dict[str, Any]:
    """Return the number of steps done and the config of the run in a file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"run {str(path)!r} is damaged: {error}") from error
    if not {"step", "config"} <= set(metadata):
        raise ValueError(f"run {str(path)!r} is damaged: it lacks its step or config, and has only {sorted(metadata)}")
    try:
        return {"step": int(metadata["step"]), "config": json.loads(metadata["config"])}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"run {str(path)!r} is damaged: {error}") from error


def _trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _list_tensors(path: Path) -> dict[str, torch.Size]:
    """Return the name and shape of every tensor of a checkpoint of either format."""
    if path.is_dir():
        return list_sharded(path)
    with safe_open(path, framework="pt") as file:
        return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _require_same_model(folder: Path, weights: dict[str, Tensor], found: dict[str, torch.Size]) -> None:
    """Raise a ValueError naming the first weights that only one of run and model has, or that differ in shape."""
    held = {name for name in found if name.startswith(_MODEL)}
    faults = [f"{name.removeprefix(_MODEL)} is missing" for name in sorted(set(weights) - held)]
    faults += [f"{name.removeprefix(_MODEL)} is unknown" for name in sorted(held - set(weights))]
    for name in sorted(held & set(weights)):
        one, other = _flat_size(weights[name].shape), _flat_size(found[name])
        if one != other:
            faults.append(f"{name.removeprefix(_MODEL)} is {tuple(other)}, not {tuple(one)}")
    if faults:
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(f"run {str(folder)!r} is of another model: {', '.join(faults[:3])}{more}")


def _flat_size(shape: torch.Size) -> torch.Size:
    """Return a shape as checkpoints of several ranks state it: they hold numbers as vectors of one."""
    return shape or torch.Size([1])


def _fill(path: Path, tensors: dict[str, Tensor]) -> None:
    """Fill tensors, whole or sharded, from a checkpoint of either format."""
    if path.is_dir():
        load_sharded(path, tensors)
        return
    stored = load_file(path)
    for name, tensor in tensors.items():
        fill_tensor(tensor, stored[name])
