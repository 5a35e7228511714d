"""Commands that fail in one line, and by which exit status."""

import errno
import re
import sys
from pathlib import Path

import pytest

from genie_gym.failures import run_command, tell_failures

AGENTS = Path(__file__).parents[1] / "agents"


def fail_because(error: Exception, cause: Exception | None) -> None:
    raise error from cause


@pytest.mark.parametrize(
    ("error", "cause", "status"),
    [
        (ValueError("wrong"), None, 2),
        (ValueError("wrong"), OSError(errno.EACCES, "not allowed"), 2),
        (ValueError("full"), OSError(errno.ENOSPC, "no space"), 1),
        (ValueError("full"), OSError(errno.EDQUOT, "over quota"), 1),
        (OSError("cannot"), None, 1),
        (FloatingPointError("nan"), None, 1),
        (KeyboardInterrupt(), None, 130),
    ],
)
def test_a_failure_is_one_line_and_its_kind_the_status(
    error: Exception, cause: Exception | None, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, tell_failures("program"):
        fail_because(error, cause)
    assert ended.value.code == status
    assert capsys.readouterr().err == f"program: {error if str(error) else 'interrupted'}\n"


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(KeyError), tell_failures("program"):
        fail_because(KeyError("a fault of the program"), None)


def test_commands_of_the_agents_fail_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agents.demonstrations import Demonstrations

    mains = [path for path in AGENTS.glob("*.py") if "__main__" in path.read_text()]
    assert len(mains) > 10
    assert [path.name for path in mains if not re.search(r"run_command\(\w+\)", path.read_text())] == []
    monkeypatch.setattr(sys, "argv", ["demonstrations", "--out", "/dev/null/x"])
    with pytest.raises(SystemExit) as ended:
        run_command(Demonstrations)
    assert ended.value.code == 2
    assert "/dev/null/x/oracle cannot be written" in capsys.readouterr().err


def test_commands_of_the_agents_refuse_an_address_in_the_place_of_a_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from agents.demonstrations import Demonstrations

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demonstrations", "--out", "hf://me/world"])
    with pytest.raises(SystemExit) as ended:
        run_command(Demonstrations)
    assert ended.value.code == 2
    assert ": out must be on disk; genie-gym push uploads" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
