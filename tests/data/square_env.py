"""A Gymnasium environment for tests, in which a square moves, with actions and frames of any kind."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "shifted": spaces.Discrete(3, start=-1),
    "several": spaces.MultiDiscrete([3, 2]),
    "binary": spaces.MultiBinary(3),
    "continuous": spaces.Box(-1, 1, (2,), np.float32),
    "bytes": spaces.Box(0, 255, (2,), np.uint8),
    "number": spaces.Box(-1, 1, (), np.float32),
    "long": spaces.Box(-(2**40), 2**40, (1,), np.int64),
    "many": spaces.Discrete(2**40),
    "empty": spaces.Box(-1, 1, (0,), np.float32),
    "dictionary": spaces.Dict({"move": spaces.Discrete(3)}),
}
SIZE = (48, 32)


class SquareEnv(gym.Env[Any, Any]):
    """A square at a place that seed and actions decide; an episode ends after ``length`` steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        actions: str = "discrete",
        length: int = 7,
        shows: bool = True,
        grows: bool = False,
        render_mode: Any = None,
    ) -> None:
        self.action_space, self.render_mode = SPACES[actions], render_mode
        self._length, self._shows, self._grows = length, shows, grows
        frame = spaces.Box(0, 255, (*SIZE, 3), np.uint8)
        self.observation_space = frame if shows else spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._steps = self.np_random.integers(SIZE[0]), 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._steps += 1
        self._place = (self._place + 3 + int(np.sum(np.asarray(action) * 5))) % SIZE[0]
        return self._observe(), float(self._place), self._steps >= self._length, False, {}

    def render(self) -> Any:
        frame = np.zeros((SIZE[0] + self._steps * self._grows, SIZE[1], 3), np.uint8)
        frame[self._place] = 200
        return frame

    def _observe(self) -> Any:
        return self.render() if self._shows else np.array([self._place, 0], np.float32)


class NoFramesEnv(SquareEnv):
    """The environment without any frames."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{**arguments, "shows": False})


class FaultyEnv(SquareEnv):
    """The environment with a fault in one of its methods."""

    def __init__(self, fault: str = "", **arguments: Any) -> None:
        if fault == "init":
            raise KeyError("missing")
        super().__init__(**arguments)
        self._fault = fault

    def reset(self, **arguments: Any) -> Any:
        if self._fault == "reset":
            raise RuntimeError("boom")
        found = super().reset(**arguments)
        return found[0] if self._fault == "old reset" else found

    def step(self, action: Any) -> Any:
        if self._fault == "step":
            raise AssertionError("boom")
        rewards = {"nan": float("nan"), "infinite": float("inf"), "none": None, "large": 1e300}
        seen, reward, ends, is_cut, about = super().step(action)
        return (
            (seen, reward, ends, {})
            if self._fault == "old step"
            else (seen, rewards.get(self._fault, reward), ends, is_cut, about)
        )

    def render(self) -> Any:
        if self._fault == "render":
            raise OSError("boom")
        return super().render()


class SeedlessEnv(SquareEnv):
    """The environment without a seed in its reset."""

    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


gym.register("Square-v0", SquareEnv)
gym.register("Faulty-v0", FaultyEnv)
gym.register("Seedless-v0", SeedlessEnv)
gym.register("NoFrames-v0", NoFramesEnv)
