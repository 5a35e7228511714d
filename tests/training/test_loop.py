"""The training loop: an interrupted and resumed run equals an uninterrupted one, and logging changes nothing."""

import dataclasses
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from genie_gym.configs import OptimizerConfig, TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn import weights
from genie_gym.training.checkpoint import RUN_FILE, require_config
from genie_gym.training.loop import Batches, Phase, Trainee
from genie_gym.training.step import step_seed
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


class Noisy(Trainee):
    """A line fitted to random points: its loss draws noise, and it records the mode of every call."""

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
    """The process is killed."""


def unplugged(batches: Batches, after: int) -> Batches:
    """Return the same batches, with an interruption when the one numbered ``after`` is drawn."""

    def draw(first: int, number: int) -> Iterator[Batch]:
        for index, batch in enumerate(batches(first, number), start=first):
            if index == after:
                raise InterruptionError
            yield batch

    return draw


def same_run(one: Path, other: Path) -> bool:
    """Return whether weights, buffers and optimiser moments are equal bit for bit."""
    left, right = load_file(one / RUN_FILE), load_file(other / RUN_FILE)
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


Train = Callable[[int, Batches, Path], int]


@pytest.fixture
def train(variants: Any, vary: Any, request: pytest.FixtureRequest) -> Train:
    """Train one phase as users do: (seed of the initial weights, batches, folder) -> steps done."""
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
        phase = Phase(batches, training, out, progress=False)
        if kind == "tokenizer":
            return train_tokenizer(world.tokenizer, phase)
        return train_world(world, phase)

    return run


@pytest.mark.parametrize(
    "train", ["tokenizer-float32", "tokenizer-bfloat16", "conv-float32", "st-bfloat16"], indirect=True
)
def test_a_resumed_phase_equals_an_uninterrupted_one(train: Train, tmp_path: Path, moving_squares: Any) -> None:
    """Bit for bit, after two interruptions between checkpoints and with other initial weights each time."""

    def batches(first: int, number: int) -> Iterator[Batch]:
        for index in range(first, first + number):
            yield Batch(moving_squares(4, 5, seed=index), torch.arange(4))

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(1, batches, whole) == 12
    with pytest.raises(InterruptionError):
        train(1, unplugged(batches, 6), broken)
    with pytest.raises(InterruptionError):
        train(2, unplugged(batches, 11), broken)
    assert not same_run(whole, broken)
    assert train(3, batches, broken) == 12
    assert same_run(whole, broken)
    names = set(load_file(whole / RUN_FILE))
    moments = [name.removeprefix("optimizer.").rpartition(".") for name in names if name.startswith("optimizer.")]
    assert {moment for _, _, moment in moments} == {"step", "exp_avg", "exp_avg_sq"}
    assert {f"model.{name}" for name, _, _ in moments} <= names
    assert any(name.endswith("quantizer.idle") for name in names)
    assert train(4, batches, broken) == 12  # nothing is left to do
    assert same_run(whole, broken)


def test_a_run_in_many_short_calls(tmp_path: Path) -> None:
    """A call without time does one step and saves it; twelve calls equal the whole run."""
    Phase(clouds, CONFIG, tmp_path / "whole", progress=False).run(Noisy())
    for call in range(1, 13):
        assert Phase(clouds, CONFIG, tmp_path / "parts", minutes=0, progress=False).run(Noisy(call - 1)) == call
    assert same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_is_determined_by_seed_and_batches(tmp_path: Path) -> None:
    runs = {}
    for name, seed, start in (("one", 0, 0), ("same", 0, 0), ("seed", 1, 0), ("batches", 0, 100)):
        config = dataclasses.replace(CONFIG, seed=seed)
        shifted: Batches = lambda first, number, start=start: clouds(first + start, number)  # noqa: E731
        Phase(shifted, config, tmp_path / name, progress=False).run(Noisy())
        runs[name] = load_file(tmp_path / name / RUN_FILE)["model.line.weight"]
    assert torch.equal(runs["one"], runs["same"])
    assert not torch.equal(runs["one"], runs["seed"])
    assert not torch.equal(runs["one"], runs["batches"])
    assert len({step_seed(seed, step) for seed in range(5) for step in range(-1, 2000)}) == 5 * 2001


def test_losses_are_in_training_mode_and_probes_in_eval_mode(tmp_path: Path) -> None:
    trainee = Noisy()
    Phase(clouds, CONFIG, tmp_path, progress=False).run(trainee)
    assert trainee.modes.count("loss") == 12
    assert trainee.modes.count("probe") == 4
    assert trainee.modes.count("pictures") == 3
    assert len(trainee.modes) == 19


def test_logging_does_not_change_a_run(tmp_path: Path) -> None:
    often = dataclasses.replace(CONFIG, log_every=1, picture_every=1)
    never = dataclasses.replace(CONFIG, log_every=1000, picture_every=0)
    for name, config in (("often", often), ("never", never)):
        Phase(clouds, config, tmp_path / name, progress=False).run(Noisy())
    assert same_run(tmp_path / "often", tmp_path / "never")


def test_tensorboard_gets_rate_loss_metrics_and_gradient_norms(tmp_path: Path) -> None:
    Phase(clouds, CONFIG, tmp_path, progress=False).run(Noisy())
    log = EventAccumulator(str(tmp_path / "log")).Reload()
    told = {"loss", "learning_rate", "noise", "probed", "gradient_norm/line"}
    assert set(log.Tags()["scalars"]) == told | {"speed/frames_per_second", "memory/peak_gb"}
    shown = {event.step: event.value for event in log.Scalars("learning_rate")}
    assert shown == pytest.approx({0: 0.003333, 3: 0.01, 6: 0.007222, 9: 0.002318}, rel=1e-3)
    assert log.Tags()["images"] == ["picture"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """It does not reach the weights, and the last checkpoint stays."""

    def spoiled(first: int, number: int) -> Iterator[Batch]:
        for index, batch in enumerate(clouds(first, number), start=first):
            yield batch._replace(videos=batch.videos * float("nan")) if index == 6 else batch

    trainee = Noisy()
    with pytest.raises(FloatingPointError, match="nan at step 6"):
        Phase(spoiled, CONFIG, tmp_path, progress=False).run(trainee)
    assert torch.isfinite(trainee.line.weight).all()
    assert load_file(tmp_path / RUN_FILE)["model.calls"] == 4


@pytest.mark.parametrize(("signals", "expected"), [(1, SystemExit), (2, KeyboardInterrupt)])
def test_ctrl_c_saves_and_ends_and_a_second_one_ends_at_once(
    tmp_path: Path, signals: int, expected: type[BaseException]
) -> None:
    def interrupted(first: int, number: int) -> Iterator[Batch]:
        for index, batch in enumerate(clouds(first, number), start=first):
            if index == 6:
                for _ in range(signals):
                    signal.raise_signal(signal.SIGINT)
            yield batch

    of_tests = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(expected) as ended:
            Phase(interrupted, CONFIG, tmp_path, progress=False).run(Noisy())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, of_tests)
    assert ended.value.args == ((130,) if signals == 1 else ())
    assert require_config(tmp_path, CONFIG) == (7 if signals == 1 else 4)


def test_a_run_in_the_background_of_a_shell_ignores_the_keyboard(tmp_path: Path) -> None:
    def interrupted(first: int, number: int) -> Iterator[Batch]:
        for batch in clouds(first, number):
            signal.raise_signal(signal.SIGINT)
            yield batch

    of_tests = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert Phase(interrupted, CONFIG, tmp_path, progress=False).run(Noisy()) == CONFIG.train_steps
    finally:
        signal.signal(signal.SIGINT, of_tests)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 8}, r"batch_size \(8, not 4\)"),
        ({"train_steps": 13}, r"train_steps \(13, not 12\)"),
        ({"seed": 1}, r"seed \(1, not 0\)"),
        ({"optimizer": OptimizerConfig(clip_norm=2.0)}, r"optimizer\.clip_norm \(2\.0, not 1\.0\)"),
    ],
)
def test_a_run_of_another_config_is_refused_naming_what_differs(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    Phase(clouds, CONFIG, tmp_path, progress=False).run(Noisy())
    with pytest.raises(ValueError, match=rf"run '{tmp_path}' was started with another config: .*{told}"):
        Phase(clouds, dataclasses.replace(CONFIG, **change), tmp_path, progress=False).run(Noisy())


def test_a_run_of_another_model_is_refused(tmp_path: Path) -> None:
    Phase(clouds, CONFIG, tmp_path, progress=False).run(Noisy())
    with pytest.raises(ValueError, match=r"is of another model: (.|\n)*line.weight"):
        Phase(clouds, CONFIG, tmp_path, progress=False).run(Noisy(width=5))


class TwoLines(Trainee):
    """Two lines, whose order among the children is chosen."""

    def __init__(self, names: tuple[str, str]) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(3, 1))

    def loss(self, batch: Batch) -> LossOutput:
        first, second = self.get_submodule("first"), self.get_submodule("second")
        return LossOutput((first(batch.videos) - 2 * second(batch.videos) - 1).square().mean(), {})


def test_moments_are_saved_by_the_names_of_their_parameters(tmp_path: Path) -> None:
    """A run resumes with its children in another order; a run whose moments have numbers is refused."""
    torch.manual_seed(0)
    whole, resumed = TwoLines(("first", "second")), TwoLines(("second", "first"))
    resumed.load_state_dict(whole.state_dict())
    Phase(clouds, CONFIG, tmp_path / "whole", progress=False).run(whole)
    for trainee in (resumed, TwoLines(("first", "second")), TwoLines(("second", "first"))):
        Phase(clouds, CONFIG, tmp_path / "resumed", minutes=0, progress=False).run(trainee)
    Phase(clouds, CONFIG, tmp_path / "resumed", progress=False).run(TwoLines(("first", "second")))
    left, right = (load_file(tmp_path / name / RUN_FILE) for name in ("whole", "resumed"))
    assert set(left) == set(right)
    assert all(torch.equal(left[name], right[name]) for name in left)

    for old, new, reason in (("first.weight", "0", "an earlier version"), ("first.weight", "third", "other param")):
        path = tmp_path / "resumed" / RUN_FILE
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        renamed = {name.replace(f"optimizer.{old}.", f"optimizer.{new}."): value for name, value in right.items()}
        save_file(renamed, path, metadata=metadata)
        with pytest.raises(ValueError, match=f"run .* was saved by .*{reason}.*: start anew in another folder"):
            Phase(clouds, CONFIG, tmp_path / "resumed", progress=False).run(TwoLines(("first", "second")))


@pytest.mark.parametrize("kept", [0, 7, 300, -1])
def test_a_truncated_run_is_refused(tmp_path: Path, kept: int) -> None:
    Phase(clouds, CONFIG, tmp_path, progress=False).run(Noisy())
    path = tmp_path / RUN_FILE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"run .*{RUN_FILE}' is damaged"):
        Phase(clouds, CONFIG, tmp_path, progress=False).run(Noisy())


def test_a_run_without_its_step_is_refused(tmp_path: Path) -> None:
    save_file({"model.line.weight": torch.zeros(1, 3)}, tmp_path / RUN_FILE)
    with pytest.raises(ValueError, match=f"run .*{RUN_FILE}' is damaged"):
        Phase(clouds, CONFIG, tmp_path, progress=False).run(Noisy())


def test_a_run_file_is_never_written_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process dies while it writes the second checkpoint, the run resumes from the first."""
    write = weights.save_file
    written: list[Path] = []

    def fail_second(tensors: Any, path: Path, metadata: Any) -> None:
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half of it")
            raise InterruptionError
        write(tensors, path, metadata=metadata)

    monkeypatch.setattr(weights, "save_file", fail_second)
    with pytest.raises(InterruptionError):
        Phase(clouds, CONFIG, tmp_path / "broken", progress=False).run(Noisy())
    assert not list((tmp_path / "broken").glob("*.tmp"))
    assert load_file(tmp_path / "broken" / RUN_FILE)["model.calls"] == 4
    assert Phase(clouds, CONFIG, tmp_path / "broken", progress=False).run(Noisy(1)) == 12
    Phase(clouds, CONFIG, tmp_path / "whole", progress=False).run(Noisy())
    assert same_run(tmp_path / "whole", tmp_path / "broken")
