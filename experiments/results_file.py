"""Results as JSON, with all that is needed to get them again."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def current_commit() -> str:
    """The commit checked out, with ``+`` where files of the package or the experiments differ from it."""
    run = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*run, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run([*run, "status", "--porcelain", "--", "*.py"], capture_output=True, text=True, check=True)
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write ``results`` with the command and commit beside the old file, then in its place."""
    command = shlex.join(["python", "-m", _module(), *sys.argv[1:]])
    whole = {"command": command, "commit": current_commit(), **results}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(whole, indent=1) + "\n")
    os.replace(beside, path)


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return sys.argv[0] if spec is None else spec.name
