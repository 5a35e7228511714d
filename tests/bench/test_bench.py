"""The results of ``genie-gym bench`` and the files it writes; no speed is asserted."""

import contextlib
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from genie_gym import cli
from genie_gym.bench import worlds
from genie_gym.bench.config import BenchConfig
from genie_gym.bench.environments import busy_neighbour, time_environments, torch_env_fps
from genie_gym.bench.report import print_results
from genie_gym.bench.run import run_bench
from genie_gym.bench.timing import Timing, measure, time_methods
from genie_gym.bench.training import TRAINING_CLIP_LENGTH, list_jobs, time_training
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.serving import kernels

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "seconds": 0.01, "num_envs": (1, 3), "device_envs": (1, 2), "rows": (1, 2), "maskgit_steps": (1, 3),
    "widths": (32,), "layers": 1, "clips": 1, "matrix": 64,
}  # fmt: skip
TOP = {
    "matmul_tflops", "env_fps", "busy_env_fps", "env_split", "cached_fps", "uncached_fps", "cached_over_uncached",
    "cached_over_uncached_by_rows", "by_maskgit_steps", "by_kernels",
    "serving_share", "serving_share_of_fastest", "serving_share_by_envs", "step_gflop",
    "training_share", "training_fps", "training_fps_float32", "training_parameters",
    "labelling_fps", "peak_memory_mb", "gymnasium", "machine", "checkpoint", "maskgit_steps",
}  # fmt: skip


@pytest.fixture(scope="module")
def stages() -> list[str]:
    return []


@pytest.fixture(scope="module")
def results(tiny_checkpoint: Path, stages: list[str]) -> dict[str, Any]:
    return run_bench(BenchConfig(checkpoint=str(tiny_checkpoint), **SMALL), stages.append)


def numbers(values: Any) -> Iterator[float]:
    if isinstance(values, dict):
        for value in values.values():
            yield from numbers(value)
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield values


def test_every_key_is_there_with_positive_numbers(results: dict[str, Any], stages: list[str]) -> None:
    assert set(results) == TOP
    found = list(numbers(results))
    assert len(found) > 40
    assert all(0 < value < math.inf for value in found)
    assert json.loads(json.dumps(results)) == results
    assert "Genie-v0: 3" in stages


def test_a_machine_that_becomes_faster_gives_no_negative_rate(
    tiny_world: GenieWorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    durations = (Timing(2.0**-call, {}) for call in itertools.count())
    monkeypatch.setattr(worlds, "measure", lambda work, seconds, device: (work(), next(durations))[1])
    rates = [function(tiny_world, 1, 0.01) for function in (worlds.uncached_fps, worlds.cached_fps)]
    assert [*rates, worlds.labelling_fps(tiny_world, 0.01)] == [
        1,
        2,
        4 * worlds.LABELLED_CLIPS * worlds.LABELLED_FRAMES,
    ]


def test_a_busy_neighbour_computes_and_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args: started.append(start(*args)) or started[0])
    with contextlib.suppress(KeyError), busy_neighbour():
        assert started[0].poll() is None
        raise KeyError
    assert started[0].returncode is not None


def test_results_have_the_requested_keys(results: dict[str, Any], tiny_world: GenieWorldModel) -> None:
    assert (
        list(results["env_fps"])
        == list(results["busy_env_fps"])
        == list(results["env_split"])
        == list(results["serving_share_by_envs"])
    )
    assert list(results["env_fps"]) == ["alone", "1", "3"]
    assert list(results["cached_over_uncached_by_rows"]) == ["1", "2"]
    assert {passes: list(rows) for passes, rows in results["by_maskgit_steps"].items()} == {
        "1": ["1", "2"],
        "3": ["1", "2"],
    }
    assert all(list(by_rows) == ["1", "2"] for by_rows in results["by_kernels"].values())
    has_kernels = kernels.can_multiply(torch.float32)
    assert set(results["by_kernels"]) - {"no-tiles"} == ({"on", "off"} if has_kernels else {"off"})
    assert results["maskgit_steps"] == tiny_world.config.sampling.maskgit_steps
    assert set(results["matmul_tflops"]) == {"bfloat16", "float32"}
    widths = {model: list(by_width) for model, by_width in results["training_share"].items()}
    assert widths == {
        "dynamics": ["32"],
        "tokenizer": ["32"],
        "latent_action_model_st": ["32"],
        "latent_action_model_conv": ["32"],
    }
    assert results["machine"]["precision"] == "float32"
    assert results["peak_memory_mb"]["playing"] >= results["peak_memory_mb"]["loaded"]


def test_headline_figures_are_those_of_the_largest_batch(results: dict[str, Any]) -> None:
    gains = results["cached_over_uncached_by_rows"]
    assert results["cached_over_uncached"] == gains["2"]
    assert gains["1"] == results["cached_fps"]["1"] / results["uncached_fps"]["1"]
    assert results["serving_share"] == results["serving_share_by_envs"]["3"]


def test_parts_of_a_step_add_up(results: dict[str, Any]) -> None:
    for count, split in results["env_split"].items():
        rows = 1 if count == "alone" else int(count)
        assert set(split) == {"dynamics", "decode", "environment"}
        assert sum(split.values()) == pytest.approx(1e3 * rows / results["env_fps"][count])


def test_share_is_operations_over_the_matrix_rate(results: dict[str, Any]) -> None:
    for count, fps in results["env_fps"].items():
        share = fps * results["step_gflop"] / 1e3 / results["matmul_tflops"]["bfloat16"]
        assert results["serving_share_by_envs"][count] == pytest.approx(share)
    rates = results["matmul_tflops"]
    of_fastest = results["serving_share"] * rates["bfloat16"] / max(rates.values())
    assert results["serving_share_of_fastest"] == pytest.approx(of_fastest)


def test_timing_leaves_the_world_unchanged(tiny_world: GenieWorldModel) -> None:
    before = dict(vars(tiny_world)), dict(vars(tiny_world.tokenizer))
    time_environments(tiny_world, 2, 0.01)
    assert (vars(tiny_world), vars(tiny_world.tokenizer)) == before


class Worker:
    def work(self) -> str:
        return "done"

    def fail(self) -> None:
        raise RuntimeError("on purpose")


def test_timed_methods_are_restored_after_an_error() -> None:
    worker = Worker()
    worker.work = own = lambda: "own"  # type: ignore[method-assign]
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        time_methods({"a": (worker, "work"), "b": (worker, "fail")}, CPU),
    ):
        worker.fail()
    assert vars(worker) == {"work": own}


def test_timed_methods_still_work() -> None:
    worker = Worker()
    with time_methods({"work": (worker, "work")}, CPU) as spent:
        assert worker.work() == "done"
        first = spent["work"]
        assert first > 0
        worker.work()
        assert spent["work"] > first
    with pytest.raises(AttributeError), time_methods({"none": (worker, "none")}, CPU):
        pass
    assert vars(worker) == {}


def test_parts_of_a_timing_belong_to_its_calls() -> None:
    worker = Worker()
    with time_methods({"work": (worker, "work")}, CPU) as spent:
        timing = measure(worker.work, 0.01, CPU, spent)
    assert 0 < timing.parts["work"] <= timing.seconds


def test_training_counts_an_ordinary_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step is not counted: it initialises the codebook by k-means."""
    job = next(job for job in list_jobs((32,), 1) if job.model == "tokenizer")
    timings = iter((Timing(8.0, {}), Timing(2.0, {})))  # float32 first
    monkeypatch.setattr("genie_gym.bench.training.measure", lambda *_: next(timings))
    speed = time_training(job, BenchConfig(**SMALL), CPU)
    tokenizer, videos = VideoTokenizer(job.config), torch.rand(1, TRAINING_CLIP_LENGTH, 3, 64, 64)
    tokenizer.loss(videos).loss.backward()
    with FlopCounterMode(display=False) as counter:
        tokenizer.loss(videos).loss.backward()
    assert speed.tflops == pytest.approx(counter.get_total_flops() / 2 / 1e12)
    assert (speed.fps, speed.fps_float32) == (TRAINING_CLIP_LENGTH / 2, TRAINING_CLIP_LENGTH / 8)
    assert speed.parameters == sum(parameter.numel() for parameter in tokenizer.parameters())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", 0.0),
        ("seconds", math.nan),
        ("seconds", math.inf),
        ("num_envs", ()),
        ("num_envs", (4, 0)),
        ("rows", (-1,)),
        ("maskgit_steps", (0,)),
        ("widths", (33,)),
        ("widths", (0,)),
        ("layers", 0),
        ("clips", 0),
        ("matrix", 0),
    ],
)
def test_bad_settings_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field) as error:
        BenchConfig(**{field: value})
    assert repr(value) in str(error.value)


def test_an_unknown_checkpoint_or_device_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="no-such-world"):
        run_bench(BenchConfig(checkpoint="no-such-world"))
    with pytest.raises(ValueError, match=r"device.*abacus"):
        run_bench(BenchConfig(checkpoint=str(tiny_checkpoint), device="abacus"))


def test_the_command_writes_what_it_prints(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genie_gym.bench.run.run_bench", lambda config, report: {**results, "asked": config.rows})
    path = tmp_path / "new" / "bench.json"
    monkeypatch.setattr(sys, "argv", ["bin/genie-gym", "bench", "--rows", "1", "7", "--json", str(path)])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    cli.main()
    written = json.loads(path.read_text())
    assert written["command"] == f"genie-gym bench --rows 1 7 --json {path}"
    assert written["asked"] == [1, 7]
    assert {"commit", *TOP} < set(written)
    printed = capsys.readouterr().out
    assert "latent_action_model_conv" in printed
    assert f"{results['labelling_fps']:.0f}" in printed
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]


def test_the_command_refuses_a_bad_file_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genie_gym.bench.run.run_bench", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "bench.json"):
        monkeypatch.setattr(sys, "argv", ["genie-gym", "bench", "--json", str(path)])
        with pytest.raises(SystemExit) as error:
            cli.main()
        assert error.value.code == 2
        assert str(path) in capsys.readouterr().err


def test_a_bad_setting_ends_the_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "bench", "--num-envs", "4", "0"])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    assert capsys.readouterr().err == "genie-gym: num_envs must be one or more positive integers, got (4, 0)\n"


def test_environments_on_a_device_that_cannot_be_timed(tiny_world: GenieWorldModel) -> None:
    assert 0 < torch_env_fps(tiny_world, 2, 0.01) < math.inf


def test_compiled_training_that_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both transformers of a tokenizer are compiled, and only if asked; here by no compiler, which takes long."""
    compiled: list[bool] = []
    monkeypatch.setattr(SpatioTemporalTransformer, "compile", lambda self, dynamic: compiled.append(dynamic))
    job = next(job for job in list_jobs((32,), 1) if job.model == "tokenizer")
    for is_compiled in (False, True):
        assert time_training(job, BenchConfig(**SMALL), CPU, is_compiled).fps > 0
        assert compiled == [False, False] * is_compiled


def test_figures_of_a_gpu_that_are_not_printed(results: dict[str, Any]) -> None:
    rates = {"torch_env_fps": {"1024": 54321.5}, "torch_env_share": {"1024": 0.125}}
    rates |= dict.fromkeys(("training_compiled_fps", "training_compiled_share"), results["training_fps"])
    console = Console(record=True, width=200)
    print_results(console, {**results, **rates})
    text = console.export_text()
    assert "54321.5" in text
    assert "12.5%" in text
    assert "dynamics, compiled" in text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny_checkpoint: Path) -> None:
    results = run_bench(BenchConfig(checkpoint=str(tiny_checkpoint), device="cuda", **SMALL))
    assert set(results["peak_memory_mb"]) == {"loaded", "cuda_loaded", "playing", "cuda_playing"}
    assert set(results["torch_env_share"]) == {"1", "2"}
    assert set(results["training_compiled_share"]) == set(results["training_share"])
    assert all(0 < value < math.inf for value in numbers(results))
