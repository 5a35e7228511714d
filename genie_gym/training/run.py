"""All training phases of a preset, from clips to a saved world, resumable at any step."""

import functools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from genie_gym.checks import require, require_on_disk
from genie_gym.config_io import to_dict
from genie_gym.configs import Preset, TrainConfig
from genie_gym.data.clips import HELD_BYTES, Batch, ClipDataset, batches
from genie_gym.data.device_clips import hold_on_device
from genie_gym.data.frames import to_float
from genie_gym.envs.prompts import MAX_PROMPT_FRAMES
from genie_gym.models.loading import require_device, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.real_actions import RealActionConfig
from genie_gym.system import count_cores
from genie_gym.training.actions import train_actions
from genie_gym.training.agent_box import settle_agent_box
from genie_gym.training.checkpoint import require_config
from genie_gym.training.distributed import current_ranks, require_phases
from genie_gym.training.export import write_merged, write_run_config
from genie_gym.training.loop import Batches, Phase
from genie_gym.training.real_actions import RealActions
from genie_gym.training.run_data import keep_data
from genie_gym.training.token_cache import TokenCache, is_worthwhile
from genie_gym.training.tokenizer import train_tokenizer
from genie_gym.training.world import settle_world, train_world


def train_preset(  # noqa: PLR0913  # what a run is, and how this call goes about it
    preset: Preset,
    dataset: ClipDataset,
    out: Path,
    start_clips: np.ndarray | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    progress: bool = True,
    keeps_data: bool = True,
) -> Path | None:
    """Train a world and save it as ``out/checkpoint``; another call resumes where the last one stopped.

    Args:
        preset: World to train, and its phases.
        dataset: Clips of the world's size, of any length. Up to 256 MiB of frames are held in memory.
        out: Folder of the run. Its folders ``tokenizer``, ``actions`` (if the preset has such a phase) and ``world``
            hold the phases' states and TensorBoard logs.
        start_clips: (M, P, H, W, 3) uint8 clips to ship with the world.
        minutes: Time limit of this call in minutes, over all phases.
        device: Device to train on.
        progress: Whether to show progress bars.
        keeps_data: Whether to keep the dataset's digest and compare it (``keep_data``); the command does so itself.

    Returns:
        Folder of the checkpoint, or ``None`` if time ran out before the last step.

    Raises:
        ValueError: If ``out`` holds a run of another preset or data, data are damaged, or the device cannot compute.
    """
    require_device(device)
    (ranks := current_ranks()).agree(lambda: _require_run(preset, ranks.size, out))
    dataset = _hold(dataset, out if keeps_data else None)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def begin(config: TrainConfig, name: str) -> Phase:
        left = None if deadline is None else (deadline - time.monotonic()) / 60
        return Phase(clips(dataset.cut(config.clip_length), config, device), config, out / name, left, progress, device)

    world = _build(preset, dataset, start_clips, out, device)
    first, second, last = preset.tokenizer_training, preset.action_training, preset.world_training
    if train_tokenizer(world.tokenizer, begin(first, "tokenizer")) < first.train_steps:
        return None
    if second and train_actions(world.latent_action_model, begin(second, "actions")) < second.train_steps:
        return None
    ranks.agree(lambda: write_merged(world, out) if second and ranks.is_first else None)
    if any(ranks.gather(deadline is not None and time.monotonic() >= deadline)):
        return None
    if _train_last(world, begin(last, "world"), dataset.cut(last.clip_length), second is not None) < last.train_steps:
        return None
    ranks.agree(lambda: save_world(world.eval(), out / "checkpoint") if ranks.is_first else None)
    return out / "checkpoint"


def _train_last(world: GenieWorldModel, phase: Phase, dataset: ClipDataset, freezes_actions: bool) -> int:
    """Train the dynamics, and the latent action model unless it is frozen; return the number of steps done.

    On a CPU, if at least as many clips are drawn as there are, a ``TokenCache`` spares encoding a clip again; with
    fewer draws hardly any clip repeats. A GPU needs no cache: it encodes faster than files are read. Several processes
    have none, since their quantizers sum over all of them: no process may leave a batch out.
    """
    on_cpu = world.device.type == "cpu"
    has_cache = on_cpu and current_ranks().size == 1 and is_worthwhile(dataset, phase.config)
    part = world.config.latent_action_model
    real = None
    if isinstance(part, RealActionConfig):
        number = part.actions
        real = current_ranks().agree(lambda: RealActions(dataset, number))
    phase = settle_world(world, phase, freezes_actions, real)
    cache = TokenCache(phase.folder, world.tokenizer, dataset, phase.config) if has_cache else None
    return train_world(world, phase, cache, freezes_actions, real)


def _hold(dataset: ClipDataset, run: Path | None) -> ClipDataset:
    """Return the dataset, in memory if it is small, and keep its digest with the run, if one is given."""
    ranks, chosen = current_ranks(), dataset.contents
    if run is not None:
        ranks.agree(lambda: keep_data(run, chosen, [each.path for each in chosen]) if ranks.is_first else None)
    return ranks.agree(dataset.in_memory) if dataset.num_bytes <= HELD_BYTES else dataset


def _require_run(preset: Preset, ranks: int, out: Path) -> None:
    """Check before anything is trained that all phases suit the ranks and the runs that ``out`` holds of them."""
    require_on_disk("out", out)
    require_phases(preset, ranks)
    trained = {
        "tokenizer": preset.tokenizer_training,
        "actions": preset.action_training,
        "world": preset.world_training,
    }
    for name, config in trained.items():
        if config is not None:
            require_config(out / name, config)


def _build(
    preset: Preset, dataset: ClipDataset, start_clips: np.ndarray | None, out: Path, device: str
) -> GenieWorldModel:
    """Return the untrained world, the same on every rank, and write its plan; see ``train_preset``."""
    ranks = current_ranks()
    torch.manual_seed(preset.tokenizer_training.seed)
    world = GenieWorldModel(ranks.agree(lambda: settle_agent_box(preset.world, dataset)), start_clips)
    ranks.require_same({"preset": to_dict(replace(preset, world=world.config)), "number of clips": len(dataset)})
    ranks.agree(lambda: write_run_config(world, out) if ranks.is_first else None)
    # A model to be sharded is cut on the CPU: whole, it may not fit into a GPU.
    is_sharded = ranks.size > 1 and preset.world_training.sharding == "fsdp"
    for model in (world.tokenizer, world.latent_action_model, *(() if is_sharded else (world.dynamics,))):
        model.to(device)
    return world


def clips(dataset: ClipDataset, config: TrainConfig, device: str = "cpu") -> Batches:
    """Return a source of training batches, whose videos are float in [0, 1] and on the device.

    Each process of several asks for its rows of every batch, all of them at once: a clip that one cannot read ends all.
    A GPU's memory takes a copy of all frames when the first batch is drawn, if they fit. Otherwise threads read ahead:
    one for a CPU, which has work enough, and one on each core for a GPU.
    """
    hold = functools.cache(lambda: hold_on_device(dataset, device))
    readers = 1 if torch.device(device).type == "cpu" else count_cores()

    def draw(first: int, number: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
        yield from current_ranks().read(read(first, number, rows))

    def read(first: int, number: int, rows: np.ndarray | None) -> Iterator[Batch]:
        held = hold()
        if held is not None:
            drawn = held.batches(config.batch_size, config.seed, first, number, rows)
        else:
            drawn = batches(dataset, config.batch_size, config.seed, first, number, workers=readers, rows=rows)
        for batch in drawn:
            yield batch._replace(videos=to_float(batch.videos.to(device)))

    return draw


def draw_start_clips(dataset: ClipDataset, count: int, seed: int) -> np.ndarray:
    """Draw a clip of ``MAX_PROMPT_FRAMES`` = P frames from each of ``count`` equal stretches of the data.

    Returns:
        (count, P, H, W, 3) uint8; fewer clips if the data has fewer.

    Raises:
        ValueError: If ``count`` is not positive, or no episode is that long.
    """
    require(count > 0, "start_clips", count, "positive")
    dataset = dataset.cut(MAX_PROMPT_FRAMES)
    edges = np.linspace(0, len(dataset), min(count, len(dataset)) + 1).astype(int)
    chosen = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    return np.stack([dataset[int(index)] for index in chosen])
