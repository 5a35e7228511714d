"""The loop, and the promise that an interrupted and resumed run equals an uninterrupted one."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from genie_gym.configs import OptimizerConfig, TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.training import checkpoint
from genie_gym.training.checkpoint import NAME
from genie_gym.training.loop import Batches, step_seed, train
from genie_gym.training.tokenizer import train_tokenizer
from genie_gym.training.world import train_world

CONFIG = TrainConfig(
    train_steps=12,
    batch_size=4,
    clip_length=5,
    optimizer=OptimizerConfig(learning_rate=1e-2, final_learning_rate=1e-3, schedule="cosine", warmup_steps=3),
    precision="float32",
    checkpoint_every=4,
    log_every=3,
    picture_every=5,
)


class Noisy(nn.Module):
    """A line fitted to a cloud: its loss draws noise, and it can be told to fail."""

    def __init__(self, seed: int = 0, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.line = nn.Linear(width, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.modes: list[str] = []

    def loss(self, batch: Batch) -> LossOutput:
        self.modes.append("loss" if self.training else "loss in eval mode")
        self.calls += 1
        loss = (self.line(batch.videos) - torch.randn(len(batch.videos), 1)).square().mean()
        return LossOutput(loss, {"noise": torch.rand(())})

    def probe(self, batch: Batch) -> dict[str, Tensor]:
        self.modes.append("probe in training" if self.training else "probe")
        return {"probed": torch.rand(())}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        self.modes.append("pictures in training" if self.training else "pictures")
        return {"picture": torch.rand(3, 4, 4)}


def clouds(first: int, number: int) -> Iterator[Batch]:
    for index in range(first, first + number):
        yield Batch(torch.randn(4, 3, generator=torch.Generator().manual_seed(index)), torch.arange(4))


class InterruptionError(Exception):
    """The plug is pulled."""


def unplugged(batches: Batches, after: int) -> Batches:
    """The same batches, until the one numbered ``after`` is asked for."""

    def draw(first: int, number: int) -> Iterator[Batch]:
        for index, batch in enumerate(batches(first, number), start=first):
            if index == after:
                raise InterruptionError
            yield batch

    return draw


def same_run(one: Path, other: Path) -> bool:
    """Weights, buffers, optimiser moments and steps, bit for bit."""
    left, right = load_file(one / NAME), load_file(other / NAME)
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


Phase = Callable[[int, Batches, Path], int]


@pytest.fixture
def phase(variants: Any, vary: Any, request: pytest.FixtureRequest) -> Phase:
    """(seed of the first weights, batches, folder) -> steps done: one phase of training, as users run it."""
    kind, precision = request.param.split("-", 1)
    overrides = {
        "tokenizer": {"tokenizer.quantizer.restart_after": 2},
        "conv": {"latent_action_model.quantizer.restart_after": 2, "dynamics.context_corruption": 0.2},
        "st": {"latent_action_model.hidden_frames": 0.5},
    }[kind]
    config = vary(variants["st-lam" if kind == "st" else "additive"], overrides)
    training = dataclasses.replace(CONFIG, precision=precision)  # type: ignore[arg-type]
    torch.manual_seed(0)
    tokenizer = GenieWorldModel(config).tokenizer.state_dict()

    def run(seed: int, batches: Batches, out: Path) -> int:
        torch.manual_seed(seed)
        world = GenieWorldModel(config)
        world.tokenizer.load_state_dict(tokenizer)
        if kind == "tokenizer":
            return train_tokenizer(world.tokenizer, batches, training, out, progress=False)
        return train_world(world, batches, training, out, progress=False)

    return run


@pytest.mark.parametrize(
    "phase", ["tokenizer-float32", "tokenizer-bfloat16", "conv-float32", "st-bfloat16"], indirect=True
)
def test_a_resumed_phase_equals_an_uninterrupted_one(phase: Phase, tmp_path: Path, moving_squares: Any) -> None:
    """Bit for bit, after two interruptions between checkpoints; a resumed run's first weights don't matter."""

    def batches(first: int, number: int) -> Iterator[Batch]:
        for index in range(first, first + number):
            yield Batch(moving_squares(4, 5, seed=index), torch.arange(4))

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert phase(1, batches, whole) == 12
    with pytest.raises(InterruptionError):
        phase(1, unplugged(batches, 6), broken)
    with pytest.raises(InterruptionError):
        phase(2, unplugged(batches, 11), broken)
    assert not same_run(whole, broken)
    assert phase(3, batches, broken) == 12
    assert same_run(whole, broken)
    names = set(load_file(whole / NAME))
    assert {f"optimizer.0.{moment}" for moment in ("step", "exp_avg", "exp_avg_sq")} <= names
    assert any(name.endswith("quantizer.idle") for name in names)
    assert phase(4, batches, broken) == 12  # there is nothing left to do
    assert same_run(whole, broken)


def test_a_run_in_many_short_sittings(tmp_path: Path) -> None:
    """With no time left one step is done, saved and returned; twelve sittings make the whole run."""
    train(Noisy(), clouds, CONFIG, tmp_path / "whole", progress=False)
    for sitting in range(1, 13):
        assert train(Noisy(sitting - 1), clouds, CONFIG, tmp_path / "parts", minutes=0, progress=False) == sitting
    assert same_run(tmp_path / "whole", tmp_path / "parts")


def test_seed_and_batches_decide(tmp_path: Path) -> None:
    runs = {}
    for name, seed, start in (("one", 0, 0), ("same", 0, 0), ("seed", 1, 0), ("batches", 0, 100)):
        config = dataclasses.replace(CONFIG, seed=seed)
        shifted: Batches = lambda first, number, start=start: clouds(first + start, number)  # noqa: E731
        train(Noisy(), shifted, config, tmp_path / name, progress=False)
        runs[name] = load_file(tmp_path / name / NAME)["model.line.weight"]
    assert torch.equal(runs["one"], runs["same"])
    assert not torch.equal(runs["one"], runs["seed"])
    assert not torch.equal(runs["one"], runs["batches"])
    assert len({step_seed(seed, step) for seed in range(5) for step in range(-1, 2000)}) == 5 * 2001


def test_training_is_in_training_mode_and_watching_is_not(tmp_path: Path) -> None:
    trainee = Noisy()
    train(trainee, clouds, CONFIG, tmp_path, progress=False)
    assert trainee.modes.count("loss") == 12
    assert trainee.modes.count("probe") == 4
    assert trainee.modes.count("pictures") == 3
    assert len(trainee.modes) == 19


def test_watching_changes_nothing(tmp_path: Path) -> None:
    """However often it is logged, a run is the same."""
    often = dataclasses.replace(CONFIG, log_every=1, picture_every=1)
    never = dataclasses.replace(CONFIG, log_every=1000, picture_every=0)
    for name, config in (("often", often), ("never", never)):
        train(Noisy(), clouds, config, tmp_path / name, progress=False)
    assert same_run(tmp_path / "often", tmp_path / "never")


def test_the_rate_follows_the_schedule(tmp_path: Path) -> None:
    """As TensorBoard shows it, beside the loss, its metrics and the gradients' norms."""
    train(Noisy(), clouds, CONFIG, tmp_path, progress=False)
    log = EventAccumulator(str(tmp_path / "log")).Reload()
    assert set(log.Tags()["scalars"]) == {"loss", "learning_rate", "noise", "probed", "gradient_norm/line"}
    shown = {event.step: event.value for event in log.Scalars("learning_rate")}
    assert shown == pytest.approx({0: 0.003333, 3: 0.01, 6: 0.007222, 9: 0.002318}, rel=1e-3)
    assert log.Tags()["images"] == ["picture"]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    """Before it reaches the weights, and the last checkpoint stays."""

    def spoiled(first: int, number: int) -> Iterator[Batch]:
        for index, batch in enumerate(clouds(first, number), start=first):
            yield batch._replace(videos=batch.videos * float("nan")) if index == 6 else batch

    trainee = Noisy()
    with pytest.raises(FloatingPointError, match="nan at step 6"):
        train(trainee, spoiled, CONFIG, tmp_path, progress=False)
    assert torch.isfinite(trainee.line.weight).all()
    assert load_file(tmp_path / NAME)["model.calls"] == 4


@pytest.mark.parametrize(
    "change", [{"batch_size": 8}, {"train_steps": 13}, {"seed": 1}, {"optimizer": OptimizerConfig(clip_norm=2.0)}]
)
def test_a_run_of_another_config(tmp_path: Path, change: dict[str, Any]) -> None:
    train(Noisy(), clouds, CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match=rf"run '{tmp_path}' was started with another config: .*\"batch_size\": 4"):
        train(Noisy(), clouds, dataclasses.replace(CONFIG, **change), tmp_path, progress=False)


def test_a_run_of_another_model(tmp_path: Path) -> None:
    train(Noisy(), clouds, CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"is of another model: (.|\n)*line.weight"):
        train(Noisy(width=5), clouds, CONFIG, tmp_path, progress=False)


@pytest.mark.parametrize("kept", [0, 7, 300, -1])
def test_a_truncated_run(tmp_path: Path, kept: int) -> None:
    train(Noisy(), clouds, CONFIG, tmp_path, progress=False)
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"run .*{NAME}' is damaged"):
        train(Noisy(), clouds, CONFIG, tmp_path, progress=False)


def test_a_run_that_does_not_tell_its_step(tmp_path: Path) -> None:
    save_file({"model.line.weight": torch.zeros(1, 3)}, tmp_path / NAME)
    with pytest.raises(ValueError, match=f"run .*{NAME}' is damaged"):
        train(Noisy(), clouds, CONFIG, tmp_path, progress=False)


def test_a_run_file_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power is lost while the second checkpoint is written: the first is whole, and the run goes on from it."""
    write = checkpoint.save_file
    written: list[Path] = []

    def fail_second(tensors: Any, path: Path, metadata: Any) -> None:
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half of it")
            raise InterruptionError
        write(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", fail_second)
    with pytest.raises(InterruptionError):
        train(Noisy(), clouds, CONFIG, tmp_path / "broken", progress=False)
    assert written[1].read_bytes() == b"half of it"
    assert load_file(tmp_path / "broken" / NAME)["model.calls"] == 4
    assert train(Noisy(1), clouds, CONFIG, tmp_path / "broken", progress=False) == 12
    train(Noisy(), clouds, CONFIG, tmp_path / "whole", progress=False)
    assert same_run(tmp_path / "whole", tmp_path / "broken")
