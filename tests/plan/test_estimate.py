"""Plans: the paper's counts, what fits, and what is advised where nothing does."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from experiments.lib.readme_tables import read
from genie_gym import cli
from genie_gym.config_io import vary
from genie_gym.plan import estimate
from genie_gym.plan.config import Machine
from genie_gym.plan.estimate import PhasePlan, _divisors, make_plan
from genie_gym.presets import PRESETS

SMALL = vary(PRESETS["tiny"], {"world_training.batch_size": 16, "world.height": 128, "world.width": 128})


def plan_world(machine: Machine, **changes: object) -> PhasePlan:
    return make_plan(vary(SMALL, {path.replace("__", "."): value for path, value in changes.items()}), machine).phases[
        -1
    ]


def test_the_largest_preset_sees_the_papers_tokens() -> None:
    """The paper: 10.1 B weights of the dynamics, 942 B tokens in 125k steps of 512 clips of 16 frames."""
    row = next(row for row in read("plans")["rows"] if row["name"] == "platformers")
    phase = row["phases"][-1]
    assert (phase["clips"], phase["steps"]) == (512, 125_000)
    assert phase["tokens_a_step"] == 512 * 16 * 23 * 40
    assert phase["tokens_a_step"] * phase["steps"] == pytest.approx(942e9, rel=1e-3)
    assert row["parameters"]["dynamics"] == pytest.approx(10.1e9, rel=0.05)
    rule = 6 * row["parameters"]["dynamics"] * phase["tokens_a_step"]  # without attention
    assert rule < phase["operations_a_step"] < 1.15 * rule


@pytest.mark.parametrize("name", ["study", "coinrun", "videos"])
def test_the_table_of_presets_is_what_the_command_says(name: str) -> None:
    row = next(row for row in read("plans")["rows"] if row["name"] == name)
    plan = json.loads(json.dumps(make_plan(PRESETS[name], Machine(gpus=row["gpus"])).to_dict()))
    assert {key: row[key] for key in plan} == plan


def test_days_follow_from_operations_and_the_share_of_the_rate_reached() -> None:
    phase = plan_world(Machine(gpus=4, gpu_tflops=100, mfu=0.5))
    seconds = phase.operations_a_step * phase.steps / (4 * 100e12 * 0.5)
    assert phase.days == pytest.approx(seconds / 86_400)
    assert plan_world(Machine(gpus=8, gpu_tflops=100, mfu=0.25)).days == pytest.approx(phase.days, rel=1e-3)


def test_the_fastest_way_that_fits_is_chosen() -> None:
    """Memory shrinks step by step: fewer clips at once, blocks computed again, shards."""
    roomy = plan_world(Machine(gpus=2)).chosen
    assert (roomy.sharding, roomy.checkpoint_blocks, roomy.clips, roomy.accumulate) == ("ddp", False, 8, 1)
    tight = plan_world(Machine(gpus=2, gpu_memory=roomy.total / 1e9, reserve=0.1)).chosen
    assert tight.fits
    assert (tight.checkpoint_blocks, tight.clips, tight.accumulate) == (False, 4, 2)
    assert tight.total < roomy.total


def test_what_does_not_fit_is_said_and_what_would() -> None:
    nowhere = plan_world(Machine(gpus=2, gpu_memory=0.001))
    assert not nowhere.chosen.fits
    assert "shorter clips" in nowhere.hints[0]
    sizes = {"layers": 8, "width": 1024, "feed_forward_width": 1024}
    wide = {f"world__dynamics__transformer__{name}": value for name, value in sizes.items()}
    few = plan_world(Machine(gpus=1, gpu_memory=0.3), **wide)
    advice = few.hints[0]
    assert advice.startswith("does not fit: with fsdp and checkpoint_blocks it fits on ")
    enough = int(advice.split(" on ")[1].split()[0])
    assert plan_world(Machine(gpus=enough, gpu_memory=0.3), **wide).chosen.fits
    muon = plan_world(Machine(gpus=4, gpu_memory=0.3), world_training__optimizer__kind="muon", **wide)
    assert "muon cannot be sharded" in muon.hints[0]
    assert {way.sharding for way in muon.ways} == {"ddp"}


def test_gpus_that_do_not_divide_a_batch_stay_idle_and_are_named() -> None:
    phase = plan_world(Machine(gpus=12))
    assert phase.gpus == 8
    assert "uses 8 of 12 GPUs" in phase.hints[-1]


def test_values_that_no_fused_kernel_takes_are_named() -> None:
    odd = plan_world(Machine(), world__dynamics__transformer__value_dim=33)
    assert any("world.dynamics.transformer.value_dim of 33 takes more memory than 36" in hint for hint in odd.hints)
    even = plan_world(Machine(), world__dynamics__transformer__value_dim=36)
    assert not even.hints
    assert even.chosen.activations < odd.chosen.activations


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", *map(str, arguments)])
    cli.main()


def test_the_command_plans_other_values_and_keeps_the_plans_of_other_presets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plans.json"
    run(monkeypatch, "plan", "tiny", "--json", path)
    run(monkeypatch, "plan", "coinrun", "--world.height", 90, "--world.width", 160, "--gpus", 2, "--json", path)
    printed = capsys.readouterr().out
    assert "--world-training.sharding ddp --world-training.accumulate 1" in printed
    plans = json.loads(path.read_text())["presets"]
    assert set(plans) == {"tiny", "coinrun"}
    assert plans["coinrun"]["phases"][-1]["tokens_a_step"] == 8 * 16 * 24 * 40
    assert plans["coinrun"]["machine"] == dataclasses.asdict(Machine(gpus=2))


@pytest.mark.parametrize("content", ["", "[]", "3", "null", "{torn", '{"presets": []}', '{"rows": []}', "[" * 100_000])
def test_a_file_of_something_else_is_refused_before_the_plan_is_made(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plans.json"
    path.write_text(content)
    monkeypatch.setattr(estimate, "make_plan", lambda *given: pytest.fail("has begun"))
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "plan", "tiny", "--json", path)
    assert error.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert path.read_text() == content


@pytest.mark.parametrize("phase", ["tokenizer", "action", "world"])
@pytest.mark.timeout(300)
def test_the_largest_batch_is_planned_and_a_larger_one_named(phase: str) -> None:
    field = f"{phase}_training.batch_size"
    merged = vary(PRESETS["coinrun"], {"world.height": 32, "world.width": 32, field: 10**9})
    assert any(each.clips == 10**9 and each.chosen.fits for each in make_plan(merged, Machine()).phases)
    with pytest.raises(ValueError, match=rf"--{phase}-training\.batch-size must be at most 1,000,000,000, got 2000"):
        make_plan(vary(merged, {field: 2 * 10**9}), Machine())


def test_divisors_are_those_found_one_by_one() -> None:
    for number in range(1, 200):
        assert _divisors(number) == [each for each in range(1, number + 1) if number % each == 0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--gpus", 0), "Machine.gpus"),
        (("--mfu", 1.5), "Machine.mfu"),
        (("--gpu-memory", -1), "Machine.gpu_memory"),
        (("--gpu-memory", 1e300), "Machine.gpu_memory"),
        (("--reserve", 1), "Machine.reserve"),
    ],
)
def test_impossible_machines_are_refused(
    arguments: tuple[object, ...], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "plan", "tiny", *arguments)
    assert error.value.code == 2
    assert named in capsys.readouterr().err
