"""A value that breaks a rule ends a command with one line and exit status 2; what tyro says is left as it is."""

import sys

import pytest

from genie_gym import cli


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


def test_warnings_of_a_command_that_is_read_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "parse_with_preset", lambda *given: sys.exit(print("said before", file=sys.stderr)))
    monkeypatch.setattr(sys, "argv", ["genie-gym", "plan", "tiny"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "said before\n"
