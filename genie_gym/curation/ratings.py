"""Ratings of clips by hand, 1 (bad) to 5 (good), in a JSON file that is written after each."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from genie_gym.checks import is_integer, require
from genie_gym.curation.config import LEAST, MOST
from genie_gym.data.config import require_rate
from genie_gym.data.manifest import Span
from genie_gym.system import replace_file

_FORMAT = "genie-gym ratings"


class Rating(NamedTuple):
    """A rating of a clip."""

    path: Path
    """Path of the video."""
    span: Span
    """First frame of the clip, and the frame after its last."""
    rating: int
    """Rating from 1 (bad) to 5 (good)."""


class Ratings:
    """The ratings of a file, in the order in which they were given; a file that is missing has none.

    Args:
        path: JSON file; paths of videos in it are relative to its folder.
        fps: Frames per second at which the frames of clips are counted, or None for frames as they are in the files.
            A file that exists has a rate already.

    Attributes:
        given: The ratings.
        fps: As above.

    Raises:
        ValueError: If the file is damaged, holds something else, or rates a clip twice and differently.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path, self.fps = path, fps
        self.given: list[Rating] = self._read() if path.exists() else []
        self._rated = {(each.path.resolve(), each.span) for each in self.given}

    def add(self, rating: Rating) -> None:
        """Add a rating and write the file; ``ValueError`` if the clip is rated already or the rating is no rating."""
        _require_rating("rating", rating.rating)
        if self.is_rated(rating.path, rating.span):
            raise ValueError(f"clip {rating.span} of {rating.path} is rated already")
        self.given.append(rating)
        self._rated.add((rating.path.resolve(), rating.span))
        self._write()

    def undo(self) -> Rating | None:
        """Take the last rating back, write the file, and return the rating; None if there is none."""
        if not self.given:
            return None
        last = self.given.pop()
        self._rated.remove((last.path.resolve(), last.span))
        self._write()
        return last

    def is_rated(self, path: Path, span: Span) -> bool:
        """Return whether a clip is rated."""
        return (path.resolve(), span) in self._rated

    def _read(self) -> list[Rating]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"ratings {self.path}: cannot be read as JSON ({error})") from error
        is_ours = isinstance(found, dict) and found.get("format") == _FORMAT and isinstance(found.get("ratings"), list)
        require(is_ours, f"ratings {self.path}", found, f"an object of the format {_FORMAT!r} with ratings")
        self.fps = found.get("fps")
        require_rate(f"ratings {self.path}: fps", self.fps)
        given: dict[tuple[Path, Span], Rating] = {}
        for number, values in enumerate(found["ratings"], start=1):
            rating = self._build(number, values)
            before = given.setdefault((rating.path.resolve(), rating.span), rating)
            if before.rating != rating.rating:
                clip, both = f"clip {rating.span} of {rating.path}", f"{before.rating} and {rating.rating}"
                raise ValueError(f"{self.path}: {clip} is rated {both}: remove one of them")
        return list(given.values())

    def _build(self, number: int, values: Any) -> Rating:
        where = f"{self.path}: rating {number}"
        is_whole = isinstance(values, dict) and set(values) == {"path", "clip", "rating"}
        require(is_whole and isinstance(values["path"], str), where, values, "an object of path, clip and rating")
        clip = values["clip"]
        is_span = isinstance(clip, list) and len(clip) == 2 and all(is_integer(each, 0) for each in clip)
        require(is_span and clip[0] < clip[1], f"{where}: clip", clip, "[first frame, frame after the last]")
        _require_rating(where, values["rating"])
        return Rating(self.path.parent / values["path"], (clip[0], clip[1]), values["rating"])

    def _write(self) -> None:
        folder = self.path.parent
        rows = [
            {"path": Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix(), "clip": span, "rating": rating}
            for path, span, rating in self.given
        ]
        text = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        head = f'{{"format": "{_FORMAT}", "fps": {json.dumps(self.fps)}, "ratings": [\n'
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replace_file(self.path) as temporary:
                temporary.write_text(head + text + "\n]}\n", encoding="utf-8")
        except OSError as error:
            raise ValueError(f"ratings {self.path}: cannot be written ({error})") from error


def _require_rating(field: str, rating: Any) -> None:
    require(is_integer(rating, LEAST, MOST + 1), field, rating, f"a whole number from {LEAST} to {MOST}")
