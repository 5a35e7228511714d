"""Packages that only some parts need, and that an extra brings."""

import contextlib
from collections.abc import Iterator


class MissingExtraError(ImportError):
    """A package is missing; the message says what for and what to install."""


@contextlib.contextmanager
def need_extra(extra: str, purpose: str) -> Iterator[None]:
    """Around imports.

    Args:
        extra: Of this project, that brings what is imported.
        purpose: Sentence without its end, such as "Recording games needs Procgen".

    Raises:
        MissingExtraError: If an import fails.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{purpose}: pip install 'genie-gym[{extra}]'") from error
