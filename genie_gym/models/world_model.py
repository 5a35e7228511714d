"""The three models as one world: a prompt, then a frame for every latent action (Genie, sec. 2.2).

A world plays a batch of rows. Each row's frames depend on its own prompt, seed and latent actions alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from genie_gym.configs import SamplingConfig, WorldConfig
from genie_gym.models.base import (
    Model,
    require_ids,
    require_pixels,
    require_threads,
    require_unit_videos,
    require_videos,
)
from genie_gym.models.dynamics import MaskGITDynamics
from genie_gym.models.latent_action_model import build_action_model
from genie_gym.models.maskgit import Draw, draw, draw_uniforms, sample
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_state import StepBack, WorldState, put_rows, require_latest, take_row
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.real_actions import RealActionConfig


class GenieWorldModel(nn.Module):
    """Video tokenizer, latent action model and dynamics as one world that is played frame by frame.

    Args:
        config: Sizes and sampling.
        start_clips: (M, P, H, W, 3) uint8, clips to start from when no prompt is given, oldest frame first.

    Raises:
        ValueError: If ``start_clips`` has another shape.
    """

    def __init__(self, config: WorldConfig, start_clips: np.ndarray | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = VideoTokenizer(config)
        self.latent_action_model = build_action_model(config)
        self.dynamics = MaskGITDynamics(config)
        self.start_clips = self._require_clips(start_clips)
        self.draw_tokens: Draw = draw
        self.set_precision("float32" if config.precision == "auto" else config.precision)

    def _require_clips(self, clips: np.ndarray | None) -> np.ndarray:
        """Return start clips after checking their shape; None becomes no clips."""
        height, width = self.config.height, self.config.width
        if clips is None:
            return np.empty((0, 1, height, width, 3), dtype=np.uint8)
        fits = clips.ndim == 5 and clips.shape[1] > 0 and clips.shape[2:] == (height, width, 3)
        if not fits or clips.dtype != np.uint8:
            wanted = f"(M, P, {height}, {width}, 3) uint8 with at least one frame each"
            raise ValueError(f"start_clips must be {wanted}, got {clips.shape} {clips.dtype}")
        return clips

    def set_precision(self, precision: str) -> None:
        """Compute in ``float32`` or ``bfloat16`` from now on."""
        for model in self._models:
            model.set_precision(precision)

    def freeze(self) -> "GenieWorldModel":
        """Switch to eval mode without gradients, and return the world; ``genie_gym.serving`` makes it fast."""
        return self.eval().requires_grad_(False)

    @property
    def _models(self) -> tuple[Model, ...]:
        return self.tokenizer, self.latent_action_model, self.dynamics

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.dynamics.output_bias.device

    @torch.no_grad()
    def label(self, videos: Tensor) -> Tensor:
        """Infer the latent actions (B, T - 1) of videos (B, T, C, H, W) in [0, 1]; ``genie_gym.label`` takes files.

        Raises:
            ValueError: If they are no such videos, or the world was trained on real actions and infers none. Values on
                a GPU are not checked, since that would wait for it.
        """
        require_threads()
        require_unit_videos(videos)
        model = self.latent_action_model
        return model.label(self.tokenizer.encode(videos) if model.reads_tokens else videos)

    def prompt_actions(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """Return the actions (B, P - 1) in prompts (B, P, ...): inferred, or in a world of real ones A, for unknown."""
        if isinstance(self.config.latent_action_model, RealActionConfig):
            return torch.full_like(tokens[:, 1:, 0], self.dynamics.no_action)
        return self.label(prompts) if tokens.shape[1] > 1 else tokens[:, :0, 0]

    @torch.no_grad()
    def reset(
        self,
        prompt_videos: Tensor,
        seeds: Sequence[int],
        maskgit_steps: int | None = None,
        temperature: float | None = None,
    ) -> tuple[WorldState, Tensor]:
        """Start B rows from prompts.

        Args:
            prompt_videos: (B, P, C, H, W) float in [0, 1], oldest frame first; only the last ``context_length`` frames
                are used. More than one frame shows how things move.
            seeds: One seed per row.
            maskgit_steps: MaskGIT steps per frame; ``None`` for the config's.
            temperature: Sampling temperature; ``None`` for the config's.

        Returns:
            The state, and the last prompt frame as the tokenizer rebuilds it, (B, C, H, W).

        Raises:
            ValueError: If an argument has a wrong shape, type or range; the message names it.
        """
        state = self.begin(prompt_videos, seeds, maskgit_steps, temperature)
        return state, self.show(state)

    @torch.no_grad()
    def begin(
        self,
        prompt_videos: Tensor,
        seeds: Sequence[int],
        maskgit_steps: int | None = None,
        temperature: float | None = None,
    ) -> WorldState:
        """Do what ``reset`` does, but decode nothing unless the decoder needs all frames in order."""
        return self._open(prompt_videos, seeds, self.sampling(maskgit_steps, temperature))[0]

    @torch.no_grad()
    def show(self, state: WorldState, rows: Sequence[int] | slice = slice(None)) -> Tensor:
        """Return the present frames (R, C, H, W) of the given rows, by default of all; the state stays as it is."""
        if state.frames is not None:
            return state.frames[rows]
        return self.tokenizer.decode_alone(state.tokens[rows])[:, 0]

    @torch.no_grad()
    def step(self, state: WorldState, latent_actions: Tensor) -> tuple[WorldState, Tensor]:
        """Generate the next frame of every row.

        The present frame and the hidden next one go through the dynamics together, so a frame costs ``maskgit_steps``
        passes and not one more.

        Args:
            state: Latest state of its rows, from ``reset``, ``step`` or ``replace``. Its memory is reused by the next
                state; ``fork`` it first to come back to it.
            latent_actions: (B,) int64 in [0, A).

        Returns:
            The next state and frames (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If the actions have a wrong shape, type or range, or the state has been stepped before.
        """
        state = self.advance(state, latent_actions)
        return state, self.show(state)

    @torch.no_grad()
    def advance(self, state: WorldState, latent_actions: Tensor) -> WorldState:
        """Do what ``step`` does, but decode nothing unless the decoder needs all frames in order."""
        require_threads()
        require_latest(state)
        if tuple(latent_actions.shape) != (len(state.seeds),):
            raise ValueError(f"latent_actions must be ({len(state.seeds)},), got {tuple(latent_actions.shape)}")
        require_ids("latent_actions", latent_actions, self.config.num_latent_actions)
        actions = latent_actions.to(self.device)[:, None]
        uniforms = draw_uniforms(state.seeds, state.ages, state.sampling, self.config.tokens_per_frame)
        tokens = self.generate(state, actions, uniforms.to(self.device))
        alone = self.tokenizer.decodes_alone
        frames = None if alone else self.tokenizer.decode_next(tokens, state.decoder)[:, 0]
        ages = tuple(age + 1 for age in state.ages)
        version = state.dynamics.version
        return state._replace(frames=frames, tokens=tokens, previous_actions=actions, ages=ages, version=version)

    def generate(self, state: WorldState, actions: Tensor, uniforms: Tensor) -> Tensor:
        """Generate the next frame of every row by operations on tensors alone, without checks or host memory.

        Args:
            state: State of B rows, whose dynamics' cache moves on to the next frame; its tensors stay as they are.
            actions: (B, 1) int64 in [0, A).
            uniforms: (B, maskgit_steps, 2, N) in [0, 1), the frame's random numbers.

        Returns:
            Tokens (B, 1, N).
        """
        tokens = self._draw(state, actions, uniforms)
        state.dynamics.advance()
        return tokens

    def fork(self, state: WorldState) -> WorldState:
        """Copy a state into new memory, so that both can be stepped, each once."""
        require_latest(state)
        return state._replace(dynamics=state.dynamics.clone(), decoder=state.decoder.clone())

    def remember(self, state: WorldState) -> StepBack:
        """Copy what the next step from this state overwrites, for ``undo``; call it before that step."""
        require_latest(state)
        caches = state.dynamics.read_oldest(), state.decoder.read_oldest()
        return StepBack(*caches, state.frames, state.tokens, state.previous_actions, state.ages)

    def undo(self, state: WorldState, back: StepBack) -> WorldState:
        """Return the state from which the last step was taken, in the memory of the present one.

        Args:
            state: Latest state of its rows, exactly one step after ``back`` was remembered: undo later steps first.
                The rows may have gone through ``join`` and ``split`` in between.
            back: Result of ``remember`` before that step. With one per step, several steps can be undone, the last one
                first.

        Raises:
            ValueError: If the state is not the latest one.
        """
        require_latest(state)
        state.dynamics.withdraw(back.dynamics)
        state.decoder.withdraw(back.decoder)
        tokens, actions, ages = back.tokens, back.previous_actions, back.ages
        version = state.dynamics.version
        return state._replace(frames=back.frames, tokens=tokens, previous_actions=actions, ages=ages, version=version)

    def join(self, states: Sequence[WorldState]) -> WorldState:
        """Join the rows of several states into one state in new memory, to be stepped together.

        Raises:
            ValueError: If there is no state, one has been stepped before, or they are sampled differently.
        """
        for state in states:
            require_latest(state)
        kinds = {state.sampling for state in states}
        if len(kinds) != 1:
            raise ValueError(f"states must be at least one, all sampled alike, got {len(states)} of {kinds}")
        dynamics = FrameCache.join([state.dynamics for state in states])
        return WorldState(
            dynamics=dynamics,
            decoder=FrameCache.join([state.decoder for state in states]),
            frames=None if states[0].frames is None else torch.cat([self.show(state) for state in states]),
            tokens=torch.cat([state.tokens for state in states]),
            previous_actions=torch.cat([state.previous_actions for state in states]),
            seeds=tuple(seed for state in states for seed in state.seeds),
            ages=tuple(age for state in states for age in state.ages),
            sampling=states[0].sampling,
            version=dynamics.version,
        )

    def split(self, state: WorldState) -> list[WorldState]:
        """Split a state into one state per row, each in new memory."""
        require_latest(state)
        return [take_row(state, row) for row in range(len(state.seeds))]

    @torch.no_grad()
    def replace(
        self, state: WorldState, rows: Sequence[int], prompt_videos: Tensor, seeds: Sequence[int]
    ) -> tuple[WorldState, Tensor]:
        """Start some rows anew from prompts and leave the others as they are.

        Args:
            state: Latest state of B rows.
            rows: R row numbers.
            prompt_videos: (R, P, C, H, W) float in [0, 1].
            seeds: R seeds.

        Returns:
            The state with those rows replaced, and their first frames (R, C, H, W).

        Raises:
            ValueError: If an argument has a wrong shape, type or range; the message names it.
        """
        state = self.restart(state, rows, prompt_videos, seeds)
        return state, self.show(state, rows)

    @torch.no_grad()
    def restart(
        self, state: WorldState, rows: Sequence[int], prompt_videos: Tensor, seeds: Sequence[int]
    ) -> WorldState:
        """Do what ``replace`` does, but decode nothing unless the decoder needs all frames in order."""
        require_latest(state)
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        if len(index) != len(prompt_videos) or index.unique().numel() != len(index):
            raise ValueError(f"rows must be {len(prompt_videos)} different row numbers, got {list(rows)}")
        require_ids("rows", index, len(state.seeds))
        self._require_prompts(prompt_videos, seeds)
        tokens, actions, frames = self._settle_prompts(prompt_videos, rows, state.dynamics, state.decoder)
        return state._replace(
            frames=None if frames is None else self.show(state).index_copy(0, index, frames),
            tokens=state.tokens.index_copy(0, index, tokens[:, -1:]),
            previous_actions=state.previous_actions.index_copy(0, index, actions),
            seeds=put_rows(state.seeds, rows, [int(seed) for seed in seeds]),
            ages=put_rows(state.ages, rows, [0] * len(rows)),
            version=state.dynamics.version,
        )

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
            prompt_videos: (B, P, C, H, W) float in [0, 1]; only the last ``context_length`` frames are used.
            latent_actions: (B, S) int64 in [0, A).
            seed: Seed of the first row.
            maskgit_steps: MaskGIT steps per frame; ``None`` for the config's.
            temperature: Sampling temperature; ``None`` for the config's.

        Returns:
            (B, min(P, context_length) + S, C, H, W) in [0, 1]: the prompt as the tokenizer rebuilds it, then S
            generated frames.

        Raises:
            ValueError: If an argument has a wrong shape, type or range; the message names it.
        """
        if latent_actions.ndim != 2 or len(latent_actions) != len(prompt_videos):
            raise ValueError(f"latent_actions must be ({len(prompt_videos)}, S), got {tuple(latent_actions.shape)}")
        seeds = range(seed, seed + len(prompt_videos))
        state, tokens = self._open(prompt_videos, seeds, self.sampling(maskgit_steps, temperature))
        frames = [self.tokenizer.decode(tokens)]
        for actions in latent_actions.unbind(dim=1):
            state, frame = self.step(state, actions)
            frames.append(frame[:, None])
        return torch.cat(frames, dim=1)

    def sampling(self, maskgit_steps: int | None = None, temperature: float | None = None) -> SamplingConfig:
        """Return the config's sampling settings with the given values replaced; ``None`` keeps the config's."""
        default = self.config.sampling
        return replace(
            default,
            maskgit_steps=default.maskgit_steps if maskgit_steps is None else maskgit_steps,
            temperature=default.temperature if temperature is None else temperature,
        )

    def _require_prompts(self, prompt_videos: Tensor, seeds: Sequence[int]) -> None:
        require_videos(prompt_videos, 3, self.config.height, self.config.width)
        require_pixels("prompt_videos", prompt_videos)
        if len(seeds) != len(prompt_videos) or any(seed < 0 for seed in seeds):
            raise ValueError(f"seeds must be {len(prompt_videos)} numbers of 0 or more, got {list(seeds)}")

    def _open(self, prompt_videos: Tensor, seeds: Sequence[int], sampling: SamplingConfig) -> tuple[WorldState, Tensor]:
        """Start rows from prompts as ``begin`` does, and return the state and the tokens (B, P, N) used."""
        self._require_prompts(prompt_videos, seeds)
        batch = len(prompt_videos)
        dynamics, decoder = self.dynamics.empty_cache(batch), self.tokenizer.empty_cache(batch)
        tokens, actions, frames = self._settle_prompts(prompt_videos, range(batch), dynamics, decoder)
        numbers, ages, version = tuple(int(seed) for seed in seeds), (0,) * batch, dynamics.version
        state = WorldState(dynamics, decoder, frames, tokens[:, -1:], actions, numbers, ages, sampling, version)
        return state, tokens

    def _settle_prompts(
        self, prompt_videos: Tensor, rows: Sequence[int], dynamics: FrameCache, decoder: FrameCache
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encode the last ``context_length`` frames of prompts (R, P, C, H, W) into rows of the caches.

        Returns:
            Tokens (R, P, N) of the frames used, the actions (R, 1) that led to the last one, and ``WorldState.frames``.
        """
        require_threads()
        prompts = prompt_videos.to(self.device)[:, -self.config.context_length :]
        tokens = self.tokenizer.encode(prompts)
        frames = tokens.shape[1]
        actions = self.dynamics.previous_actions(self.prompt_actions(prompts, tokens))
        keys_values = self.dynamics(tokens[:, :-1], actions[:, :-1])[1] if frames > 1 else []
        dynamics.begin(rows, frames - 1, keys_values)
        if self.tokenizer.decodes_alone:
            return tokens, actions[:, -1:], None
        videos, decoder_keys_values = self.tokenizer.decode_with_cache(tokens)
        decoder.begin(rows, frames, decoder_keys_values)
        return tokens, actions[:, -1:], videos[:, -1]

    def _draw(self, state: WorldState, actions: Tensor, uniforms: Tensor) -> Tensor:
        """Sample the tokens (B, 1, N) of the next frame under latent actions (B, 1); see ``generate``."""
        both_actions = torch.cat([state.previous_actions, actions], dim=1)
        is_first = True

        def predict(tokens: Tensor) -> Tensor:
            nonlocal is_first
            if is_first:  # the present frame's keys and values are not cached yet, so the first pass includes it
                is_first = False
                both = torch.cat([state.tokens, tokens[:, None]], dim=1)
                features = self.dynamics.step(both, both_actions, state.dynamics, first=0)
            else:
                features = self.dynamics.step(tokens[:, None], actions, state.dynamics, first=1)
            return self.dynamics.logits(features[-1])

        hidden = self.dynamics.hidden_token
        tokens = torch.full((len(actions), self.config.tokens_per_frame), hidden, device=self.device)
        return sample(predict, tokens, hidden, state.sampling, uniforms, self.draw_tokens)[:, None]
