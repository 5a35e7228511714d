"""A visitor: one person's play in a world, step by step, with undo and restart."""

from collections.abc import Sequence

import numpy as np

from genie_gym.envs.arguments import require_latent_actions
from genie_gym.envs.rewards import zero_rewards
from genie_gym.envs.session import Session, Start, step_together
from genie_gym.envs.worlds import WorldHandle
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.trajectory import CheckpointIdentity, Trajectory


class Visitor:
    """One person's episode in a session of one row, with the frames and latent actions played so far.

    Before the first ``start``, everything but ``start`` raises a ``NotStartedError``, which is a ValueError.

    Args:
        world: World to play in, shared with other visitors.
        checkpoint: Identity of the world's checkpoint, for the trajectory.
        maskgit_steps: MaskGIT steps per frame; None for the world's.
        temperature: Sampling temperature; None for the world's.
        undo_steps: Number of successive steps that can be undone.
    """

    def __init__(
        self,
        world: GenieWorldModel,
        checkpoint: CheckpointIdentity,
        maskgit_steps: int | None = None,
        temperature: float | None = None,
        undo_steps: int = 0,
    ) -> None:
        sampling, handle = (maskgit_steps, temperature), WorldHandle(world)
        self.session = Session(handle, "cpu", None, *sampling, reward_fn=zero_rewards, undo_steps=undo_steps)
        self._checkpoint = checkpoint
        self._start = Start(np.empty(0), -1, 0)
        self._latent_actions: list[int] = []
        self._frames: list[np.ndarray] = []

    @property
    def frame(self) -> np.ndarray:
        """The present frame, (H, W, 3) uint8."""
        return self.session.frames[0]

    @property
    def frames(self) -> np.ndarray:
        """All frames since the start without those undone, (1 + S, H, W, 3) uint8."""
        return np.stack(self._frames or [self.frame])

    @property
    def last_action(self) -> int | None:
        """The latent action that led to the present frame; None at the start."""
        return self._latent_actions[-1] if self._latent_actions else None

    @property
    def steps(self) -> int:
        """The number of latent actions since the start, without those undone."""
        return len(self._latent_actions)

    @property
    def trajectory(self) -> Trajectory:
        """The episode since its start, without undone steps."""
        self.session.require_started()
        sampling = self.session.sampling
        return Trajectory(
            checkpoint=self._checkpoint.digest,
            checkpoint_name=self._checkpoint.name,
            prompt=self._start.prompt,
            world_seed=self._start.world_seed,
            maskgit_steps=sampling.maskgit_steps,
            temperature=sampling.temperature,
            latent_actions=tuple(self._latent_actions),
        )

    def look_back(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the last T <= ``most`` frames, (T, H, W, 3) uint8, and the T - 1 latent actions between them."""
        self.session.require_started()
        frames = np.stack(self._frames[-most:])
        return frames, np.array(self._latent_actions[self.steps + 1 - len(frames) :], dtype=np.int64)

    def start(self, start: Start) -> np.ndarray:
        """Start a new episode and return its first frame.

        Raises:
            ValueError: If the prompt's size is not the world's.
        """
        self.session.start([start])
        self._start, self._latent_actions, self._frames = start, [], [self.frame]
        return self.frame

    def step(self, latent_action: int) -> np.ndarray:
        """Take a latent action and return the next frame.

        Raises:
            ValueError: If there is no such latent action.
        """
        step_visitors([self], [latent_action])
        return self.frame

    def undo(self) -> np.ndarray:
        """Take back one step, if the session still can, and return the present frame."""
        if self.session.undo():
            self._latent_actions.pop()
            self._frames.pop()
        return self.frame

    def restart(self) -> np.ndarray:
        """Start again with the same prompt and seed: the same latent actions lead to the same frames."""
        self.session.require_started()
        return self.start(self._start)

    def require_action(self, latent_action: int) -> None:
        """Raise a ValueError if no episode has started or there is no such latent action."""
        self.session.require_started()
        require_latent_actions(latent_action, (), int(self.session.action_space.n))


def step_visitors(visitors: Sequence[Visitor], latent_actions: Sequence[int]) -> None:
    """Take one step for each of several visitors in a single pass; each gets the frame that playing alone would give.

    Raises:
        ValueError: If a visitor has not started, there is no such latent action, or their sampling differs.
    """
    for visitor, action in zip(visitors, latent_actions, strict=True):
        visitor.require_action(action)
    step_together([visitor.session for visitor in visitors], np.array(latent_actions, dtype=np.int64))
    for visitor, action in zip(visitors, latent_actions, strict=True):
        visitor._latent_actions.append(action)
        visitor._frames.append(visitor.frame)


def replay(world: GenieWorldModel, checkpoint: CheckpointIdentity, trajectory: Trajectory) -> np.ndarray:
    """Return the (1 + S, H, W, 3) uint8 frames of a trajectory of S latent actions, played in the same world.

    Raises:
        ValueError: If the trajectory is of another checkpoint, or of another frame size.
    """
    trajectory.needed.require(checkpoint)
    visitor = Visitor(world, checkpoint, trajectory.maskgit_steps, trajectory.temperature)
    visitor.start(Start(trajectory.prompt, -1, trajectory.world_seed))
    for action in trajectory.latent_actions:
        visitor.step(action)
    return visitor.frames
