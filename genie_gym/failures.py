"""Failures of a command, told in one line; imports no torch."""

import contextlib
import errno
import signal
import sys
from collections.abc import Iterator
from typing import Any

import tyro

from genie_gym.checks import require_paths_on_disk
from genie_gym.extras import MissingExtraError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a disk, a quota and a file system that take no more."""


@contextlib.contextmanager
def tell_failures(program: str) -> Iterator[None]:
    """End the process with one line and an exit status if the block fails.

    The status is 2 for invalid values and missing packages, 1 for what the system refuses (files that cannot be
    written, a full disk) and for a loss that is not finite, 130 after Ctrl-C. Other errors are faults of the program,
    and keep their traceback.

    Args:
        program: Name that the line begins with.
    """
    try:
        yield
    except (ValueError, MissingExtraError, OSError, FloatingPointError) as error:
        sys.stderr.write(f"{program}: {error}\n")
        is_asked = isinstance(error, ValueError | MissingExtraError) and not _is_full(error.__cause__)
        raise SystemExit(2 if is_asked else 1) from error
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        raise SystemExit(128 + signal.SIGINT) from None


def run_command(kind: Any) -> Any:
    """Return what ``run`` of a class returns, made from the command line by ``tyro``; failures are told in one line."""
    spec = sys.modules["__main__"].__spec__
    with tell_failures("agents" if spec is None else spec.name):
        command = tyro.cli(kind)
        require_paths_on_disk(command)
        return command.run()


def _is_full(cause: BaseException | None) -> bool:
    """Return whether a disk took no more, which an error of another kind may tell."""
    return isinstance(cause, OSError) and cause.errno in _FULL
