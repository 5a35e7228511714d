"""Keyword rules over the titles and descriptions that yt-dlp writes beside videos (Genie, appendix B)."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genie_gym.checks import require
from genie_gym.data.manifest import Chosen
from genie_gym.data.sources import find_chosen
from genie_gym.foreign import read_json

logger = logging.getLogger(__name__)

SIDECAR_SUFFIX = ".info.json"
"""Suffix of the file beside a video that yt-dlp writes with ``--write-info-json``."""
_FIELDS = ("title", "description", "tags")
_SIDECAR_BYTES = 1 << 28
"""Largest size of a sidecar, which may hold all comments."""


class Rule(NamedTuple):
    """A rule about the words in some fields of a sidecar. All rules must hold."""

    fields: tuple[str, ...]
    """Fields to search: ``title``, ``description`` or ``tags``."""
    include: tuple[str, ...] = ()
    """Words of which at least one must occur; none if any text will do."""
    exclude: tuple[str, ...] = ()
    """Words of which none may occur."""


PAPER_RULES = (
    Rule(("title",), include=("platformer*", "platform game*", "2d platform*", "side scroller", "sidescroller")),
    Rule(("title", "description"), include=("speedrun*", "playthrough*")),
    Rule(("title",), exclude=("movie*", "unboxing*")),
)
"""The paper's rules. It names the words of the second and third; those of the first are examples."""


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read rules from a JSON list of objects with ``fields``, ``include`` and ``exclude``.

    Raises:
        ValueError: Naming the rule and the value, if it cannot be read or a rule is invalid.
    """
    try:
        found = read_json(path)
    except ValueError as error:
        raise ValueError(f"rules {path}: cannot be read as JSON ({error})") from error
    require(isinstance(found, list) and bool(found), f"rules {path}", found, "a list of one rule or more")
    return tuple(_build_rule(f"{path}: rule {number}", values) for number, values in enumerate(found, start=1))


def _build_rule(where: str, values: Any) -> Rule:
    require(isinstance(values, dict), where, values, f"an object with {', '.join(Rule._fields)}")
    unknown = sorted(set(values) - set(Rule._fields))
    require(not unknown, where, unknown, f"made of {', '.join(Rule._fields)}")
    for field, words in values.items():
        is_words = isinstance(words, list) and all(isinstance(word, str) and word.strip(" *") for word in words)
        require(is_words, f"{where}: {field}", words, "a list of words")
    rule = Rule(**{field: tuple(words) for field, words in {"fields": [], **values}.items()})
    fits = bool(rule.fields) and set(rule.fields) <= set(_FIELDS)
    require(fits, f"{where}: fields", rule.fields, f"one or more of {', '.join(_FIELDS)}")
    require(bool(rule.include or rule.exclude), where, values, "a rule that includes or excludes words")
    return rule


def judge(sidecar: dict[str, Any], rules: Sequence[Rule]) -> str | None:
    """Return why the rules refuse a video, or None if they keep it.

    A word matches whole words, in any case; ``speedrun*`` also matches what begins so. Spaces match any gap, hyphens
    too. A field that is missing has no words.
    """
    for rule in rules:
        text = "\n".join(_read_field(sidecar.get(field)) for field in rule.fields)
        where = " and ".join(rule.fields) if rule.exclude else " or ".join(rule.fields)
        for word in rule.exclude:
            if _occurs(word, text):
                return f"{where} must not have {word!r}"
        if rule.include and not any(_occurs(word, text) for word in rule.include):
            return f"{where} must have one of {', '.join(rule.include)}"
    return None


def _read_field(value: Any) -> str:
    return "\n".join(str(each) for each in value) if isinstance(value, list) else str(value or "")


def _occurs(word: str, text: str) -> bool:
    stem = word.strip().rstrip("*")
    parts = r"[\s\-_]+".join(re.escape(part) for part in re.split(r"[\s\-_]+", stem.casefold()))
    end = "" if word.strip().endswith("*") else r"(?!\w)"
    return re.search(rf"(?<!\w){parts}{end}", text.casefold()) is not None


def read_sidecar(video: Path) -> dict[str, Any] | None:
    """Return what ``NAME.info.json`` beside ``NAME.mp4`` says, or None if there is none.

    Raises:
        ValueError: Naming the file, if it cannot be read as a JSON object.
    """
    path = video.with_name(video.stem + SIDECAR_SUFFIX)
    if not path.is_file():
        return None
    try:
        found = read_json(path, _SIDECAR_BYTES)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must hold a JSON object, got {type(found).__name__}")
    return found


def filter_videos(paths: Iterable[Path], rules: Sequence[Rule]) -> tuple[list[Chosen], Counter[str]]:
    """Return the videos of folders or files that the rules keep, and how many were dropped for each reason.

    A video whose sidecar is missing or damaged is dropped; a warning names each damaged one.
    """
    kept, dropped = [], Counter[str]()
    for chosen in find_chosen(list(paths)):
        try:
            sidecar = read_sidecar(chosen.path)
        except ValueError as error:
            logger.warning("%s is dropped: %s", chosen.path, error)
            dropped[f"damaged *{SIDECAR_SUFFIX}"] += 1
            continue
        reason = f"no *{SIDECAR_SUFFIX}" if sidecar is None else judge(sidecar, rules)
        if reason is None:
            kept.append(chosen)
        else:
            dropped[reason] += 1
    return kept, dropped
