"""The latent actions that keys mean."""

from typing import Any

import gymnasium as gym
import pytest

from genie_gym.envs import WorldHandle, zero_rewards
from genie_gym.envs.keys import Keymap

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


KEYED = ("left", "right", "jump", "still", "left 2", "right jump", "fall", "up left")


def test_combinations_are_what_the_keys_choose(pygame: Any) -> None:
    combinations = Keymap(KEYED).list_combinations()
    codes = {"up": pygame.K_UP, "down": pygame.K_DOWN, "left": pygame.K_LEFT, "right": pygame.K_RIGHT}
    held_by_code = {code: name for name, code in codes.items()} | {ord(key): key for key in "wasd12345678"}
    for keys, action in combinations.items():
        assert keys == tuple(sorted(keys))
        assert action == Keymap(KEYED).choose([held_by_code[key] for key in keys])
    assert combinations[(ord("3"),)] == 2
    assert combinations[tuple(sorted((pygame.K_LEFT, pygame.K_UP)))] == KEYED.index("up left")
    assert set(Keymap("abc").list_combinations().values()) == {0, 1, 2}


def test_gymnasium_plays_it_with_the_keyboard(handle: WorldHandle, pygame: Any) -> None:
    """A person holds the right arrow, then nothing, then closes the window."""
    from gymnasium.utils.play import play

    handle.world.config.action_names = ("left", "right", "jump", "still", "fall")  # type: ignore[misc]
    taken: list[int] = []

    def note(before: Any, after: Any, action: int, *rest: Any) -> None:
        taken.append(int(action))
        events = {2: (pygame.KEYDOWN, pygame.K_RIGHT), 4: (pygame.KEYUP, pygame.K_RIGHT), 6: (pygame.QUIT, 0)}
        if len(taken) in events:
            kind, key = events[len(taken)]
            pygame.event.post(pygame.event.Event(kind, key=key))

    env = gym.make("Genie-v0", checkpoint=handle, reward_fn=zero_rewards, render_mode="rgb_array")
    play(env, callback=note, fps=1000, noop=env.unwrapped.get_action_meanings().index("still"))
    assert taken == [3, 3, 1, 1, 3, 3]
