"""A world by the clock, for a GPU that is lent for minutes: record on all cores, train meanwhile, save.

    python -m experiments.release.sprint --out runs/sprint --seconds 660 --device cuda

The first shards of each mode train tokenizer and latent action model while more are recorded; then the dynamics trains
on all of them for what is left. Steps follow from times measured on the spot. The world is saved every few minutes, and
``--start`` goes on with the dynamics of a finished one.
"""

import copy
import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.release.mix import SCORED, Mode, label_play, mix_players, score_play
from genie_gym.configs import Preset, RecordConfig, TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.device_clips import DeviceClips
from genie_gym.data.frames import to_float
from genie_gym.data.record import Job, record_shard
from genie_gym.data.shards import SHARD_SUFFIX
from genie_gym.metrics.held_out import EvaluationClips, read_clips, restrict
from genie_gym.models.base import LossOutput
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn import attention
from genie_gym.presets import find_preset
from genie_gym.serving import load_world
from genie_gym.training.actions import ActionsTrainee, train_actions
from genie_gym.training.checkpoint import RUN_FILE
from genie_gym.training.loop import Batches, Phase, Trainee
from genie_gym.training.optim import build_optimizer, clip_gradients
from genie_gym.training.run import clips
from genie_gym.training.tokenizer import TokenizerTrainee, train_tokenizer
from genie_gym.training.world import DynamicsTrainee

GAMES = 32
"""Played at once, for 512 frames each where a shard has 16,384."""
SPARE_CORES = 2
"""Left by those that record to those that train."""
WARM, TIMED = 8, 16
"""Steps before and while a step is timed."""
SAVING = 12.0
"""Seconds kept for the end."""


@dataclass(frozen=True, kw_only=True)
class Sprint:
    """Record, train, save."""

    out: Path = Path("runs/sprint")
    """Folder of recordings, runs and checkpoint."""
    preset: str = "coinrun"
    """A preset's name; its steps are not used."""
    seconds: float = 660.0
    """In all."""
    first_phases: float = 0.17
    """Share of the seconds after which tokenizer and latent actions are done, and nothing more is recorded."""
    frames: int = 2_000_000
    """Recorded at most: they have to be unpacked into the device's memory, at 60,000 a second."""
    start: str | None = None
    """A checkpoint to take all from: its dynamics is trained further, and nothing else."""
    modes: tuple[Mode, ...] = ("easy", "hard")
    """Procgen's distribution modes, in equal parts."""
    batch_sizes: tuple[int, int, int] = (512, 32, 128)
    """Frames for the tokenizer, clips for the latent action model and for the dynamics."""
    learning_rate: float = 2e-3
    """Peak, of the dynamics."""
    rival: str | None = "coinrun"
    """A checkpoint: its start frames ship, and its latent action model is kept if its labels say more of actions."""
    chunk_minutes: float = 3.0
    """Between saved worlds."""
    compile: bool = True
    """``torch.compile`` tokenizer and dynamics."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the features."""
    device: str = "cuda"
    """Where to train."""
    shard_frames: int = 16_384
    """Of a recorded shard; every core records one before training begins."""

    def run(self) -> None:
        """All of it."""
        clock, preset = Clock(self.seconds), self._preset()
        first_end = self.seconds * self.first_phases
        spawn = multiprocessing.get_context("spawn")
        recorders = [
            spawn.Process(target=_record, args=(self, mode, worker, time.time() + first_end))
            for worker in range(self._workers)
            for mode in self.modes
        ]
        for recorder in recorders:
            recorder.start()
        world, dynamics = self._build(preset), self._phase(preset, "world")
        dynamics = replace(dynamics, optimizer=replace(dynamics.optimizer, learning_rate=self.learning_rate))
        self._choose_attention(world, dynamics, clock)
        first = self._wait_for_first(recorders, clock)
        if self.start is None:
            actions = spawn.Process(target=_train_actions, args=(self, preset, first, clock.until(first_end)))
            actions.start()
            self._train_tokenizer(world, self._phase(preset, "tokenizer"), first, clock, first_end)
            actions.join()
        for recorder in recorders:
            recorder.join(clock.until(first_end))
        dataset = ClipDataset(self._shards(), clip_length=dynamics.clip_length)
        clock.tell(f"{dataset.num_frames:,} frames are recorded")
        if self.start is None:
            self._choose_actions(world, dataset, actions.exitcode == 0, clock)
            torch.manual_seed(dynamics.seed)
            world.dynamics.initialise(world.tokenizer.quantizer.get_buffer("codebook"))
        self._train_dynamics(world, dataset, dynamics, clock)
        (self.out / "done").touch()
        clock.tell("done")

    @property
    def _workers(self) -> int:
        """That record one mode."""
        return max(1, ((os.cpu_count() or 1) - SPARE_CORES) // len(self.modes))

    def _preset(self) -> Preset:
        preset = find_preset(self.preset)
        if preset.action_training is None:
            raise ValueError(f"preset must train latent actions alone, got {self.preset!r}")
        return preset

    def _phase(self, preset: Preset, name: str) -> TrainConfig:
        """A phase's config but for its steps."""
        config: TrainConfig = getattr(preset, f"{name}_training")
        size = dict(zip(("tokenizer", "action", "world"), self.batch_sizes, strict=True))[name]
        precision = "float32" if name == "action" else self.precision
        return replace(
            config, batch_size=size, precision=precision, log_every=100, checkpoint_every=100_000, picture_every=0
        )

    def _build(self, preset: Preset) -> GenieWorldModel:
        torch.manual_seed(preset.tokenizer_training.seed)
        if self.start is not None:
            world = copy.deepcopy(load_world(self.start, precision="float32")).to(self.device)
        else:
            frames = None if self.rival is None else load_world(self.rival, precision="float32").start_frames
            world = GenieWorldModel(preset.world, frames).to(self.device)
        world.set_precision(self.precision)
        world.latent_action_model.set_precision("float32")
        if self.compile:
            for part in (world.dynamics.transformer, world.tokenizer.encoder, world.tokenizer.decoder):
                part.compile(dynamic=False)
        return world.eval().requires_grad_(True)

    def _choose_attention(self, world: GenieWorldModel, config: TrainConfig, clock: "Clock") -> None:
        """Compile, and attend in time by what is faster here: a fused kernel, or plain products."""
        seconds = {}
        for short in (attention._FEW_KEYS, 0):
            attention._FEW_KEYS = short
            seconds[short] = self._time(DynamicsTrainee(world), _noise(world, config, self.device), config, clock)
        attention._FEW_KEYS = min(seconds, key=seconds.__getitem__)
        clock.tell(f"attention: plain products up to {attention._FEW_KEYS} keys")

    def _shards(self) -> list[Path]:
        return sorted(self.out.glob(f"train-*/*{SHARD_SUFFIX}"))

    def _wait_for_first(self, recorders: list[Any], clock: "Clock") -> list[Path]:
        first = [_shard(self, mode, worker) for mode in self.modes for worker in range(self._workers)]
        while not all(path.exists() for path in first):
            if any(recorder.exitcode for recorder in recorders):
                raise RuntimeError("a process that records has died")
            time.sleep(0.1)
        clock.tell("the first shards are recorded")
        return first

    def _train_tokenizer(
        self, world: GenieWorldModel, config: TrainConfig, shards: list[Path], clock: "Clock", end: float
    ) -> None:
        batches = self._batches(ClipDataset(shards, clip_length=1), config)
        trainee = TokenizerTrainee(world.tokenizer)
        spent = self._time(trainee, batches, config, clock)
        config = replace(config, train_steps=_steps(0.9 * clock.until(end), spent))
        train_tokenizer(world.tokenizer, Phase(batches, config, self.out / "tokenizer", progress=False))
        with torch.no_grad():
            world.tokenizer.eval()
            videos = next(iter(batches(config.train_steps, 1))).videos
            rebuilt = world.tokenizer.decode(world.tokenizer.encode(videos))
        error = float((rebuilt - videos).square().mean())
        clock.tell(f"tokenizer: {config.train_steps} steps, {-10 * math.log10(error):.2f} dB")

    def _choose_actions(self, world: GenieWorldModel, dataset: ClipDataset, is_trained: bool, clock: "Clock") -> None:
        """Keep the latent action model, new or the rival's, whose labels say more."""
        model = world.latent_action_model
        candidates = {"new": _load_actions(self, world)} if is_trained else {}
        if self.rival is not None:
            candidates["rival"] = copy.deepcopy(load_world(self.rival, precision="float32").latent_action_model)
        scores = {name: self._score_actions(each, dataset) for name, each in candidates.items()}
        best = max(scores, key=lambda name: scores[name]["sum"])
        clock.tell(f"latent actions: {best} of {json.dumps(scores)}")
        model.load_state_dict(candidates[best].state_dict())
        (self.out / "actions.json").write_text(json.dumps({"kept": best, "scores": scores}, indent=1) + "\n")

    @torch.no_grad()
    def _score_actions(self, model: LatentActionModel, dataset: ClipDataset) -> dict[str, Any]:
        model = model.to(self.device).eval()
        scores: dict[str, Any] = {}
        for mode in self.modes:
            play = _draw_play(dataset, mode, SCORED)
            scores[mode] = score_play(label_play(model, play, self.device), play, model.config.num_latent_actions)
        scores["sum"] = round(sum(scores[mode][name] for mode in self.modes for name in ("direction", "up")), 3)
        return scores

    def _train_dynamics(
        self, world: GenieWorldModel, dataset: ClipDataset, config: TrainConfig, clock: "Clock"
    ) -> None:
        batches = self._batches(dataset, config)
        world.eval().requires_grad_(False)
        world.dynamics.requires_grad_(True)
        trainee = SteadyTrainee(world)
        spent = self._time(trainee, batches, config, clock)
        steps = _steps(clock.until(self.seconds - SAVING), spent)
        config = replace(config, train_steps=steps, log_every=max(1, steps // 100))
        clock.tell(f"dynamics: {steps} steps of {spent:.4f} s")
        done = 0
        while done < steps:
            done = Phase(batches, config, self.out / "world", self.chunk_minutes, progress=False).run(trainee)
            save_world(world, self.out / "checkpoint")
            told = {name: round(float(value), 4) for name, value in trainee.metrics.items()}
            clock.tell(f"dynamics: {done} of {steps} steps, {told}")

    def _batches(self, dataset: ClipDataset, config: TrainConfig) -> Batches:
        """As ``clips`` draws them, but from frames that are put into a GPU's memory once."""
        if torch.device(self.device).type != "cuda":
            return clips(dataset, config, self.device)
        held = DeviceClips(dataset, self.device)

        def draw(first: int, number: int) -> Iterator[Batch]:
            for batch in held.batches(config.batch_size, config.seed, first, number):
                yield batch._replace(videos=to_float(batch.videos))

        return draw

    def _time(self, trainee: Trainee, batches: Batches, config: TrainConfig, clock: "Clock") -> float:
        """Seconds of a step; weights are left as they were."""
        assert isinstance(trainee, nn.Module)
        before = {name: tensor.clone() for name, tensor in trainee.state_dict().items()}
        optimizer = build_optimizer(trainee, config.optimizer)
        trainee.train()
        started = time.monotonic()
        for number, batch in enumerate(batches(0, WARM + TIMED)):
            if number == WARM:
                self._finish_queue()
                started = time.monotonic()
            loss = trainee.loss(batch).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clip_gradients(trainee, config.optimizer.clip_norm)
            optimizer.step()
        self._finish_queue()
        spent = (time.monotonic() - started) / TIMED
        trainee.load_state_dict(before)
        optimizer.zero_grad(set_to_none=True)
        clock.tell(f"{type(trainee).__name__}: {spent:.4f} s a step, loss {loss.item():.3f}")
        return spent

    def _finish_queue(self) -> None:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize()


class SteadyTrainee(DynamicsTrainee):
    """Without a probe, which would compile the transformer a second time."""

    def __init__(self, world: GenieWorldModel) -> None:
        super().__init__(world)
        self.metrics: dict[str, Tensor] = {}

    def loss(self, batch: Batch) -> LossOutput:
        """The dynamics' loss; its metrics are kept until the next."""
        output = super().loss(batch)
        self.metrics = output.metrics
        return output

    def probe(self, batch: Batch) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class Clock:
    """Seconds since the start."""

    def __init__(self, seconds: float) -> None:
        self._started, self._seconds = time.monotonic(), seconds

    @property
    def spent(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def until(self, moment: float) -> float:
        """Left before a moment."""
        return max(0.0, moment - self.spent)

    def tell(self, text: str) -> None:
        """Print with the time."""
        print(f"{self.spent:6.1f} s of {self._seconds:g}: {text}", flush=True)


def _record(sprint: Sprint, mode: Mode, worker: int, end: float) -> None:
    """Shards of a mode, every so manyth, until ``end`` in seconds of ``time.time``; the last is finished."""
    torch.set_num_threads(1)
    players = tuple(mix_players())
    frames = sprint.shard_frames
    config = restrict(RecordConfig(mode=mode, num_envs=GAMES, frames_per_shard=frames, seed=1), "training")
    most = sprint.frames // (frames * len(sprint.modes))
    for number in range(worker, max(most, sprint._workers), sprint._workers):
        path = _shard(sprint, mode, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        record_shard(Job(config, players, number, frames, path))
        if time.time() > end:
            break


def _shard(sprint: Sprint, mode: Mode, number: int) -> Path:
    return sprint.out / f"train-{mode}" / f"shard-{number:05d}{SHARD_SUFFIX}"


def _train_actions(sprint: Sprint, preset: Preset, shards: list[Path], seconds: float) -> None:
    """In a process of its own."""
    torch.set_num_threads(2)
    clock, config = Clock(seconds), sprint._phase(preset, "action")
    batches = sprint._batches(ClipDataset(shards, clip_length=config.clip_length), config)
    torch.manual_seed(config.seed)
    model = LatentActionModel(preset.world).to(sprint.device)
    spent = sprint._time(ActionsTrainee(model), batches, config, clock)
    config = replace(config, train_steps=_steps(0.85 * clock.until(seconds), spent))
    train_actions(model, Phase(batches, config, sprint.out / "actions", progress=False))
    clock.tell(f"latent actions: {config.train_steps} steps")


def _load_actions(sprint: Sprint, world: GenieWorldModel) -> LatentActionModel:
    trainee = ActionsTrainee(LatentActionModel(world.config))
    start = "model."
    tensors = load_file(sprint.out / "actions" / RUN_FILE)
    trainee.load_state_dict({name[len(start) :]: each for name, each in tensors.items() if name.startswith(start)})
    return trainee.latent_action_model


def _noise(world: GenieWorldModel, config: TrainConfig, device: str) -> Batches:
    size = (config.batch_size, config.clip_length, 3, world.config.height, world.config.width)

    def draw(first: int, number: int) -> Iterator[Batch]:
        for _ in range(number):
            yield Batch(torch.rand(size, device=device), torch.arange(config.batch_size))

    return draw


def _draw_play(dataset: ClipDataset, mode: str, number: int) -> EvaluationClips:
    """Clips of a mode with their real actions."""
    drawn = np.random.default_rng(0).permutation(len(dataset))[: 8 * number]
    chosen = [int(each) for each in drawn if dataset.attribute(int(each), "mode") == mode]
    return read_clips(dataset, np.array(chosen[:number]))


def _steps(seconds: float, each: float) -> int:
    return max(1, int(seconds / each))


if __name__ == "__main__":
    tyro.cli(Sprint).run()
