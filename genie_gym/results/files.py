"""Results as JSON, with all that is needed to get them again."""

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

from genie_gym.models.loading import digest_checkpoint

ROOT = Path(__file__).parents[2]
"""Of the checkout, where the package is in one."""


@functools.cache
def current_commit() -> str | None:
    """The commit checked out when this process first asked, with ``+`` where Python files differ.

    None where the package is in no checkout.
    """
    if shutil.which("git") is None or _git("ls-files", "--error-unmatch", "genie_gym/__init__.py").returncode:
        return None
    commit, changed = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "--", "*.py")
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def current_command() -> str:
    """How this process was started, for a shell at the checkout's root."""
    module = sys.modules["__main__"].__spec__
    program = [Path(sys.argv[0]).name] if module is None else ["python", "-m", module.name]
    return shlex.join([*program, *sys.argv[1:]])


def require_writable(path: Path) -> None:
    """Make the folder of a file of results, so that a long run does not end without a place for them.

    Also keeps in mind which commit the run began with.

    Raises:
        ValueError: If no file can be written there.
    """
    current_commit()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"json {str(path)!r} cannot be written: {error}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"json must be a file that can be written, got {str(path)!r}")


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write ``results`` with command, commit and the world that ships beside the old file, then in its place.

    Numbers that are not finite (the PSNR of moving pixels where nothing moves) become null: JSON has no word for them.
    """
    require_writable(path)
    about = {"command": current_command(), "commit": current_commit(), "shipped": digest_checkpoint()}
    whole = {**about, **results}
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(_finite(whole), indent=1, allow_nan=False) + "\n")
    os.replace(beside, path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
