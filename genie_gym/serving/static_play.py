"""Play in fixed memory: every step is the same operations on the same tensors, on a GPU as one CUDA graph.

Nothing in a step depends on the age of a row or on a value that the host would have to read. Random numbers and places
in the KV caches are computed on the device from tensors of seeds and ages, and the frames equal those of
``GenieWorldModel.step`` with the same starts, seeds and latent actions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genie_gym.checks import require
from genie_gym.data.frames import round_pixels, to_float
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.models.world_state import WorldState
from genie_gym.nn.attention import KVCache
from genie_gym.nn.frame_cache import FrameCache
from genie_gym.serving.packing import playing_threads
from genie_gym.serving.seeded_uniforms import MOST_SEEDS, SeededUniforms

_CLIPS_AT_ONCE = 32
"""Number of start clips that are read together."""
_WARM_UP_STEPS = 3
"""Steps before a capture, in which libraries choose their kernels and allocate their memory."""


class ReadClips(NamedTuple):
    """M clips as a world has read them, from which rows start without another pass over them."""

    tokens: Tensor
    """(M, 1, N) tokens of the last frame"""
    previous_actions: Tensor
    """(M, 1) latent action that led to it"""
    frames: Tensor
    """(M, H, W, 3) uint8, the last frame as the tokenizer rebuilds it"""
    caches: tuple[list[KVCache | None], list[KVCache | None]]
    """KV caches of dynamics and decoder, as long as their settled frames"""
    settled: tuple[int, int]
    """number of settled frames in either"""


class StaticPlay:
    """B rows of play in one world, in memory that stays where it is.

    On a GPU the step is captured as a CUDA graph here, and ``step`` replays it. Elsewhere its operations run one by
    one. All rows must be started before the first step. A world that is changed afterwards, or prepared anew, needs a
    new object. It can be neither copied nor pickled on a GPU.

    Args:
        world: World prepared by ``serving.prepare``, on its device.
        clips: (M, P, H, W, 3) uint8, the clips that rows start from; P of at least 1.
        rows: Number of rows, B.
        maskgit_steps: MaskGIT steps per frame; None for the config's.
        temperature: Sampling temperature; None for the config's.
    """

    @torch.no_grad()
    def __init__(
        self,
        world: GenieWorldModel,
        clips: np.ndarray,
        rows: int,
        maskgit_steps: int | None = None,
        temperature: float | None = None,
    ) -> None:
        self.world, self.device = world, world.device
        sampling, positions = world.sampling(maskgit_steps, temperature), world.config.tokens_per_frame
        self._clips = _read_clips(world, clips)
        self._seeds, self._ages, self._actions = self._zeros(rows), self._zeros(rows), self._zeros(rows, 1)
        self._state = WorldState(
            dynamics=world.dynamics.empty_cache(rows).make_static(self.device),
            decoder=world.tokenizer.empty_cache(rows).make_static(self.device),
            frames=None,
            tokens=self._zeros(rows, 1, positions),
            previous_actions=self._zeros(rows, 1),
            seeds=(),
            ages=(),  # both are tensors here
            sampling=sampling,
            version=0,
        )
        self._numbers_shape = (rows, sampling.maskgit_steps, 2, positions)
        self._draw_numbers = SeededUniforms(sampling.maskgit_steps * 2 * positions, self.device)
        self._frames = torch.zeros(rows, *self._clips.frames.shape[1:], dtype=torch.uint8, device=self.device)
        self._weights = world.state_dict()  # a graph reads their memory, even after the world has been prepared anew
        self._graph = self._capture() if self.device.type == "cuda" else None

    @property
    def frames(self) -> Tensor:
        """The present frames, (B, H, W, 3) uint8, in the memory that the next step and start overwrite."""
        return self._frames

    @torch.no_grad()
    def start(self, rows: Sequence[int], clips: Sequence[int], seeds: Sequence[int]) -> None:
        """Start some rows anew and leave the others as they are.

        Args:
            rows: R different row numbers.
            clips: R numbers of clips to start from.
            seeds: R seeds, which decide the random numbers of what follows.

        Raises:
            ValueError: If a seed is not in [0, 2**32).
        """
        require(all(0 <= seed < MOST_SEEDS for seed in seeds), "seeds", list(seeds), f"in [0, {MOST_SEEDS})")
        numbers = torch.tensor([list(rows), list(clips), list(seeds)], device=self.device)
        places, chosen, drawn = numbers.unbind()
        for cache, kept, settled in zip(self._caches, self._clips.caches, self._clips.settled, strict=True):
            cache.settled[places] = settled
            for own, other in zip(cache.blocks, kept, strict=True):
                if own is not None and other is not None:
                    own.keys[places, :, :, :settled] = other.keys[chosen]
                    own.values[places, :, :, :settled] = other.values[chosen]
        self._state.tokens[places] = self._clips.tokens[chosen]
        self._state.previous_actions[places] = self._clips.previous_actions[chosen]
        self._frames[places] = self._clips.frames[chosen]
        self._seeds[places], self._ages[places] = drawn, 0

    @torch.no_grad()
    def step(self, latent_actions: Tensor) -> Tensor:
        """Generate the next frame of every row.

        Args:
            latent_actions: (B,) int64 in [0, A), on any device. They are not checked: on a GPU that would wait for all
                queued work.

        Returns:
            ``frames``.
        """
        self._actions.copy_(latent_actions[:, None])
        if self._graph is None:
            with playing_threads(self.world):
                self._run()
        else:
            self._graph.replay()
        return self._frames

    @property
    def _caches(self) -> tuple[FrameCache, FrameCache]:
        return self._state.dynamics, self._state.decoder

    def _run(self) -> None:
        """Take a step from and into the fixed memory; a CUDA graph repeats exactly what this queues."""
        state = self._state
        numbers = self._draw_numbers(self._seeds, self._ages).view(self._numbers_shape)
        tokens = self.world.generate(state, self._actions, numbers)
        videos = self.world.tokenizer.decode_next(tokens, state.decoder)[:, 0]
        state.tokens.copy_(tokens)
        state.previous_actions.copy_(self._actions)
        self._ages += 1
        self._frames.copy_(round_pixels(videos))

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Return the step as a graph; the rows' state is void after it."""
        with torch.cuda.device(self.device):
            present, stream = torch.cuda.current_stream(), torch.cuda.Stream()
            stream.wait_stream(present)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_STEPS):
                    self._run()
            present.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._run()
        return graph

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=self.device)


def _read_clips(world: GenieWorldModel, clips: np.ndarray) -> ReadClips:
    """Read clips (M, P, H, W, 3) a few at a time, and keep no more of the caches than their settled frames."""
    parts = [_read_some(world, clips[first : first + _CLIPS_AT_ONCE]) for first in range(0, len(clips), _CLIPS_AT_ONCE)]
    caches = [
        [
            None if blocks[0] is None else KVCache(*(torch.cat(each) for each in zip(*blocks, strict=True)))
            for blocks in zip(*(part.caches[which] for part in parts), strict=True)
        ]
        for which in range(2)
    ]
    return ReadClips(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.previous_actions for part in parts]),
        torch.cat([part.frames for part in parts]),
        (caches[0], caches[1]),
        parts[0].settled,
    )


def _read_some(world: GenieWorldModel, clips: np.ndarray) -> ReadClips:
    state, videos = world.reset(to_float(clips), range(len(clips)))
    settled = int(state.dynamics.settled[0]), int(state.decoder.settled[0])
    dynamics, decoder = (
        [
            None if block is None else KVCache(*(part[..., :count, :].clone() for part in block))
            for block in cache.blocks
        ]
        for cache, count in zip((state.dynamics, state.decoder), settled, strict=True)
    )
    return ReadClips(state.tokens, state.previous_actions, round_pixels(videos), (dynamics, decoder), settled)
