"""Errors about optional packages that name the extra of this project to install."""

import contextlib
from collections.abc import Iterator


class MissingExtraError(ImportError):
    """A package is missing; the message names its purpose and the command that installs it."""


@contextlib.contextmanager
def need_extra(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import in the block into an error that names the extra to install.

    Args:
        extra: Extra of this project that installs the imported package.
        purpose: Sentence without its full stop, such as "Recording games needs Procgen".

    Raises:
        MissingExtraError: If an import fails.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{purpose}: pip install 'genie-gym[{extra}]'") from error
