"""The results of ``genie-gym bench`` and the files it writes; no speed is asserted."""

import contextlib
import copy
import functools
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from genie_gym import cli
from genie_gym.bench import machine, parts, timing, worlds
from genie_gym.bench.config import BenchConfig
from genie_gym.bench.environments import busy_neighbour, time_environments, torch_env_fps
from genie_gym.bench.report import print_results
from genie_gym.bench.run import run_bench
from genie_gym.bench.timing import Contender, Timing, compare, measure, time_methods
from genie_gym.bench.training import TRAINING_CLIP_LENGTH, list_jobs, time_training
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.serving import kernels, prepare

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "seconds": 0.01, "num_envs": (1, 3), "device_envs": (1, 2), "profiled": (1, 3), "rows": (1, 2),
    "maskgit_steps": (1, 3),
    "widths": (32,), "layers": 1, "clips": 1, "matrix": 64,
}  # fmt: skip
TOP = {
    "matmul_tflops", "environments", "parts", "encode_ms", "part_gflop", "cached_fps", "uncached_fps",
    "cached_over_uncached", "by_maskgit_steps", "engines", "step_gflop",
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


def test_what_is_compared_runs_in_turn_within_its_context() -> None:
    """A machine that slows down meanwhile must not make the second one of two look slower than the first."""
    calls: list[str] = []

    @contextlib.contextmanager
    def around(name: str) -> Iterator[None]:
        calls.append(f"begin {name}")
        yield
        calls.append(f"end {name}")

    works = {name: Contender(functools.partial(calls.append, name), lambda name=name: around(name)) for name in "ab"}
    timings = compare(works, 1e-9, CPU)
    first, second = (["begin {0}", "{0}", "{0}", "end {0}"], ["a", "b", "b", "a", "a", "b"])
    assert calls == [line.format(name) for name in second for line in first]
    assert list(timings) == ["a", "b"]


def test_the_median_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([5.0, 1.0, 2.0])
    monkeypatch.setattr(timing, "_time_run", lambda *_: Timing(next(seconds), {}))
    assert measure(lambda: None, 0.0, CPU).seconds == 2


def test_the_processors_time_of_a_call_is_not_the_clocks() -> None:
    timed = measure(lambda: time.sleep(0.05), 0.1, CPU)
    assert timed.seconds >= 0.05
    assert timed.processor < timed.seconds


def test_a_busy_neighbour_computes_and_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args: started.append(start(*args)) or started[0])
    with contextlib.suppress(KeyError), busy_neighbour():
        assert started[0].poll() is None
        raise KeyError
    assert started[0].returncode is not None


def test_results_have_the_requested_keys(results: dict[str, Any], tiny_world: GenieWorldModel) -> None:
    assert list(results["environments"]) == ["alone", "1", "3"]
    assert list(results["parts"]) == list(results["encode_ms"]) == ["1", "3"]
    assert list(results["cached_over_uncached"]) == list(results["engines"]) == ["1", "2"]
    assert {passes: list(rows) for passes, rows in results["by_maskgit_steps"].items()} == {
        "1": ["1", "2"],
        "3": ["1", "2"],
    }
    has_kernels = kernels.can_multiply(torch.float32)
    for engines in results["engines"].values():
        plain = {f"PyTorch, {precision}" for precision in ("bfloat16", "float32")}
        packed = {f"kernels, {precision}" for precision in ("bfloat16", "float32")} if has_kernels else set()
        assert set(engines["by_engine"]) - {"kernels without tiles, bfloat16"} == plain | packed
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


def test_the_gain_of_the_cache_is_that_of_the_same_rounds(results: dict[str, Any]) -> None:
    gains = results["cached_over_uncached"]
    assert gains["1"] == results["cached_fps"]["1"] / results["uncached_fps"]["1"]


def test_share_is_operations_over_the_matrix_rate_of_the_same_rounds(results: dict[str, Any]) -> None:
    assert results["step_gflop"] == pytest.approx(sum(results["part_gflop"].values()))
    for row in results["environments"].values():
        assert row["share"] == pytest.approx(row["fps"] * results["step_gflop"] / 1e3 / row["matmul_tflops"])


def test_parts_of_a_frame_add_up_to_it(tiny_world: GenieWorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that contain others are subtracted, not counted twice."""
    whole: list[float] = []

    def keep(*args: Any) -> Timing:
        timed = measure(*args)
        whole.append(timed.seconds)
        return timed

    monkeypatch.setattr(parts, "measure", keep)
    own = prepare(copy.deepcopy(tiny_world), "float32")
    spent = parts.time_parts(own, 3, 0.05)
    lacking = {"film"} if kernels.can_multiply(torch.float32) else {"film", *parts.LAPS}
    assert list(spent) == [name for name in parts.PLAYED_PARTS if name not in lacking]
    assert sum(spent.values()) == pytest.approx(1e3 * whole[0] / 3)
    assert min(spent.values()) >= 0
    assert all(spent[part] > 0 for part in ("embed", "logits", "draws", "decode", "environment"))
    if kernels.can_multiply(torch.float32):
        assert all(spent[part] > 0 for part in ("norms", "products", "attention in space", "attention in time"))


def test_only_the_bench_loads_the_library_with_clocks(tiny_world: GenieWorldModel) -> None:
    if not kernels.can_multiply(torch.float32):
        pytest.skip("no kernels here")
    own = prepare(copy.deepcopy(tiny_world), "float32")
    parts.time_parts(own, 1, 0.01)
    worlds.stepping(own, 1)()
    library = own.dynamics.transformer.step_kernel.library  # type: ignore[union-attr]
    assert not hasattr(library, "genie_take_laps")


def test_a_decoder_with_a_kernel_of_its_own_is_no_part_of_the_transformer(tiny_world: GenieWorldModel) -> None:
    if not kernels.can_multiply(torch.float32):
        pytest.skip("no kernels here")
    spent: dict[str, float] = {}
    own = prepare(copy.deepcopy(tiny_world), "float32")
    tokens = torch.zeros(1, 1, own.config.tokens_per_frame, dtype=torch.int64)
    with torch.no_grad(), parts._profiling(own) as timed, parts._adding_laps(timed, spent):
        timed.tokenizer.decode_next(tokens, timed.tokenizer.empty_cache(1))
        assert timed.tokenizer.decoder.step_kernel is not None
        assert set(spent.values()) == {0.0}
        worlds.stepping(timed, 1)()
        assert spent["calls"] > 0


def test_the_parts_of_a_frame_equal_its_frames(tiny_world: GenieWorldModel) -> None:
    """Clocks must not change what is computed."""
    own = prepare(copy.deepcopy(tiny_world), "float32")
    videos, actions = torch.rand(2, 2, 3, own.config.height, own.config.width), torch.tensor([[0, 1], [1, 0]])
    plain = own.rollout(videos, actions)
    with parts._profiling(own) as timed:
        assert timed.rollout(videos, actions).equal(plain)


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
        timed = measure(worker.work, 0.01, CPU, spent)
    assert 0 < timed.parts["work"] <= timed.seconds


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
        ("profiled", (0,)),
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
    written = json.loads(path.read_text())["rows"][0]
    assert written["command"] == f"genie-gym bench --rows 1 7 --json {path}"
    assert written["asked"] == [1, 7]
    assert {"commit", "date", *TOP} < set(written)
    printed = capsys.readouterr().out
    assert "latent_action_model_conv" in printed
    assert "attention in time" in printed
    assert f"{results['labelling_fps']:.0f}" in printed
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]


def test_the_command_refuses_a_bad_file_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genie_gym.bench.run.run_bench", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    (tmp_path / "other.json").write_text('{"env_fps": {}}')
    for path in (tmp_path, tmp_path / "file" / "bench.json", tmp_path / "other.json"):
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


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"avx2", "avx512f", "avx512_bf16", "amx_bf16"}, "AMX"),
        ({"avx2", "avx512f", "avx512_bf16"}, "AVX512-BF16"),
        ({"avx2", "avx512f"}, "AVX-512"),
        ({"avx2"}, "AVX2"),
        (set(), "no AVX2"),
    ],
)
def test_machines_of_different_instructions_are_different_kinds(
    flags: set[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(machine, "describe_processor", lambda: {"model name": "Abacus"})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert machine.describe_machine(CPU)["kind"] == f"Abacus, {name}, 2 threads"


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
