"""Train a world within a number of seconds, for a GPU that is available for minutes only.

All cores but two record until the share ``first_phases`` of the time is over. Meanwhile the tokenizer and then the
latent action model train on the first shards; after that, the dynamics trains on all frames until the time is over.
Before each phase the time of a training step is measured, and the number of steps chosen so that the learning rate's
decay ends with the phase. These numbers are kept in the run's folder: an interrupted run resumes with the seconds left.
"""

import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.release.labels import draw_clips, label_in_chunks, score_halves
from experiments.release.settings import ReleaseSettings, choose_players
from genie_gym.bench.timing import wait_for
from genie_gym.configs import Mode, Preset, TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.config import RecordConfig
from genie_gym.data.record import Job, record_shard
from genie_gym.data.shards import SHARD_SUFFIX
from genie_gym.metrics.held_out import restrict
from genie_gym.models.loading import find_checkpoint, read_world, save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.system import replace_file
from genie_gym.training.actions import ActionsTrainee, train_actions
from genie_gym.training.agent_box import settle_agent_box
from genie_gym.training.loop import Batches, Phase, Trainee
from genie_gym.training.optim import build_optimizer, clip_gradients
from genie_gym.training.run import clips
from genie_gym.training.tokenizer import TokenizerTrainee, train_tokenizer
from genie_gym.training.world import DynamicsTrainee

_PHASES = {"tokenizer": "tokenizer", "action": "actions", "world": "world"}
"""Folder of each phase by its name in ``Preset``, in the order of ``batch_sizes``."""
_GAMES = 32  # played at once by each process: 512 frames of each game make a shard of 16,384
_MOST_FRAMES = 2_000_000  # limits the time to unpack them into the GPU's memory, 60,000 a second
_SPARE_CORES = 2  # left to the training
_WARM_UP_STEPS, _TIMED_STEPS = 8, 16
_SAVING_SECONDS = 12.0  # left at the end to save the world


class ClockedRun:
    """A release run within a number of seconds, and the decisions it has made so far.

    Args:
        settings: Settings of the release; ``seconds`` is the budget.
        preset: Configs of the world and its phases; their step counts are replaced.
    """

    def __init__(self, settings: ReleaseSettings, preset: Preset) -> None:
        assert settings.seconds is not None
        self._settings, self._preset = settings, preset
        self._end, self._first_end = settings.seconds, settings.seconds * settings.first_phases
        self._path = settings.out / "progress.json"
        self.facts: dict[str, Any] = {"spent": 0.0, "steps": {}}
        """Seconds spent by all calls together, steps of each phase, frames recorded, and scores of the labels."""
        if self._path.exists():
            self.facts = json.loads(self._path.read_text())
        self._started = time.monotonic() - self.facts["spent"]

    def run(self) -> Preset:
        """Record and train until the time is over; return the preset with the training configs that were used."""
        if "done" not in self.facts:
            recorders = self._start_recorders()
            first = self._wait_for_first_shards(recorders)
            world = self._build_world(first)
            if self._settings.start is None:
                self._train_first_phases(world, first)
            for recorder in recorders:
                recorder.join()
            length = self._preset.world_training.clip_length
            dataset = ClipDataset(sorted(self._settings.out.glob(f"train-*/*{SHARD_SUFFIX}")), clip_length=length)
            self._note(f"{dataset.num_frames:,} frames are recorded", frames=dataset.num_frames)
            if self._settings.start is None:
                self._choose_actions(world, dataset)
            self._train_dynamics(world, dataset)
            self._note("done", done=True)
        return replace(self._preset, **{f"{name}_training": self._config(name) for name in _PHASES})  # type: ignore[arg-type]

    def _left_before(self, moment: float) -> float:
        return max(0.0, moment - (time.monotonic() - self._started))

    def _note(self, text: str, **facts: Any) -> None:
        """Print a line with the time, and save the facts for later calls."""
        self.facts |= {**facts, "spent": round(time.monotonic() - self._started, 1)}
        print(f"{self.facts['spent']:6.1f} s of {self._end:g}: {text}", flush=True)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(self._path) as temporary:
            temporary.write_text(json.dumps(self.facts, indent=1) + "\n")

    def _config(self, name: str) -> TrainConfig:
        """Return the training config of a phase, with the preset's steps until their number is decided."""
        settings = self._settings
        config: TrainConfig = getattr(self._preset, f"{name}_training")
        rate = settings.learning_rate if name == "world" else config.optimizer.learning_rate
        return replace(
            config,
            train_steps=self.facts["steps"].get(name, config.train_steps),
            batch_size=settings.batch_sizes[list(_PHASES).index(name)],
            optimizer=replace(config.optimizer, learning_rate=rate),
            precision="float32" if name == "action" else settings.precision,
            log_every=100,
            checkpoint_every=1000,
            picture_every=0,
        )

    def _plan_phase(
        self, name: str, trainee: Trainee, dataset: ClipDataset, end: float, minutes: float | None = None
    ) -> Phase:
        """Return a phase with as many steps as fit before ``end`` seconds of the run, or as an earlier call decided."""
        config = self._config(name)
        batches = clips(dataset.cut(config.clip_length), config, self._settings.device)
        if name not in self.facts["steps"]:
            seconds = time_step(trainee, batches, config)
            steps = max(1, int(self._left_before(end) / seconds))
            self._note(f"{name}: {steps} steps of {seconds:.4f} s", steps=self.facts["steps"] | {name: steps})
        return Phase(batches, self._config(name), self._settings.out / _PHASES[name], minutes, progress=False)

    def _start_recorders(self) -> list[Any]:
        spawn, until = multiprocessing.get_context("spawn"), time.time() + self._left_before(self._first_end)
        recorders = [
            spawn.Process(target=_record_shards, args=(self._settings, mode, worker, until))
            for worker in range(_num_workers(self._settings))
            for mode in self._settings.modes
        ]
        for recorder in recorders:
            recorder.start()
        return recorders

    def _wait_for_first_shards(self, recorders: list[Any]) -> list[Path]:
        settings = self._settings
        first = [_shard_file(settings, mode, each) for mode in settings.modes for each in range(_num_workers(settings))]
        while not all(path.exists() for path in first):
            if any(recorder.exitcode for recorder in recorders):
                raise RuntimeError("a recording process failed")
            time.sleep(0.1)
        self._note("the first shards are recorded")
        return first

    def _build_world(self, shards: list[Path]) -> GenieWorldModel:
        settings = self._settings
        if settings.start is None:
            dataset = ClipDataset(shards, clip_length=self._preset.world_training.clip_length)
            self._preset = replace(self._preset, world=settle_agent_box(self._preset.world, dataset))
            torch.manual_seed(self._preset.tokenizer_training.seed)
            world = GenieWorldModel(self._preset.world)
        else:
            world = read_world(find_checkpoint(settings.start))
        world.to(settings.device)
        world.set_precision(settings.precision)
        world.latent_action_model.set_precision("float32")
        if settings.compile:
            for part in (world.dynamics.transformer, world.tokenizer.encoder, world.tokenizer.decoder):
                part.compile(dynamic=False)
        return world.eval().requires_grad_(True)

    def _train_first_phases(self, world: GenieWorldModel, shards: list[Path]) -> None:
        """Train the tokenizer for half of the time left to the first phases, then the latent action model."""
        tokenizer, model = world.tokenizer, world.latent_action_model
        middle = self._first_end - 0.5 * self._left_before(self._first_end)
        dataset = ClipDataset(shards, clip_length=self._preset.tokenizer_training.clip_length)
        phase = self._plan_phase("tokenizer", TokenizerTrainee(tokenizer), dataset, middle)
        train_tokenizer(tokenizer, phase)
        train_actions(model, self._plan_phase("action", ActionsTrainee(model), dataset, self._first_end))
        self._note("tokenizer and latent action model are trained")
        world.eval()

    @torch.no_grad()
    def _choose_actions(self, world: GenieWorldModel, dataset: ClipDataset) -> None:
        """Keep the new latent action model or the baseline's, whichever predicts true actions better."""
        settings = self._settings
        candidates = {"new": world.latent_action_model}
        if settings.baseline is not None:
            baseline = read_world(find_checkpoint(settings.baseline))
            candidates["baseline"] = baseline.latent_action_model.to(settings.device).eval()
        scores: dict[str, dict[str, Any]] = {name: {} for name in candidates}
        for mode in settings.modes:
            play = draw_clips(dataset, mode)
            for name, model in candidates.items():
                labels = label_in_chunks(model, play, settings.device)
                scores[name][mode] = score_halves(labels, play, world.config.num_latent_actions)
        for each in scores.values():
            each["sum"] = round(sum(each[mode][group] for mode in settings.modes for group in ("direction", "up")), 3)
        best = max(scores, key=lambda name: scores[name]["sum"])
        world.latent_action_model.load_state_dict(candidates[best].state_dict())
        self._note(f"latent actions: {best} of {scores}", latent_actions={"kept": best, "scores": scores})

    def _train_dynamics(self, world: GenieWorldModel, dataset: ClipDataset) -> None:
        settings = self._settings
        if settings.start is None:
            torch.manual_seed(self._preset.world_training.seed)
            world.dynamics.initialise(world.tokenizer.quantizer.get_buffer("codebook"))
        world.eval().requires_grad_(False)
        world.dynamics.requires_grad_(True)
        trainee = _UnprobedTrainee(world)
        phase = self._plan_phase("world", trainee, dataset, self._end - _SAVING_SECONDS, settings.save_minutes)
        done, steps = 0, phase.config.train_steps
        while done < steps:
            done = phase.run(trainee)
            save_world(world, settings.out / "checkpoint")
            self._note(f"dynamics: {done} of {steps} steps")


class _UnprobedTrainee(DynamicsTrainee):
    """The dynamics' trainee without a probe, which would compile the transformer a second time."""

    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Return no metrics."""
        return {}


def time_step(trainee: Trainee, batches: Batches, config: TrainConfig) -> float:
    """Measure and return the seconds of a training step; the weights are restored."""
    before = {name: tensor.clone() for name, tensor in trainee.state_dict().items()}
    optimizer, device = build_optimizer(trainee, config.optimizer, config.precision), next(trainee.parameters()).device
    trainee.train()
    started = time.monotonic()
    for number, batch in enumerate(batches(0, _WARM_UP_STEPS + _TIMED_STEPS)):
        if number == _WARM_UP_STEPS:
            wait_for(device)
            started = time.monotonic()
        optimizer.zero_grad(set_to_none=True)
        trainee.loss(batch).loss.backward()
        clip_gradients(trainee, config.optimizer.clip_norm)
        optimizer.step()
    wait_for(device)
    spent = (time.monotonic() - started) / _TIMED_STEPS
    trainee.load_state_dict(before)
    optimizer.zero_grad(set_to_none=True)
    return spent


def _num_workers(settings: ReleaseSettings) -> int:
    """Return the number of processes that record each mode."""
    return max(1, ((os.cpu_count() or 1) - _SPARE_CORES) // len(settings.modes))


def _shard_file(settings: ReleaseSettings, mode: Mode, number: int) -> Path:
    return settings.out / f"train-{mode}" / f"shard-{number:05d}{SHARD_SUFFIX}"


def _record_shards(settings: ReleaseSettings, mode: Mode, worker: int, until: float) -> None:
    """Record a worker's shards of a mode until the time ``until``; existing ones are kept, the last one is finished."""
    torch.set_num_threads(1)
    frames, players, workers = settings.shard_frames, tuple(choose_players(settings.player)), _num_workers(settings)
    config = RecordConfig(mode=mode, num_envs=_GAMES, frames_per_shard=frames, seed=settings.seed)
    shards = (settings.frames or _MOST_FRAMES) // (frames * len(settings.modes))
    for number in range(worker, max(shards, workers), workers):
        path = _shard_file(settings, mode, number)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            record_shard(Job(restrict(config, "training"), players, number, frames, path))
        if time.time() > until:
            break
