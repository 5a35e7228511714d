"""Rendering to arrays and windows."""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled

from genie_gym.envs import GenieEnv, WorldHandle
from genie_gym.envs.rendering import PygameWindow, window_scale


def test_rendered_arrays_are_copies_of_the_frame(handle: WorldHandle) -> None:
    env = GenieEnv(checkpoint=handle, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    frame = env.render()
    assert frame is not None
    assert np.array_equal(frame, observation)
    frame[:] = 0
    assert np.array_equal(env.render(), observation)  # type: ignore[arg-type]


def test_rendering_without_a_mode_warns(handle: WorldHandle) -> None:
    env = GenieEnv(checkpoint=handle)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None


@pytest.mark.parametrize(("size", "scale"), [((64, 64), 8), ((90, 160), 3), ((8, 12), 42), ((600, 600), 1)])
def test_windows_are_scaled_by_whole_factors(size: tuple[int, int], scale: int) -> None:
    assert window_scale(*size) == scale


def test_a_window_shows_the_frame(pygame: Any, prompt_image: np.ndarray) -> None:
    window = PygameWindow()
    window.show(prompt_image)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    assert shown.shape == (8 * 42, 12 * 42, 3)
    assert np.array_equal(shown[::42, ::42], prompt_image)
    assert np.array_equal(shown[41::42, 41::42], prompt_image)
    window.close()
    window.close()
    window.show(prompt_image)
    window.close()


def test_the_window_shows_every_frame(handle: WorldHandle, pygame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr(PygameWindow, "show", lambda self, frame: shown.append(frame))
    env = gym.make("Genie-v0", checkpoint=handle, render_mode="human")
    first, _ = env.reset(seed=0)
    second = env.step(np.int64(1))[0]
    assert env.render() is None
    assert np.array_equal(np.stack(shown), np.stack([first, second, second]))
    env.close()


def test_the_error_without_pygame_names_the_extra(handle: WorldHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyNotInstalled, match=r"pip install 'genie-gym\[human\]'"):
        GenieEnv(checkpoint=handle, render_mode="human")
    with pytest.raises(DependencyNotInstalled, match=r"pip install 'genie-gym\[human\]'"):
        gym.make("Genie-v0", checkpoint=handle, render_mode="human")
    assert GenieEnv(checkpoint=handle, render_mode="rgb_array").metadata["render_modes"] == ["rgb_array"]
