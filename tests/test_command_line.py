"""A value that breaks a rule ends a command with one line and exit status 2; what tyro says is left as it is."""

import dataclasses
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import genie_gym
from genie_gym import cli
from genie_gym.cli import COMMANDS
from genie_gym.curation.commands import CurateCommand

PLAIN = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def fail(arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a command that has to end with exit status 2, and return the lines of its standard error."""
    monkeypatch.setattr(sys, "argv", ["genie-gym", *arguments.split()])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("plan tiny --gpus 0", "Machine.gpus must be positive, got 0"),
        ("plan tiny --world.fps inf", "WorldConfig.fps must be a finite number or None, got inf"),
        ("plan --world.dynamics.fold 3", "DynamicsConfig.fold must be a divisor of the width 256, got 3"),
        ("train tiny --data a --out b --world.tokenizer.fold 0", "TokenizerConfig.fold must be positive, got 0"),
        ("record --out a --num-levels -1", "RecordConfig.num_levels must be 0 or more, got -1"),
        ("curate fit a --out b --batch-size 0", "ClassifierConfig.batch_size must be positive, got 0"),
        ("evaluate --starts 0", "starts must be 2 or more, got 0"),
    ],
)
def test_a_broken_rule_is_one_line(
    arguments: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(arguments, monkeypatch, capsys) == [f"genie-gym: {line}"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [("plan tiny --world.height 63.5", "--world.height"), ("plan tiny --world.fit x", "--world.fit")],
)
def test_arguments_that_cannot_be_read_are_explained_by_tyro(
    arguments: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = fail(arguments, monkeypatch, capsys)
    assert len(lines) > 1
    assert any(named in line for line in lines)


ADDRESS = "hf://me/world"
ADDRESSED = [
    f"bench --json {ADDRESS}",
    f"convert a --out {ADDRESS}",
    f"convert a {ADDRESS} --out b",
    f"convert-i3d --out {ADDRESS}",
    f"convert-i3d {ADDRESS}",
    f"checkpoints {ADDRESS}",
    f"curate filter a --out {ADDRESS}",
    f"curate filter {ADDRESS} --out b",
    f"curate filter a --out b --rules {ADDRESS}",
    f"curate fit {ADDRESS} --out b",
    f"curate fit a --out {ADDRESS}",
    f"curate rate a --ratings {ADDRESS}",
    f"curate rate {ADDRESS} --ratings b",
    f"curate select {ADDRESS} --classifier b --out c",
    f"curate select a --classifier {ADDRESS} --out c",
    f"curate select a --classifier b --out {ADDRESS}",
    f"demo --out {ADDRESS}",
    f"evaluate --data {ADDRESS}",
    f"evaluate --i3d {ADDRESS}",
    f"evaluate --json {ADDRESS}",
    f"evaluate --picture {ADDRESS}",
    f"export a --out {ADDRESS}",
    f"export {ADDRESS} --out b",
    f"label a --out {ADDRESS}",
    f"label {ADDRESS}",
    f"name-actions --picture {ADDRESS}",
    f"plan tiny --json {ADDRESS}",
    f"play --out {ADDRESS}",
    f"play --replay {ADDRESS}",
    f"prompt a --out {ADDRESS}",
    f"record --out {ADDRESS}",
    f"train tiny --data {ADDRESS} --out b",
    f"train tiny --data a --out {ADDRESS}",
    f"train tiny --data a --out b --start-data {ADDRESS}",
]
"""Commands with an address of the hub in the place of each path."""


def list_paths(hint: Any, name: str = "") -> set[str]:
    """Return the names of the fields of a type, at any depth, that are paths."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return set().union(*(list_paths(inner, field) for field, inner in hints.items()))
    inner = [list_paths(each, name) for each in typing.get_args(hint) if each is not Ellipsis]
    return set().union(*inner) | ({name} if hint is Path else set())


def list_steps(kind: Any) -> list[Any]:
    """Return a command, or those that it consists of."""
    if kind is not CurateCommand:
        return [kind]
    union = typing.get_args(typing.get_type_hints(kind, include_extras=True)["command"])[0]
    return [typing.get_args(each)[0] for each in typing.get_args(union)]


@pytest.mark.parametrize("arguments", ADDRESSED)
def test_an_address_of_the_hub_in_the_place_of_a_path_is_refused_at_once(
    arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = fail(arguments, monkeypatch, capsys)
    assert re.fullmatch(r"genie-gym: \w+ must be on disk; genie-gym push .*, got 'hf:/me/world'", line)
    before = arguments[: arguments.index(ADDRESS)].split()
    if before[-1].startswith("--"):
        assert line.startswith(f"genie-gym: {before[-1][2:].replace('-', '_')} must")
    assert list(tmp_path.iterdir()) == []


def test_every_path_of_every_command_is_tried_as_an_address() -> None:
    paths = sum(len(list_paths(inner)) for kind in COMMANDS.values() for inner in list_steps(kind))
    assert len(ADDRESSED) == len(set(ADDRESSED)) == paths


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["genie-gym", "--version"])
    cli.main()
    assert capsys.readouterr().out == f"genie-gym {genie_gym.__version__}\n"


@pytest.mark.parametrize(
    ("given", "meant"),
    [(command[:-1] + "x", command) for command in cli.COMMANDS if len(command) > 4] + [("trian", "train")],
)
def test_a_mistyped_command_gets_a_suggestion(
    given: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = fail(f"{given} --out a", monkeypatch, capsys)
    assert line.startswith(f"genie-gym: there is no command {given!r}; did you mean ")
    assert meant in line


def test_a_word_like_no_command_gets_all_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = fail("0000", monkeypatch, capsys)
    assert [command for command in cli.COMMANDS if command not in line] == []


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        ("play", "starlette", "play"),
        ("play", "uvicorn", "play"),
        ("play", "websockets", "play"),
        ("play --window", "pygame", "human"),
        ("record --frames 8 --out out/a", "procgen", "procgen"),
    ],
)
def test_a_missing_package_is_told_before_anything_else(
    arguments: str,
    package: str,
    extra: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No address, no list of keys and no progress bar is printed, and no folder is made, before the error."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    if arguments.startswith("play"):
        arguments += f" --checkpoint {tiny_checkpoint} --port 0 --out {tmp_path / 'out'}"
    monkeypatch.setattr(sys, "argv", ["genie-gym", *arguments.split()])
    with pytest.raises(SystemExit) as error:
        cli.main()
    said = capsys.readouterr()
    assert error.value.code == 2
    assert said.out == ""
    assert said.err.splitlines()[-1].endswith(f"pip install 'genie-gym[{extra}]'")
    assert [line for line in said.err.splitlines() if "frames" in line] == []
    assert not (tmp_path / "out" / "a").exists()


def test_the_module_for_sb3_names_its_extra() -> None:
    program = "import sys; sys.modules['stable_baselines3'] = None; import genie_gym.sb3"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=PLAIN)
    assert done.stderr.splitlines()[-1].endswith(
        "MissingExtraError: genie_gym.sb3 needs Stable-Baselines3: pip install 'genie-gym[sb3]'"
    )


def test_warnings_of_a_command_that_is_read_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "parse_with_preset", lambda *given: sys.exit(print("said before", file=sys.stderr)))
    monkeypatch.setattr(sys, "argv", ["genie-gym", "plan", "tiny"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "said before\n"
