"""A batch of environments in one world for agents on a device: tensors in, tensors out, nothing through the host.

The frames are those of ``gym.make_vec("Genie-v0", autoreset_mode="SameStep")`` with the same seeds and latent actions.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genie_gym import MAX_EPISODE_STEPS
from genie_gym.checks import require
from genie_gym.data.frames import to_float
from genie_gym.envs import arguments
from genie_gym.envs.genie_vector_env import Seed
from genie_gym.envs.prompts import Prompt
from genie_gym.envs.rewards import zero_rewards
from genie_gym.envs.session import Session
from genie_gym.envs.worlds import Checkpoint
from genie_gym.serving.static_play import StaticPlay

TensorRewards = Tensor | tuple[Tensor, Tensor]
TorchStep = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]


class TensorRewardFunction(Protocol):
    """A ``RewardFunction`` of tensors on the device of the world."""

    def __call__(self, previous_frames: Tensor, latent_actions: Tensor, frames: Tensor, /) -> TensorRewards:
        """Return the rewards of B transitions, and whether they end their episodes.

        Args:
            previous_frames: (B, H, W, 3) uint8; not to be written to, like ``frames``.
            latent_actions: (B,) int64 in [0, A).
            frames: (B, H, W, 3) uint8, the frames that the actions led to.

        Returns:
            (B,) finite rewards, or a pair of (B,) finite rewards and (B,) bool terminations.
        """


class GenieTorchEnv:
    """A batch of ``Genie-v0`` whose frames, rewards and ends are tensors on the world's device.

    On a GPU a step is one CUDA graph (``serving.static_play``). An ended episode restarts in the same step, as in
    Gymnasium's ``SameStep``. The host then has to know which rows ended: it waits for (num_envs,) bool, and only if
    ``reward_fn`` returns terminations; truncations are counted on the host. With ``autoreset=False`` it never waits.

    Args:
        num_envs: Number of rows.
        prompt: Start of all episodes, as in ``GenieEnv``; None draws the checkpoint's start clips.
        checkpoint: As in ``GenieEnv``, like the four arguments after it.
        reward_fn: Rewards of tensors; None for zeros.
        max_episode_steps: Number of steps after which an episode is truncated; None or -1 for no limit.
        autoreset: Whether ended episodes restart by themselves; otherwise ``reset(mask=...)`` restarts them, and until
            then they play on.
        dtype: ``torch.uint8`` for observations (num_envs, H, W, 3), or ``torch.float32`` for (num_envs, 3, H, W) in
            [0, 1]: the same frames divided by 255.

    Raises:
        ValueError: If an argument is invalid; the message names it and its value.
    """

    def __init__(  # noqa: PLR0913
        self,
        num_envs: int,
        prompt: Prompt | None = None,
        *,
        checkpoint: Checkpoint = "coinrun",
        maskgit_steps: int | None = None,
        temperature: float | None = None,
        device: str = "cuda",
        precision: str | None = None,
        reward_fn: TensorRewardFunction | None = None,
        max_episode_steps: int | None = MAX_EPISODE_STEPS,
        autoreset: bool = True,
        dtype: torch.dtype = torch.uint8,
    ) -> None:
        self.num_envs = arguments.require_count("num_envs", num_envs)
        self.max_episode_steps = arguments.require_limit(max_episode_steps)
        require(reward_fn is None or callable(reward_fn), "reward_fn", reward_fn, "None or a function of tensors")
        require(dtype in (torch.uint8, torch.float32), "dtype", dtype, "torch.uint8 or torch.float32")
        self.autoreset, self.dtype, self._reward_fn = autoreset, dtype, reward_fn
        self._session = Session(checkpoint, device, precision, maskgit_steps, temperature, zero_rewards)
        self.num_actions, self.device = int(self._session.action_space.n), self._session.world.device
        self._prompt = self._session.load_prompt(prompt)
        clips = self._session.world.start_clips if self._prompt is None else self._prompt[None]
        require(len(clips) > 0, "prompt", prompt, "given, since this checkpoint ships no start clips")
        self._play = StaticPlay(self._session.world, clips, num_envs, maskgit_steps, temperature)
        self._generators = [np.random.default_rng() for _ in range(num_envs)]
        self._elapsed = np.full(num_envs, -1)
        self._zeros, self._never = (
            torch.zeros(num_envs, dtype=kind, device=self.device) for kind in (torch.float32, torch.bool)
        )

    def reset(self, seed: Seed = None, mask: Tensor | np.ndarray | None = None) -> Tensor:
        """Start episodes.

        Args:
            seed: An int (row i gets ``seed + i``), a list with one entry per row, or None to continue with the present
                generators.
            mask: (num_envs,) bool, the rows to start; the others keep playing. None for all.

        Returns:
            The observations of all rows.

        Raises:
            ValueError: If the seed or mask is invalid, or the first mask leaves rows out.
        """
        rows = arguments.require_mask(mask.cpu().numpy() if isinstance(mask, Tensor) else mask, self.num_envs)
        seeds = arguments.require_seeds(seed, self.num_envs)
        has_all = len(rows) == self.num_envs or self._elapsed.min() >= 0
        require(has_all, "mask", mask, "None in the first reset")
        for row in rows:
            if seeds[row] is not None:
                self._generators[row] = np.random.default_rng(seeds[row])
        self._start(rows)
        return self._observe()

    def step(self, actions: Tensor) -> TorchStep:
        """Take one latent action per row.

        Args:
            actions: (num_envs,) int64 in [0, A). Those on a GPU are not checked here, and PyTorch ends the process's
                use of the GPU if one is out of range.

        Returns:
            Observations; (num_envs,) float32 rewards, bool terminations and bool truncations; and a dictionary with
            ``final_obs``: the observations before ended episodes restarted, to value them by. All are new tensors.

        Raises:
            ValueError: If the actions have another shape or type, lie out of range on the CPU, or there was no reset.
        """
        require(self._elapsed.min() >= 0, "reset()", "no call", "called before step()")
        self._require_actions(actions)
        previous = self._play.frames.clone()
        actions = actions.to(self.device)
        frames = self._play.step(actions)
        rewards, terminations = self._reward(previous, actions, frames)
        self._elapsed += 1
        truncated = self._elapsed >= self.max_episode_steps
        truncations = torch.from_numpy(truncated).to(self.device) if truncated.any() else self._never.clone()
        final = observation = self._observe()
        if self.autoreset:
            ended = truncated if terminations is None else truncated | terminations.cpu().numpy()
            if ended.any():
                self._start(np.flatnonzero(ended))
                observation = self._observe()
        ends = self._never.clone() if terminations is None else terminations
        return observation, rewards, ends, truncations, {"final_obs": final}

    def get_action_meanings(self) -> list[str]:
        """Return the name of each latent action; its number if the world has no names."""
        return self._session.action_meanings

    def _require_actions(self, actions: Tensor) -> None:
        """Check the latent actions without waiting for a GPU."""
        fits = isinstance(actions, Tensor) and actions.dtype == torch.int64 and actions.shape == (self.num_envs,)
        require(fits, "actions", actions, f"an int64 tensor of shape ({self.num_envs},)")
        if actions.device.type == "cpu":
            fits = bool(((actions >= 0) & (actions < self.num_actions)).all())
            require(fits, "actions", actions, f"in [0, {self.num_actions})")

    def _start(self, rows: np.ndarray) -> None:
        """Start the next episodes of some rows, as ``GenieVectorEnv`` draws them."""
        starts = [self._session.draw_start(self._generators[row], self._prompt) for row in rows]
        clips = [max(start.prompt_index, 0) for start in starts]  # a given prompt, of index -1, is the only clip
        self._play.start(rows.tolist(), clips, [start.world_seed for start in starts])
        self._elapsed[rows] = 0

    def _observe(self) -> Tensor:
        """Return the present frames as new observations."""
        return self._play.frames.clone() if self.dtype == torch.uint8 else to_float(self._play.frames)

    def _reward(self, previous: Tensor, actions: Tensor, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return rewards (B,) float32 and terminations (B,) bool, None if the reward function ends no episodes."""
        if self._reward_fn is None:
            return self._zeros.clone(), None
        returned = self._reward_fn(previous, actions, frames)
        rewards, terminations = returned if isinstance(returned, tuple) else (returned, None)
        self._require_returned("rewards", rewards, "")
        if terminations is None:
            return rewards.float(), None
        self._require_returned("terminations", terminations, "bool ")
        return rewards.float(), terminations.clone()

    def _require_returned(self, name: str, values: Tensor, kind: str) -> None:
        """Check what a reward function returned without waiting for a GPU."""
        fits = isinstance(values, Tensor) and values.shape == (self.num_envs,) and values.device == self.device
        fits = fits and (kind == "" or values.dtype == torch.bool)
        wanted = f"a {kind}tensor of shape ({self.num_envs},) on {self.device}"
        require(fits, f"{name} of reward_fn", values, wanted)
