"""JSON files of results, with the command and the commit that reproduce them."""

import datetime as dt
import functools
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from genie_gym.checks import require_on_disk
from genie_gym.models.loading import digest_checkpoint
from genie_gym.system import replace_file

ROOT = Path(__file__).parents[2]
"""Root of the checkout, if the package is in one."""


@functools.cache
def current_commit() -> str | None:
    """Return the short commit hash, with ``+`` appended if Python files have changed, or None outside a checkout.

    The first call decides: a commit made during a long run does not change the answer.
    """
    if shutil.which("git") is None or _git("ls-files", "--error-unmatch", "genie_gym/__init__.py").returncode:
        return None
    commit, changed = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "--", "*.py")
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def current_command() -> str:
    """Return the shell command that started this process, to be run in the root of the checkout."""
    module = sys.modules["__main__"].__spec__
    program = [Path(sys.argv[0]).name] if module is None else ["python", "-m", module.name]
    return shlex.join([*program, *sys.argv[1:]])


def require_writable(path: Path) -> None:
    """Make the folder of a results file and check that the file can be written, before a long run starts.

    Raises:
        ValueError: If the file cannot be written.
    """
    require_on_disk("file", path)
    current_commit()  # cached: the results belong to the commit at the start of the run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"file {str(path)!r} cannot be written: {error}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{str(path)!r} must be a file that can be written")


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write ``results`` with the command, the commit and the shipped checkpoint's digest; replaces the file atomically.

    JSON has no NaN or infinity, so such numbers (the PSNR of moving pixels in a still clip) become null.
    """
    require_writable(path)
    _write(path, {**_origin(), **results})


def read_results(path: Path) -> dict[str, Any]:
    """Return the contents of a results file.

    Raises:
        ValueError: Naming the file, if it cannot be read or is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} must be a JSON object of results, got another file; move it away")
    return found


def write_by_machine(path: Path, results: dict[str, Any]) -> None:
    """Write ``results`` as the row of this kind of machine, and keep the rows of other kinds.

    The file has ``rows``, each like a file of ``write_results`` with its ``date``; the kind is ``machine.kind``.

    Raises:
        ValueError: If there is a file without such rows, or it cannot be written.
    """
    require_writable(path)
    date = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    row = {"date": date, **_origin(), **results}
    others = [each for each in read_machines(path) if each["machine"]["kind"] != row["machine"]["kind"]]
    _write(path, {"rows": [*others, row]})


def read_machines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of ``write_by_machine``, the newest last; none if there is no file.

    Raises:
        ValueError: If the file has no rows of kinds of machines.
    """
    rows = read_results(path).get("rows") if path.exists() else []
    if not isinstance(rows, list) or not all(map(_has_machine, rows)):
        raise ValueError(f"{str(path)!r} must hold a row for each kind of machine, got other results; move it away")
    return sorted(rows, key=lambda row: row["date"])


def _has_machine(row: Any) -> bool:
    machine = row.get("machine") if isinstance(row, dict) else None
    return isinstance(machine, dict) and "kind" in machine and isinstance(row.get("date"), str)


def _origin() -> dict[str, Any]:
    return {"command": current_command(), "commit": current_commit(), "shipped": digest_checkpoint()}


def _write(path: Path, content: dict[str, Any]) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # Without --no-optional-locks, git status writes the index, and killed or on a full disk leaves it locked.
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
