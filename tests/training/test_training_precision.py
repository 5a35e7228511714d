"""Precision in training: what ``auto`` chooses, that a run keeps it, and what stays float32."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from agents.policy import LatentPolicy
from genie_gym.config_io import vary
from genie_gym.configs import Preset, TrainConfig
from genie_gym.data.clips import Batch
from genie_gym.models.base import LossOutput
from genie_gym.models.reward_model import RewardModel
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.training import loop, precision
from genie_gym.training.actions import ActionsTrainee, train_actions
from genie_gym.training.checkpoint import RUN_FILE, read_precision, require_config
from genie_gym.training.loop import Phase, Trainee
from genie_gym.training.optim import build_optimizer
from genie_gym.training.precision import fastest_precision
from genie_gym.training.token_cache import TokenCache
from genie_gym.training.tokenizer import TokenizerTrainee, train_tokenizer
from genie_gym.training.world import DynamicsTrainee, WorldTrainee, train_world
from tests.agents.small import SMALL, SMALL_IMPALA, SMALL_TRANSFORMER

CPU = torch.device("cpu")
CONFIG = TrainConfig(train_steps=4, batch_size=4, clip_length=5, precision="auto", checkpoint_every=2, picture_every=0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds on a clock that only tests move, on a CPU with instructions for bfloat16."""
    now = [0.0]
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(precision, "native_precision", lambda device: "bfloat16")
    return now


def choose(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a few steps in each precision end with this choice, whatever they took."""

    def find(device: torch.device, step: Callable[[str, int], object]) -> tuple[str, str]:
        for number, each in itertools.product(range(2), ("float32", "bfloat16")):
            step(each, number)
        return name, "as the test says"

    monkeypatch.setattr(loop, "fastest_precision", find)


def refuse(*arguments: Any) -> None:
    raise AssertionError("no step may be timed")


def require_equal_runs(one: Path, other: Path) -> None:
    tensors, others = (load_file(folder / RUN_FILE) for folder in (one, other))
    assert tensors.keys() == others.keys()
    assert not [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])]
    assert read_precision(one) == read_precision(other)


def videos(first: int, number: int) -> Iterator[Batch]:
    for index in range(first, first + number):
        torch.manual_seed(index)
        yield Batch(torch.rand(4, 5, 3, 64, 64), torch.arange(4))


@pytest.mark.parametrize(
    ("low", "neighbour", "wanted"),
    [
        (0.3, {}, "bfloat16"),
        (1.7, {}, "float32"),
        (0.97, {}, "float32"),  # too little to gain
        (0.5, {2: 9.0, 5: 9.0}, "bfloat16"),  # another process took the processor in two of the steps
        (1.2, {0: 20.0}, "float32"),  # kernels are compiled
        (1.2, {4: 9.0, 8: 9.0}, "float32"),
    ],
)
def test_a_busy_machine_does_not_turn_the_choice(
    clock: list[float], low: float, neighbour: dict[int, float], wanted: str
) -> None:
    taken: list[str] = []

    def step(name: str, number: int) -> None:
        clock[0] += (low if name == "bfloat16" else 1.0) + neighbour.get(len(taken), 0.0)
        taken.append(name)

    assert fastest_precision(CPU, step)[0] == wanted
    assert taken == ["float32", "bfloat16"] * 6


def test_slow_steps_are_timed_once(clock: list[float]) -> None:
    taken: list[str] = []

    def step(name: str, number: int) -> None:
        clock[0] += 500.0 if name == "bfloat16" else 1000.0
        taken.append(name)

    assert fastest_precision(CPU, step)[0] == "bfloat16"
    assert taken == ["float32", "bfloat16"] * 2  # the first round is not counted


@pytest.mark.parametrize(("kind", "native"), [("cuda", "bfloat16"), ("cuda", "float32"), ("cpu", "float32")])
def test_no_step_is_timed_where_the_device_decides(monkeypatch: pytest.MonkeyPatch, kind: str, native: str) -> None:
    """A step in bfloat16 would take minutes on a CPU without instructions for it."""
    monkeypatch.setattr(precision, "native_precision", lambda device: native)
    assert fastest_precision(torch.device(kind), refuse)[0] == native


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_timing_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    """Weights, codebooks, normalisation and moments equal those of a run whose precision was given."""
    choose(monkeypatch, name)
    for given in ("auto", name):
        torch.manual_seed(0)
        world, config = GenieWorldModel(PRESETS["tiny"].world), dataclasses.replace(CONFIG, precision=given)
        phases = {part: Phase(videos, config, tmp_path / given / part, progress=False) for part in ("a", "b", "c")}
        state = torch.get_rng_state()
        phases["a"].settle(TokenizerTrainee(world.tokenizer))
        assert torch.equal(torch.get_rng_state(), state)
        train_tokenizer(world.tokenizer, phases["a"])
        train_actions(world.latent_action_model, phases["b"])
        train_world(world, phases["c"], freezes_actions=True)
    for part in "abc":
        require_equal_runs(tmp_path / "auto" / part, tmp_path / name / part)


def test_a_resumed_run_keeps_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(folder: str, minutes: float | None = None) -> None:
        torch.manual_seed(0)
        tokenizer = GenieWorldModel(PRESETS["tiny"].world).tokenizer
        train_tokenizer(tokenizer, Phase(videos, CONFIG, tmp_path / folder, minutes))
        assert tokenizer.precision == torch.bfloat16

    choose(monkeypatch, "bfloat16")
    train("whole")
    train("parts", minutes=0)
    choose(monkeypatch, "float32")
    monkeypatch.setattr(loop, "fastest_precision", refuse)
    train("parts")
    require_equal_runs(tmp_path / "whole", tmp_path / "parts")
    lines = [line for line in capsys.readouterr().err.splitlines() if "training in bfloat16" in line]
    assert len(lines) == 3
    assert ["as the run began" in line for line in lines] == [False, False, True]


def test_a_given_precision_is_not_exchanged_for_the_stored_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, "bfloat16")
    model = GenieWorldModel(PRESETS["tiny"].world).latent_action_model
    train_actions(model, Phase(videos, CONFIG, tmp_path, progress=False))
    assert read_precision(tmp_path) == "bfloat16"
    assert require_config(tmp_path, CONFIG) == 4
    with pytest.raises(ValueError, match=r"another config.*bfloat16"):
        require_config(tmp_path, dataclasses.replace(CONFIG, precision="float32"))


def test_tokens_of_an_unknown_precision_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.precision must be the precision of the tokens, got 'auto'"):
        TokenCache(tmp_path, GenieWorldModel(PRESETS["tiny"].world).tokenizer, None, CONFIG)  # type: ignore[arg-type]


class Classifying(Trainee):
    """A small network of the agents with the loss of its training."""

    def __init__(self, network: LatentPolicy | RewardModel) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: Batch) -> LossOutput:
        if isinstance(self.network, RewardModel):
            logits = self.network(batch.videos[:, :2])[:, 0]
        else:
            logits = self.network(batch.videos[:, :4], torch.zeros(4, 3, dtype=torch.int64))
        return LossOutput(torch.nn.functional.cross_entropy(logits, torch.arange(4) % 2), {"logits": logits})


SMALL_POLICIES = {"compact": SMALL, "impala": SMALL_IMPALA, "st-vivit": SMALL_TRANSFORMER}


def build(kind: str, tiny: Preset) -> Trainee:
    if kind in SMALL_POLICIES:
        return Classifying(LatentPolicy(SMALL_POLICIES[kind], 8))
    if kind == "reward":
        return Classifying(RewardModel(("won", "ended"), 64, 64))
    moving = dataclasses.replace(PRESETS["coinrun"].world.latent_action_model, agent_box=(29, 29, 6, 6), border=8)
    overrides = {"latent_action_model": moving} if kind == "moving" else {}
    world = GenieWorldModel(vary(tiny.world, overrides))
    parts: dict[str, Trainee] = {
        "tokenizer": TokenizerTrainee(world.tokenizer),
        "dynamics": DynamicsTrainee(world.eval()),
        "world": WorldTrainee(world),
    }
    return parts.get(kind) or ActionsTrainee(world.latent_action_model)


KINDS = ("tokenizer", "conv", "moving", "dynamics", "world", *SMALL_POLICIES, "reward")


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_for_features_alone(kind: str) -> None:
    """Weights, gradients, moments, codebooks, normalisation and losses are float32; features are not."""
    torch.manual_seed(0)
    trainee, batch = build(kind, PRESETS["tiny"]).train(), next(videos(0, 1))
    for weight in trainee.parameters():  # layers that start at zero would hide features from the loss
        weight.data += 0.02 * torch.randn_like(weight)
    losses = {}
    for name in ("float32", "bfloat16"):
        trainee.set_precision(name)
        torch.manual_seed(1)
        before = {key: value.clone() for key, value in trainee.state_dict().items()}
        output = trainee.loss(batch)
        trainee.load_state_dict(before)
        losses[name] = float(output.loss.detach())
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    optimizer = build_optimizer(trainee, CONFIG.optimizer)
    output = trainee.loss(batch)
    output.loss.backward()
    gradients = [each.grad for each in trainee.parameters() if each.grad is not None]
    optimizer.step()
    moments = [value for state in optimizer.state.values() for value in state.values()]
    tensors: list[Tensor] = [
        output.loss,
        *output.metrics.values(),
        *gradients,
        *moments,
        *trainee.state_dict().values(),
    ]
    assert len(moments) >= 3
    assert {each.dtype for each in tensors if each.is_floating_point()} == {torch.float32}


def test_labels_of_a_frozen_model_do_not_depend_on_the_precision() -> None:
    world = GenieWorldModel(PRESETS["tiny"].world).eval()
    DynamicsTrainee(world).set_precision("bfloat16")
    assert [part.precision for part in (world.tokenizer, world.dynamics)] == [torch.bfloat16] * 2
    assert world.latent_action_model.precision == torch.float32
    WorldTrainee(world).set_precision("bfloat16")
    assert world.latent_action_model.precision == torch.bfloat16
