"""One person's play in a world: forwards, a few frames back, and from the start again."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch

from genie_gym.data.frames import to_float, to_uint8
from genie_gym.models.world_model import GenieWorldModel, StepBack, WorldState
from genie_gym.play.trajectory import Trajectory

Start = Callable[[], tuple[np.ndarray, int]]
"""Draws a prompt (P, H, W, 3) uint8 and a seed."""
UNDONE = 32
"""Frames that can be taken back, where no other number is given: each keeps 0.8 MB of the shipped world's memory."""


class Visitor:
    """A game that is played frame by frame.

    Args:
        world: In eval mode.
        digest: Of its checkpoint, for the trajectory.
        maskgit_steps: Passes a frame; the world's where not given.
        temperature: Of the sampling; the world's where not given.
        undone: Frames that can be taken back.
    """

    def __init__(
        self,
        world: GenieWorldModel,
        digest: str,
        maskgit_steps: int | None = None,
        temperature: float | None = None,
        undone: int = UNDONE,
    ) -> None:
        self.world, self._digest, self.sampling = world, digest, world.sampling(maskgit_steps, temperature)
        self._prompt, self._seed = np.empty((0,)), 0
        self._actions: list[int] = []
        self._frames: list[np.ndarray] = []
        self._past: deque[StepBack] = deque(maxlen=undone)
        self._state: WorldState | None = None

    @property
    def frame(self) -> np.ndarray:
        """(H, W, 3) uint8, the present one.

        Raises:
            ValueError: Before ``open``.
        """
        self._require_open()
        return self._frames[-1]

    @property
    def frames(self) -> np.ndarray:
        """(1 + S, H, W, 3) uint8, all since ``open``.

        Raises:
            ValueError: Before ``open``.
        """
        self._require_open()
        return np.stack(self._frames)

    def look_back(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """The last T frames (T, H, W, 3) uint8, T at most ``most``, and the T - 1 latent actions (int64) between them.

        Raises:
            ValueError: Before ``open``.
        """
        self._require_open()
        frames = self._frames[-most:]
        return np.stack(frames), np.array(self._actions[len(self._actions) - len(frames) + 1 :], dtype=np.int64)

    @property
    def last_action(self) -> int | None:
        """The latent action that led to the present frame; None at the start."""
        return self._actions[-1] if self._actions else None

    @property
    def steps(self) -> int:
        """Latent actions since ``open``, without what was taken back."""
        return len(self._actions)

    @property
    def trajectory(self) -> Trajectory:
        """What was played since ``open``, without what was taken back.

        Raises:
            ValueError: Before ``open``.
        """
        self._require_open()
        return Trajectory(
            checkpoint=self._digest,
            prompt=self._prompt,
            world_seed=self._seed,
            maskgit_steps=self.sampling.maskgit_steps,
            temperature=self.sampling.temperature,
            latent_actions=tuple(self._actions),
        )

    def open(self, prompt: np.ndarray, seed: int) -> np.ndarray:
        """Begin: (P, H, W, 3) uint8 -> the first frame, as the world sees it.

        Raises:
            ValueError: If the prompt is of another size than the world's.
        """
        sampling = self.sampling
        state, frames = self.world.reset(to_float(prompt)[None], [seed], sampling.maskgit_steps, sampling.temperature)
        self._prompt, self._seed, self._actions = prompt.copy(), seed, []
        self._past.clear()
        self._state, self._frames = state, [to_uint8(frames)[0]]
        return self.frame

    def step(self, latent_action: int) -> np.ndarray:
        """One frame on.

        Raises:
            ValueError: Before ``open``, or if there is no such latent action.
        """
        step_together([self], [latent_action])
        return self.frame

    def undo(self) -> np.ndarray:
        """One frame back, a few in a row; where there is none, the present frame stays."""
        if self._past:
            self._state = self.world.undo(self._require_open(), self._past.pop())
            self._actions.pop()
            self._frames.pop()
        return self.frame

    def restart(self) -> np.ndarray:
        """Begin again with the same prompt and seed: the same actions bring the same frames."""
        self._require_open()
        return self.open(self._prompt, self._seed)

    def require_action(self, latent_action: int) -> None:
        """Raise a ValueError before ``open``, and if there is no such latent action."""
        self._require_open()
        number = self.world.config.num_latent_actions
        if not 0 <= latent_action < number:
            raise ValueError(f"latent_action must be in [0, {number}), got {latent_action}")

    def _require_open(self) -> WorldState:
        if self._state is None:
            raise ValueError("seat must be opened on a prompt before it is played")
        return self._state


def step_together(seats: Sequence[Visitor], latent_actions: Sequence[int]) -> None:
    """One frame on in several games of one world, sampled alike, in one pass; each as if it were alone.

    Raises:
        ValueError: Before ``open`` of any of them, if there is no such latent action, or they are sampled differently.
    """
    for seat, action in zip(seats, latent_actions, strict=True):
        seat.require_action(action)
    world, before = seats[0].world, [seat._require_open() for seat in seats]
    backs = [world.remember(state) for state in before]
    is_alone = len(seats) == 1
    after, frames = world.step(before[0] if is_alone else world.join(before), torch.tensor(list(latent_actions)))
    states = [after] if is_alone else world.split(after)
    for seat, action, back, now, frame in zip(seats, latent_actions, backs, states, to_uint8(frames), strict=True):
        seat._past.append(back)
        seat._state = now
        seat._actions.append(action)
        seat._frames.append(frame)


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
    seat = Visitor(world, digest, trajectory.maskgit_steps, trajectory.temperature)
    seat.open(trajectory.prompt, trajectory.world_seed)
    for action in trajectory.latent_actions:
        seat.step(action)
    return seat.frames
