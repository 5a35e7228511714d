"""The report of ``genie-gym doctor``: every line is there, and what is broken is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genie_gym import cli, doctor
from genie_gym.models.loading import digest_checkpoint
from genie_gym.serving import build, kernels

ROOT = Path(__file__).parents[1]
LINES = [
    "genie-gym", "versions", "system", "processor", "flags", "GPU", "threads", "settings", "load", "compiler", "cache",
    "checkpoint", "precision", "kernels", "tiles", "speed",
]  # fmt: skip


def examine(checkpoint: Path) -> dict[str, str]:
    """Return the lines of the report; those of several kernels are joined."""
    report: dict[str, str] = {}
    for name, value in doctor.examine(str(checkpoint), seconds=0.01):
        report[name] = f"{report[name]}\n{value}" if name in report else value
    return report


def test_every_line_is_there(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.25, 0.5))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    report = examine(tiny_checkpoint)
    assert list(report) == LINES
    assert all(report.values())
    assert f"torch {torch.__version__}" in report["versions"]
    assert report["threads"].startswith(f"{torch.get_num_threads()} of torch")
    assert "OMP_WAIT_POLICY=passive" in report["settings"]
    assert report["load"] == "0.00, 0.25, 0.50 in 1, 5, 15 minutes"
    assert digest_checkpoint(tiny_checkpoint) in report["checkpoint"]
    assert report["precision"].startswith("float32, as the checkpoint says; auto would choose ")
    assert "rows.cpp: " in report["kernels"]
    if kernels.can_multiply(torch.float32):
        assert "loaded, compiled" in report["kernels"]
    assert "ms a frame (dynamics " in report["speed"]


def test_every_flag_is_there_or_missing(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "processor_flags", lambda: frozenset({"avx2", "avx512_bf16", "sse"}))
    assert examine(tiny_checkpoint)["flags"] == "has avx2, avx512_bf16; lacks avx512f, avx512_fp16, amx_bf16"


@pytest.mark.parametrize(
    ("auto", "why"),
    [
        ("bfloat16", "the processor has avx512_bf16"),
        ("float32", "nothing shorter is faster and right on this machine"),
    ],
)
def test_the_choice_of_precision_is_explained(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, auto: str, why: str
) -> None:
    monkeypatch.setattr(doctor, "processor_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(doctor, "native_precision", lambda device: auto)
    wanted = f"float32, as the checkpoint says; auto would choose {auto}: {why}"
    assert examine(tiny_checkpoint)["precision"] == wanted


def test_a_busy_machine_is_named(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert "load 1000.0" in examine(tiny_checkpoint)["warning"]


def test_a_machine_without_load_averages(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg")
    report = examine(tiny_checkpoint)
    assert report["load"] == "unknown"
    assert "warning" not in report


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CXX": "no-such-compiler"}, ["compiler   no C++ compiler: no-such-compiler", "rows.cpp: no C++ compiler"]),
        ({"CXX": "false"}, ["false failed to compile rows.cpp"]),
        ({"XDG_CACHE_HOME": "{file}"}, ["rows.cpp: the folder of kernels {file}/genie-gym/kernels cannot be used"]),
        ({build.SWITCH: "off"}, ["GENIE_GYM_KERNELS=off", "rows.cpp: GENIE_GYM_KERNELS=off"]),
    ],
    ids=["no compiler", "compiler fails", "no cache", "off"],
)
def test_broken_kernels_are_reported_and_it_plays(
    tiny_checkpoint: Path, tmp_path: Path, environment: dict[str, str], words: list[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    settings = {"XDG_CACHE_HOME": str(tmp_path), **{key: text.format(file=file) for key, text in environment.items()}}
    command = [
        sys.executable,
        "-m",
        "genie_gym.cli",
        "doctor",
        "--checkpoint",
        str(tiny_checkpoint),
        "--seconds",
        "0.01",
    ]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=True, capture_output=True, text=True)
    for word in [*words, "tiles      none without kernels", "ms a frame"]:
        assert word.format(file=file) in done.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny_checkpoint: Path) -> None:
    report = dict(doctor.examine(str(tiny_checkpoint), "cuda", 0.01))
    assert torch.cuda.get_device_name() in report["GPU"]
    assert report["speed"].endswith("on cuda")


def test_long_reasons_are_cut_and_indented(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "OUTCOMES", {"other.cpp": "\n".join(map(str, range(100)))})
    cli.DoctorCommand(checkpoint=str(tiny_checkpoint), seconds=0.01).run()
    printed = capsys.readouterr().out
    assert "\nkernels    other.cpp: 0\n           1\n" in printed
    assert len(printed.splitlines()) < 40


@pytest.mark.parametrize(
    ("option", "value"), [("--checkpoint", "no-such-world"), ("--device", "abacus"), ("--seconds", "0")]
)
def test_a_bad_option_ends_the_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "doctor", option, value])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert option.removeprefix("--") in printed.err
    assert value in printed.err
    assert len(printed.err.splitlines()) == 1
