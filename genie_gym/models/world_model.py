"""The three models as one world: a prompt, then a frame for every latent action (Genie, sec. 2.2)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from genie_gym.configs import SamplingConfig, WorldConfig
from genie_gym.models.base import (
    Model,
    native_precision,
    require_ids,
    require_pixels,
    require_videos,
)
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.latent_action_model import LatentActionModel
from genie_gym.models.maskgit import sample
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.nn.attention import KVCache
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.system import keep_freed_memory


class WorldState(NamedTuple):
    """Where B sessions stand. Opaque; its caches are used again by the next step, see ``GenieWorldModel.fork``."""

    dynamics: FrameCache
    """Keys and values in the dynamics of the frames before the present one."""
    decoder: FrameCache
    """The same in the tokenizer's decoder, up to the present frame."""
    tokens: Tensor
    """(B, 1, N) of the present frame."""
    lead: Tensor
    """(B, 1) the latent action that led to it."""
    seeds: tuple[int, ...]
    """One a row."""
    ages: tuple[int, ...]
    """Frames each row has generated; with the seed it decides the noise of the next one."""
    sampling: SamplingConfig
    """How the next frames are drawn."""
    version: int
    """Of the caches: an older state's content is gone."""


class StepBack(NamedTuple):
    """What it takes to take a step back: far less than a fork. Opaque, see ``GenieWorldModel.remember``."""

    dynamics: list[KVCache | None]
    decoder: list[KVCache | None]
    tokens: Tensor
    lead: Tensor
    ages: tuple[int, ...]


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
        self.set_precision("float32" if config.precision == "auto" else config.precision)

    def set_precision(self, precision: str) -> None:
        """Compute in ``float32``, ``bfloat16`` or ``float16`` from now on."""
        for model in self._models:
            model.set_precision(precision)

    def freeze(self, precision: str | None = None) -> "GenieWorldModel":
        """Make ready to be played: eval mode, no gradients, and no weight left that a frame would have to cast.

        Args:
            precision: ``float32``, ``bfloat16``, ``float16`` or ``auto``, see ``native_precision``; ``None`` for the
                config's.

        Returns:
            Itself.
        """
        wanted = self.config.precision if precision is None else precision
        self.set_precision(native_precision(self.device) if wanted == "auto" else wanted)
        dynamics, tokenizer = self.dynamics, self.tokenizer
        for part in (
            dynamics.token_embedding,
            dynamics.gather,
            dynamics.transformer,
            dynamics.spread,
            dynamics.head,
            tokenizer.encoder,
            tokenizer.decoder,
        ):
            part.to(dynamics.precision)
        if self.device.type == "cpu":
            keep_freed_memory()
        return self.eval().requires_grad_(False)

    @property
    def _models(self) -> tuple[Model, ...]:
        return self.tokenizer, self.latent_action_model, self.dynamics

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
        state, videos = self._open(prompt_videos, seeds, self.sampling(maskgit_steps, temperature))
        return state, videos[:, -1]

    @torch.no_grad()
    def step(self, state: WorldState, latent_actions: Tensor) -> tuple[WorldState, Tensor]:
        """One frame further.

        The present frame and the hidden next one go through the dynamics together, so that a frame costs
        ``maskgit_steps`` passes and not one more.

        Args:
            state: The latest of its sessions, from ``reset``, ``step`` or ``replace``. Its memory goes to the next
                state; ``fork`` it first to come back to it.
            latent_actions: (B,) int64 in [0, A).

        Returns:
            The next state and frames (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If the actions have another shape, type or range, or the state has been stepped before.
        """
        self._require_latest(state)
        if tuple(latent_actions.shape) != (len(state.seeds),):
            raise ValueError(f"latent_actions must be ({len(state.seeds)},), got {tuple(latent_actions.shape)}")
        require_ids("latent_actions", latent_actions, self.config.num_latent_actions)
        lead = latent_actions.to(self.device)[:, None]
        tokens = self._draw(state, lead)
        state.dynamics.advance()
        videos = self.tokenizer.decode_next(tokens, state.decoder)
        ages = tuple(age + 1 for age in state.ages)
        return state._replace(tokens=tokens, lead=lead, ages=ages, version=state.dynamics.version), videos[:, 0]

    def fork(self, state: WorldState) -> WorldState:
        """The same sessions in memory of their own: both states can be stepped, each once."""
        self._require_latest(state)
        return state._replace(dynamics=state.dynamics.clone(), decoder=state.decoder.clone())

    def remember(self, state: WorldState) -> StepBack:
        """What the next step from here overwrites, for ``undo``; to be asked for before that step."""
        self._require_latest(state)
        caches = state.dynamics.read_oldest(), state.decoder.read_oldest()
        return StepBack(*caches, state.tokens, state.lead, state.ages)

    def undo(self, state: WorldState, back: StepBack) -> WorldState:
        """The state before the last step, in the same memory, or in that of ``join`` and ``split`` since.

        Args:
            state: The latest of its sessions, one step after ``back`` was remembered, or after a later step was undone.
            back: Of the state to return to. With one for each step, as many steps can be undone, the last one first.
        """
        self._require_latest(state)
        state.dynamics.withdraw(back.dynamics)
        state.decoder.withdraw(back.decoder)
        version = state.dynamics.version
        return state._replace(tokens=back.tokens, lead=back.lead, ages=back.ages, version=version)

    def join(self, states: Sequence[WorldState]) -> WorldState:
        """The sessions of several states in one, in memory of its own, to be stepped together.

        Raises:
            ValueError: If there is none, one is not the latest of its sessions, or they are sampled differently.
        """
        for state in states:
            self._require_latest(state)
        kinds = {state.sampling for state in states}
        if len(kinds) != 1:
            raise ValueError(f"states must be at least one, all sampled alike, got {len(states)} of {kinds}")
        dynamics = FrameCache.join([state.dynamics for state in states])
        return WorldState(
            dynamics=dynamics,
            decoder=FrameCache.join([state.decoder for state in states]),
            tokens=torch.cat([state.tokens for state in states]),
            lead=torch.cat([state.lead for state in states]),
            seeds=tuple(seed for state in states for seed in state.seeds),
            ages=tuple(age for state in states for age in state.ages),
            sampling=states[0].sampling,
            version=dynamics.version,
        )

    def split(self, state: WorldState) -> list[WorldState]:
        """Every session by itself, in memory of its own."""
        self._require_latest(state)
        rows = range(len(state.seeds))
        return [
            state._replace(
                dynamics=state.dynamics.take(row),
                decoder=state.decoder.take(row),
                tokens=state.tokens[row : row + 1],
                lead=state.lead[row : row + 1],
                seeds=state.seeds[row : row + 1],
                ages=state.ages[row : row + 1],
            )
            for row in rows
        ]

    @torch.no_grad()
    def replace(
        self, state: WorldState, rows: Sequence[int], prompt_videos: Tensor, seeds: Sequence[int]
    ) -> tuple[WorldState, Tensor]:
        """Begin the named rows anew; the others stay as they are.

        Args:
            state: B sessions, the latest state of them.
            rows: R row numbers.
            prompt_videos: (R, P, C, H, W).
            seeds: R.

        Returns:
            The state with those rows replaced, and their first frames (R, C, H, W).
        """
        self._require_latest(state)
        where = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        if len(where) != len(prompt_videos) or where.unique().numel() != len(where):
            raise ValueError(f"rows must be {len(prompt_videos)} different row numbers, got {list(rows)}")
        require_ids("rows", where, len(state.seeds))
        self._require_prompts(prompt_videos, seeds)
        tokens, lead, videos = self._settle_prompts(prompt_videos, rows, state.dynamics, state.decoder)
        merged = state._replace(
            tokens=state.tokens.index_copy(0, where, tokens),
            lead=state.lead.index_copy(0, where, lead),
            seeds=_put(state.seeds, rows, [int(seed) for seed in seeds]),
            ages=_put(state.ages, rows, [0] * len(rows)),
            version=state.dynamics.version,
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
        state, videos = self._open(prompt_videos, seeds, self.sampling(maskgit_steps, temperature))
        frames = [videos]
        for actions in latent_actions.unbind(dim=1):
            state, frame = self.step(state, actions)
            frames.append(frame[:, None])
        return torch.cat(frames, dim=1)

    def sampling(self, maskgit_steps: int | None = None, temperature: float | None = None) -> SamplingConfig:
        """The config's, but for what is given."""
        usual = self.config.sampling
        return replace(
            usual,
            maskgit_steps=usual.maskgit_steps if maskgit_steps is None else maskgit_steps,
            temperature=usual.temperature if temperature is None else temperature,
        )

    def _require_latest(self, state: WorldState) -> None:
        if state.version != state.dynamics.version:
            raise ValueError(
                f"state must be the latest of its sessions, got version {state.version} of {state.dynamics.version}: "
                "fork a state to step it more than once"
            )

    def _require_prompts(self, prompt_videos: Tensor, seeds: Sequence[int]) -> None:
        require_videos(prompt_videos, 3, self.config.height, self.config.width)
        require_pixels("prompt_videos", prompt_videos)
        if len(seeds) != len(prompt_videos) or any(seed < 0 for seed in seeds):
            raise ValueError(f"seeds must be {len(prompt_videos)} numbers of 0 or more, got {list(seeds)}")

    def _open(self, prompt_videos: Tensor, seeds: Sequence[int], sampling: SamplingConfig) -> tuple[WorldState, Tensor]:
        self._require_prompts(prompt_videos, seeds)
        batch = len(prompt_videos)
        dynamics, decoder = self.dynamics.empty_cache(batch), self.tokenizer.empty_cache(batch)
        tokens, lead, videos = self._settle_prompts(prompt_videos, range(batch), dynamics, decoder)
        own = tuple(int(seed) for seed in seeds)
        return WorldState(dynamics, decoder, tokens, lead, own, (0,) * batch, sampling, dynamics.version), videos

    def _settle_prompts(
        self, prompt_videos: Tensor, rows: Sequence[int], dynamics: FrameCache, decoder: FrameCache
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Put prompts into rows of the caches; the last tokens (R, 1, N), the action that led to them, all frames."""
        prompts = prompt_videos.to(self.device)[:, -self.config.context_length :]
        tokens = self.tokenizer.encode(prompts)
        frames = tokens.shape[1]
        lead = self.dynamics.previous_actions(self.label(prompts) if frames > 1 else tokens[:, :0, 0])
        seen = self.dynamics(tokens[:, :-1], lead[:, :-1])[1] if frames > 1 else []
        dynamics.begin(rows, frames - 1, seen)
        videos, rebuilt = self.tokenizer.decode_and_remember(tokens)
        decoder.begin(rows, frames, rebuilt)
        return tokens[:, -1:], lead[:, -1:], videos

    def _draw(self, state: WorldState, lead: Tensor) -> Tensor:
        """(B, 1, N) tokens of the next frame."""
        both_leads = torch.cat([state.lead, lead], dim=1)
        is_first = True

        def predict(tokens: Tensor) -> Tensor:
            nonlocal is_first
            if is_first:
                is_first = False
                both = torch.cat([state.tokens, tokens[:, None]], dim=1)
                features = self.dynamics.step(both, both_leads, state.dynamics, first=0)
            else:
                features = self.dynamics.step(tokens[:, None], lead, state.dynamics, first=1)
            return self.dynamics.logits(features[-1])

        uniforms = draw_uniforms(state.seeds, state.ages, state.sampling, self.config.tokens_per_frame)
        empty = torch.full((len(lead), self.config.tokens_per_frame), self.dynamics.hidden_token, device=self.device)
        return sample(predict, empty, self.dynamics.hidden_token, state.sampling, uniforms.to(self.device))[:, None]


def draw_uniforms(seeds: Sequence[int], ages: Sequence[int], sampling: SamplingConfig, places: int) -> Tensor:
    """(B, maskgit_steps, 2, places) in [0, 1): each row's follow from its seed and age alone."""
    shape = (sampling.maskgit_steps, 2, places)
    rows = [
        np.random.default_rng([seed, age]).random(shape, dtype=np.float32)
        for seed, age in zip(seeds, ages, strict=True)
    ]
    return torch.from_numpy(np.stack(rows))


def _put(old: tuple[int, ...], rows: Sequence[int], new: Sequence[int]) -> tuple[int, ...]:
    values = list(old)
    for row, value in zip(rows, new, strict=True):
        values[row] = value
    return tuple(values)
