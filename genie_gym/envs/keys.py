"""Latent actions chosen with the keyboard: by number, or by the direction in the action's name."""

from collections.abc import Collection, Sequence

_KEY_DIRECTIONS = {"w": "up", "s": "down", "a": "left", "d": "right"}
_KEY_DIRECTIONS |= {way: way for way in _KEY_DIRECTIONS.values()}
_KEY_CODES = {"right": 0x4000004F, "left": 0x40000050, "down": 0x40000051, "up": 0x40000052}
"""Numbers of the arrow keys in SDL and pygame; other keys have the numbers of their letters."""
_SAME_NAMES = {"jump": "up", "stay": "still"}
"""Other words for the directions in an action's name."""
SETTLING_STEPS = 16
"""Number of steps that a waiting world still takes after the last key: about those in which a jump lands."""


class Keymap:
    """Maps the keys held down to a latent action.

    A digit chooses the latent action of that number, counted from 1. Arrows and WASD choose a direction, two of them a
    diagonal: the first action of that name, a number after it left out. If no action is named after the diagonal, its
    vertical part is used, or else its horizontal part. Without a direction, the action named ``still`` is chosen, if
    there is one. In names, ``jump`` means up and ``stay`` means still.

    Args:
        names: Names of all latent actions, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._actions: dict[str, int] = {}  # name without its number -> first action of that name
        for action in sorted(range(len(names)), key=lambda number: names[number]):
            words = names[action].rstrip("0123456789").split()
            self._actions.setdefault(" ".join(_SAME_NAMES.get(word, word) for word in words), action)

    def choose(self, held: Collection[str]) -> int | None:
        """Return the latent action, or None if the keys choose none and the world should wait.

        Args:
            held: Names of the keys held: ``"up"``, ``"a"``, ``"3"``, ...
        """
        for key in held:
            if key.isdecimal() and 1 <= int(key) <= len(self.names):
                return int(key) - 1
        directions = {_KEY_DIRECTIONS[key] for key in held if key in _KEY_DIRECTIONS}
        rows, columns = directions & {"up", "down"}, directions & {"left", "right"}
        row = rows.pop() if len(rows) == 1 else ""  # opposite directions cancel
        column = columns.pop() if len(columns) == 1 else ""
        wanted = (f"{row} {column}".strip(), row, column) if row or column else ("still",)
        return next((self._actions[name] for name in wanted if name and name in self._actions), None)

    def list_combinations(self) -> dict[tuple[int, ...], int]:
        """Return pygame's numbers of keys held together, in ascending order -> the latent action that they choose."""
        ways = [("up", "left", "down", "right"), ("w", "a", "s", "d")]
        held: list[tuple[str, ...]] = [(str(number + 1),) for number in range(min(9, len(self.names)))]
        for up, left, down, right in ways:
            held += [(key,) for key in (up, left, down, right)]
            held += [(row, column) for row in (up, down) for column in (left, right)]
        chosen = {tuple(sorted(_KEY_CODES.get(key) or ord(key) for key in keys)): self.choose(keys) for keys in held}
        return {keys: action for keys, action in chosen.items() if action is not None}
