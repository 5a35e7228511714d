"""Commands that start from a preset: every value of it is an option, such as ``--world.height 90``."""

import contextlib
import dataclasses
import io
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar, cast

import tyro

from genie_gym.configs import Preset
from genie_gym.presets import find_preset

Command = TypeVar("Command")
PresetName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
"""The positional argument PRESET of a command."""
PresetValues = Annotated[Preset, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands]
"""The preset's values as options without a prefix; the latent action model keeps the preset's backbone."""


def parse_with_preset(command: type[Command], arguments: Sequence[str], name: str) -> Command:
    """Parse a command whose field ``config`` has the values of the preset that the first argument names.

    Args:
        command: Dataclass with the fields ``preset``, a ``PresetName``, and ``config``, ``PresetValues``.
        arguments: Arguments of the command; PRESET may stand anywhere, and ``--preset NAME``, the former spelling, is
            read too.
        name: Name of the command in its help.

    Raises:
        ValueError: If there is no such preset, or the values do not fit together.
    """
    left = [part for each in arguments for part in (each.split("=", 1) if each.startswith("--preset=") else [each])]
    if "--preset" in left[:-1]:
        place = left.index("--preset")
        left = [left[place + 1], *left[:place], *left[place + 2 :]]
    fields: list[dataclasses.Field[Any]] = list(dataclasses.fields(command))  # type: ignore[arg-type]
    without = (dataclasses.MISSING, dataclasses.MISSING)
    given: dict[str, Any] = {
        each.name: tyro.MISSING for each in fields if (each.default, each.default_factory) == without
    }
    given |= {each.name: each.default for each in fields if each.name == "preset"}
    if left and not left[0].startswith("-"):
        given["preset"] = left[0]
    default = command(**given | {"config": find_preset(given["preset"])})
    parsed: Any = tyro.cli(command, args=left, default=default, prog=name)
    if parsed.preset != given["preset"]:  # it stands behind other options, which were read for the default preset
        place = len(left) - 1 - left[::-1].index(parsed.preset)
        return parse_with_preset(command, [parsed.preset, *left[:place], *left[place + 1 :]], name)
    return cast(Command, parsed)


@contextlib.contextmanager
def plain_rules() -> Iterator[None]:
    """Raise the ValueError of a config's rule that tyro met while it built the config, in place of tyro's box.

    What tyro says of arguments that it cannot read is printed as it is.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as end:
        broken = _find_broken_rule(end)
        if broken is None:
            raise
        said.truncate(0)
        raise broken from None
    finally:
        sys.stderr.write(said.getvalue())


def _find_broken_rule(end: SystemExit) -> ValueError | None:
    """Return the error of a ``__post_init__`` that led to this end; None if there is none."""
    cause = end.__context__
    while cause is not None:
        functions = [frame.f_code.co_name for frame, _ in traceback.walk_tb(cause.__traceback__)]
        if isinstance(cause, ValueError) and "__post_init__" in functions:
            return cause
        cause = cause.__context__
    return None
