"""The three models as one world: a prompt, then a frame for every latent action (Genie, sec. 2.2)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genie_gym.configs import SamplingConfig, WorldConfig
from genie_gym.models.base import require_ids, require_pixels, require_videos
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.maskgit import sample
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.nn.attention import KeyValues
from genie_gym.nn.st_transformer import Past

Blocks = tuple[KeyValues | None, ...]


class WorldState(NamedTuple):
    """Where B sessions stand. Opaque; never changed in place, so an earlier state can be stepped again."""

    dynamics: Blocks
    """Keys and values of the last ``context_length - 1`` frames in the dynamics."""
    decoder: Blocks
    """The same in the tokenizer's decoder."""
    lengths: Tensor
    """(B,) int64: how many of those frames are real."""
    seeds: tuple[int, ...]
    """One a row."""
    ages: tuple[int, ...]
    """Frames each row has generated; with the seed it decides the noise of the next one."""
    sampling: SamplingConfig
    """How the next frames are drawn."""


class GenieWorldModel(nn.Module):
    """A world. Each row of a batch depends only on its own prompt, seed and actions.

    Args:
        config: Sizes and sampling.
        start_frames: (M, H, W, 3) uint8 frames to start from where no prompt is given.
    """

    def __init__(self, config: WorldConfig, start_frames: np.ndarray | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = VideoTokenizer(config)
        self.latent_action_model = LatentActionModel(config)
        self.dynamics = MaskGITDynamics(config)
        none = np.empty((0, config.height, config.width, 3), dtype=np.uint8)
        self.start_frames = none if start_frames is None else start_frames
        self.set_precision(config.precision)

    def set_precision(self, precision: str) -> None:
        """Compute in ``float32`` or ``bfloat16`` from now on."""
        for model in (self.tokenizer, self.latent_action_model, self.dynamics):
            model.set_precision(precision)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.dynamics.output_bias.device

    @torch.no_grad()
    def label(self, videos: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T - 1) latent actions, whatever the latent action model reads."""
        model = self.latent_action_model
        return model.label(self.tokenizer.encode(videos) if model.reads_tokens else videos)

    @torch.no_grad()
    def reset(
        self,
        prompt_videos: Tensor,
        seeds: Sequence[int],
        maskgit_steps: int | None = None,
        temperature: float | None = None,
    ) -> tuple[WorldState, Tensor]:
        """Begin sessions.

        Args:
            prompt_videos: (B, P, C, H, W) float in [0, 1], oldest frame first; of more than
                ``context_length`` frames the last count. More than one frame shows how things move.
            seeds: One a row.
            maskgit_steps: Passes a frame; ``None`` for the config's.
            temperature: ``None`` for the config's.

        Returns:
            The state, and the last prompt frame as the tokenizer rebuilds it, (B, C, H, W).

        Raises:
            ValueError: Naming the argument that is off.
        """
        state, videos = self._open(prompt_videos, seeds, self._sampling(maskgit_steps, temperature))
        return state, videos[:, -1]

    @torch.no_grad()
    def step(self, state: WorldState, latent_actions: Tensor) -> tuple[WorldState, Tensor]:
        """One frame further.

        Args:
            state: From ``reset``, ``step`` or ``replace``; it stays valid.
            latent_actions: (B,) int64 in [0, A).

        Returns:
            The next state and frames (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If the actions have another shape, type or range.
        """
        if tuple(latent_actions.shape) != (len(state.seeds),):
            raise ValueError(f"latent_actions must be ({len(state.seeds)},), got {tuple(latent_actions.shape)}")
        require_ids("latent_actions", latent_actions, self.config.num_latent_actions)
        lead = latent_actions.to(self.device)[:, None]
        tokens = self._draw(state, lead)
        _, seen = self.dynamics(tokens, lead, Past(state.dynamics, state.lengths))
        videos, rebuilt = self.tokenizer.decode_after(Past(state.decoder, state.lengths), tokens)
        following = state._replace(
            dynamics=self._keep(seen),
            decoder=self._keep(rebuilt),
            lengths=(state.lengths + 1).clamp(max=self._kept_frames),
            ages=tuple(age + 1 for age in state.ages),
        )
        return following, videos[:, 0]

    @torch.no_grad()
    def replace(
        self, state: WorldState, rows: Sequence[int], prompt_videos: Tensor, seeds: Sequence[int]
    ) -> tuple[WorldState, Tensor]:
        """Begin the named rows anew; the others stay as they are.

        Args:
            state: B sessions.
            rows: R row numbers.
            prompt_videos: (R, P, C, H, W).
            seeds: R.

        Returns:
            The state with those rows replaced, and their first frames (R, C, H, W).
        """
        fresh, videos = self._open(prompt_videos, seeds, state.sampling)
        where = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        if len(where) != len(fresh.seeds) or where.unique().numel() != len(where):
            raise ValueError(f"rows must be {len(fresh.seeds)} different row numbers, got {list(rows)}")
        require_ids("rows", where, len(state.seeds))
        merged = WorldState(
            dynamics=_merge(state.dynamics, fresh.dynamics, where),
            decoder=_merge(state.decoder, fresh.decoder, where),
            lengths=state.lengths.index_copy(0, where, fresh.lengths),
            seeds=_put(state.seeds, where, fresh.seeds),
            ages=_put(state.ages, where, fresh.ages),
            sampling=state.sampling,
        )
        return merged, videos[:, -1]

    @torch.no_grad()
    def rollout(
        self,
        prompt_videos: Tensor,
        latent_actions: Tensor,
        seed: int = 0,
        maskgit_steps: int | None = None,
        temperature: float | None = None,
    ) -> Tensor:
        """Play whole sequences of latent actions; row b has the seed ``seed + b``.

        Args:
            prompt_videos: (B, P, C, H, W) float in [0, 1].
            latent_actions: (B, S) int64 in [0, A).
            seed: Of the first row.
            maskgit_steps: Passes a frame; ``None`` for the config's.
            temperature: ``None`` for the config's.

        Returns:
            (B, P + S, C, H, W) in [0, 1]: the prompt as the tokenizer rebuilds it, then S generated frames.
        """
        if latent_actions.ndim != 2 or len(latent_actions) != len(prompt_videos):
            raise ValueError(f"latent_actions must be ({len(prompt_videos)}, S), got {tuple(latent_actions.shape)}")
        seeds = range(seed, seed + len(prompt_videos))
        state, videos = self._open(prompt_videos, seeds, self._sampling(maskgit_steps, temperature))
        frames = [videos]
        for actions in latent_actions.unbind(dim=1):
            state, frame = self.step(state, actions)
            frames.append(frame[:, None])
        return torch.cat(frames, dim=1)

    @property
    def _kept_frames(self) -> int:
        return self.config.context_length - 1

    def _sampling(self, maskgit_steps: int | None, temperature: float | None) -> SamplingConfig:
        usual = self.config.sampling
        return replace(
            usual,
            maskgit_steps=usual.maskgit_steps if maskgit_steps is None else maskgit_steps,
            temperature=usual.temperature if temperature is None else temperature,
        )

    def _open(self, prompt_videos: Tensor, seeds: Sequence[int], sampling: SamplingConfig) -> tuple[WorldState, Tensor]:
        require_videos(prompt_videos, 3, self.config.height, self.config.width)
        require_pixels("prompt_videos", prompt_videos)
        if len(seeds) != len(prompt_videos) or any(seed < 0 for seed in seeds):
            raise ValueError(f"seeds must be {len(prompt_videos)} numbers of 0 or more, got {list(seeds)}")
        prompts = prompt_videos.to(self.device)[:, -self.config.context_length :]
        tokens = self.tokenizer.encode(prompts)
        labels = self.label(prompts) if prompts.shape[1] > 1 else tokens[:, :0, 0]
        _, seen = self.dynamics(tokens, self.dynamics.lead_actions(labels))
        videos, rebuilt = self.tokenizer.decode_after(None, tokens)
        length = min(prompts.shape[1], self._kept_frames)
        state = WorldState(
            dynamics=self._keep(seen),
            decoder=self._keep(rebuilt),
            lengths=torch.full((len(prompts),), length, device=self.device),
            seeds=tuple(int(seed) for seed in seeds),
            ages=(0,) * len(prompts),
            sampling=sampling,
        )
        return state, videos

    def _draw(self, state: WorldState, lead: Tensor) -> Tensor:
        """(B, 1, N) tokens of the next frame."""
        past = Past(state.dynamics, state.lengths)

        def predict(tokens: Tensor) -> Tensor:
            features, _ = self.dynamics(tokens[:, None], lead, past)
            return self.dynamics.logits(features[0])

        places, hidden = self.config.tokens_per_frame, self.dynamics.hidden_token
        empty = torch.full((len(lead), places), hidden, device=self.device)
        shape = (state.sampling.maskgit_steps, 2, places)
        rows = [_noise(seed, age, shape) for seed, age in zip(state.seeds, state.ages, strict=True)]
        uniforms = torch.from_numpy(np.stack(rows)).to(self.device)
        return sample(predict, empty, hidden, state.sampling, uniforms)[:, None]

    def _keep(self, blocks: Sequence[KeyValues | None]) -> Blocks:
        """The last frames of each block, padded at the front to a fixed number."""
        return tuple(
            None if block is None else KeyValues(*(_last(part, self._kept_frames) for part in block))
            for block in blocks
        )


def _last(frames: Tensor, wanted: int) -> Tensor:
    missing = max(0, wanted - len(frames))
    return F.pad(frames, (0, 0) * (frames.ndim - 1) + (missing, 0)) if missing else frames[len(frames) - wanted :]


def _noise(seed: int, age: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([seed, age]).random(shape, dtype=np.float32)


def _merge(old: Blocks, new: Blocks, rows: Tensor) -> Blocks:
    merged: list[KeyValues | None] = []
    for before, after in zip(old, new, strict=True):
        if before is None or after is None:
            merged.append(None)
        else:
            merged.append(KeyValues(*(a.index_copy(1, rows, b) for a, b in zip(before, after, strict=True))))
    return tuple(merged)


def _put(old: tuple[int, ...], rows: Tensor, new: tuple[int, ...]) -> tuple[int, ...]:
    values = list(old)
    for row, value in zip(rows.tolist(), new, strict=True):
        values[row] = value
    return tuple(values)
