"""Which latent action a key means: by its number, or by the way that its name says."""

from collections.abc import Collection, Sequence

ARROWS = {"w": "up", "s": "down", "a": "left", "d": "right", **{way: way for way in ("up", "down", "left", "right")}}
"""Key -> direction."""
STILL = "still"


class Keymap:
    """Keys held -> a latent action.

    A digit means that latent action, counted from 1. Arrows and WASD mean a direction, two of them a diagonal: the
    first action of that name (``name_actions`` puts the fastest first), or of the upward or downward part where the
    world has no diagonal of that name, or of the other part. No key means standing still, where an action has that
    name.

    Args:
        names: Of all latent actions, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._ways: dict[str, int] = {}
        for action in sorted(range(len(names)), key=lambda number: names[number]):
            self._ways.setdefault(names[action].rstrip("0123456789").strip(), action)

    def choose(self, held: Collection[str]) -> int | None:
        """The latent action, or None where the keys mean none: the picture should stand.

        Args:
            held: Names of keys: ``"up"``, ``"a"``, ``"3"``, ...
        """
        for key in held:
            if key.isdecimal() and 1 <= int(key) <= len(self.names):
                return int(key) - 1
        ways = {ARROWS[key] for key in held if key in ARROWS}
        rows, columns = ways & {"up", "down"}, ways & {"left", "right"}
        row = rows.pop() if len(rows) == 1 else ""
        column = columns.pop() if len(columns) == 1 else ""
        wanted = (f"{row} {column}".strip(), row, column) if row or column else (STILL,)
        return next((self._ways[way] for way in wanted if way and way in self._ways), None)
