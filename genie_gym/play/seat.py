"""One person's play in a world: forwards, a few frames back, and from the start again."""

from collections import deque
from typing import NamedTuple

import numpy as np
import torch

from genie_gym.data.frames import to_float, to_uint8
from genie_gym.models.world_model import GenieWorldModel, WorldState
from genie_gym.play.trajectory import Trajectory

UNDONE = 32
"""Frames that can be taken back."""


class Moment(NamedTuple):
    """Where a game stood."""

    state: WorldState
    frame: np.ndarray
    """(H, W, 3) uint8."""


class Seat:
    """A game that is played frame by frame.

    Args:
        world: In eval mode.
        digest: Of its checkpoint, for the trajectory.
        maskgit_steps: Passes a frame; the world's where not given.
        temperature: Of the sampling; the world's where not given.
    """

    def __init__(
        self, world: GenieWorldModel, digest: str, maskgit_steps: int | None = None, temperature: float | None = None
    ) -> None:
        self.world, self._digest, self._sampling = world, digest, world.sampling(maskgit_steps, temperature)
        self._prompt, self._seed = np.empty((0,)), 0
        self._actions: list[int] = []
        self._past: deque[Moment] = deque(maxlen=UNDONE)
        self._now: Moment | None = None

    @property
    def frame(self) -> np.ndarray:
        """(H, W, 3) uint8, the present one.

        Raises:
            ValueError: Before ``open``.
        """
        return self._present().frame

    @property
    def trajectory(self) -> Trajectory:
        """What was played since ``open``, without what was taken back.

        Raises:
            ValueError: Before ``open``.
        """
        self._present()
        return Trajectory(
            checkpoint=self._digest,
            prompt=self._prompt,
            world_seed=self._seed,
            maskgit_steps=self._sampling.maskgit_steps,
            temperature=self._sampling.temperature,
            latent_actions=tuple(self._actions),
        )

    def open(self, prompt: np.ndarray, seed: int) -> np.ndarray:
        """Begin: (P, H, W, 3) uint8 -> the first frame, as the world sees it.

        Raises:
            ValueError: If the prompt is of another size than the world's.
        """
        state, frames = self.world.reset(
            to_float(prompt)[None], [seed], self._sampling.maskgit_steps, self._sampling.temperature
        )
        self._prompt, self._seed, self._actions = prompt.copy(), seed, []
        self._past.clear()
        self._now = Moment(state, to_uint8(frames)[0])
        return self.frame

    def step(self, latent_action: int) -> np.ndarray:
        """One frame on.

        Raises:
            ValueError: Before ``open``, or if there is no such latent action.
        """
        now, number = self._present(), self.world.config.num_latent_actions
        if not 0 <= latent_action < number:
            raise ValueError(f"latent_action must be in [0, {number}), got {latent_action}")
        self._past.append(now._replace(state=self.world.fork(now.state)))
        state, frames = self.world.step(now.state, torch.tensor([latent_action]))
        self._actions.append(latent_action)
        self._now = Moment(state, to_uint8(frames)[0])
        return self.frame

    def undo(self) -> np.ndarray:
        """One frame back, at most ``UNDONE`` in a row; where there is none, the present frame stays."""
        if self._past:
            self._now = self._past.pop()
            self._actions.pop()
        return self.frame

    def restart(self) -> np.ndarray:
        """Begin again with the same prompt and seed: the same actions bring the same frames."""
        self._present()
        return self.open(self._prompt, self._seed)

    def _present(self) -> Moment:
        if self._now is None:
            raise ValueError("seat must be opened on a prompt before it is played")
        return self._now


def replay(world: GenieWorldModel, digest: str, trajectory: Trajectory) -> np.ndarray:
    """(1 + S, H, W, 3) uint8: the frames of a trajectory of S latent actions.

    Args:
        world: Of the trajectory.
        digest: Of its checkpoint.
        trajectory: What to play.

    Raises:
        ValueError: If the trajectory is another world's, or of another size.
    """
    if trajectory.checkpoint != digest:
        raise ValueError(f"trajectory must be of the checkpoint {digest!r}, got {trajectory.checkpoint!r}")
    seat = Seat(world, digest, trajectory.maskgit_steps, trajectory.temperature)
    frames = [seat.open(trajectory.prompt, trajectory.world_seed)]
    frames += [seat.step(action) for action in trajectory.latent_actions]
    return np.stack(frames)
