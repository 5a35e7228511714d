"""The latent actions that keys mean."""

import pytest

from genie_gym.play.keys import Keymap

NAMES = ("right 2", "still", "up", "right 1", "left", "up right", "still 2", "down")


@pytest.mark.parametrize(
    ("held", "action"),
    [
        ((), 1),
        (("right",), 3),
        (("d",), 3),
        (("left",), 4),
        (("up", "right"), 5),
        (("w", "a"), 2),
        (("s",), 7),
        (("left", "right"), 1),
        (("left", "right", "up"), 2),
        (("5", "right"), 4),
        (("9",), 1),
        (("x",), 1),
    ],
)
def test_keys_choose_an_action_by_its_name_or_number(held: tuple[str, ...], action: int) -> None:
    assert Keymap(NAMES).choose(held) == action


def test_words_for_directions_are_understood() -> None:
    keymap = Keymap(("jump right", "stay", "jump"))
    assert [keymap.choose(held) for held in [("up", "d"), (), ("w",), ("up", "a")]] == [0, 1, 2, 2]


def test_no_key_means_no_action_if_none_stands_still() -> None:
    keymap = Keymap(("0", "1", "2"))
    assert keymap.choose(()) is None
    assert keymap.choose(("up",)) is None
    assert keymap.choose(("3",)) == 2
