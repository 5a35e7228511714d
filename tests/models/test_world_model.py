"""Playing the world: cached steps equal full recomputation, actions count, and wrong arguments are refused."""

import copy
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from genie_gym.configs import WorldConfig
from genie_gym.models import maskgit
from genie_gym.models.world_model import GenieWorldModel
from tests.models.world_helpers import ACTIONS, Make, Videos, play, rollout_uncached, same, some_actions, tensors

KINDS = ["additive", "token", "film", "full", "spatial", "fsq", "st-lam", "token-lam", "folded", "conv"]


class Drawn(NamedTuple):
    """Tokens, and the probabilities and uniform numbers that they were drawn with."""

    probabilities: Tensor
    uniforms: Tensor
    tokens: Tensor


def record_draws(monkeypatch: pytest.MonkeyPatch) -> list[Drawn]:
    """Collect the draws of each MaskGIT step from now on."""
    drawn: list[Drawn] = []
    draw_rows = maskgit._draw_rows

    def spy(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        tokens, log_probabilities = draw_rows(logits, temperature, uniforms)
        drawn.append(Drawn(torch.softmax(logits.double() / temperature, dim=-1), uniforms, tokens))
        return tokens, log_probabilities

    monkeypatch.setattr(maskgit, "_draw_rows", spy)
    return drawn


def differ_by_rounding(some: list[Drawn], others: list[Drawn], row: int) -> bool:
    """Return whether the first tokens that differ in a row were drawn by numbers on the border between two tokens."""
    for one, other in zip(some, others, strict=True):
        differ = one.tokens[row] != other.tokens[row]
        if differ.any():
            distance = (one.probabilities[row].cumsum(dim=-1) - one.uniforms[row][:, None]).abs().amin(dim=-1)
            return bool((distance[differ] < 1e-5).all())
    return False


@pytest.mark.parametrize("prompt_frames", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_steps_equal_full_recomputation(
    make_world: Make, random_videos: Videos, monkeypatch: pytest.MonkeyPatch, kind: str, prompt_frames: int
) -> None:
    """Tokens and frames agree over 40 frames, five times the context, with equal random numbers.

    The two round differently. In about one of a hundred rows the number that draws a token lies between their results,
    and the row goes another way from there; it must have no other reason.
    """
    world, prompt, actions = make_world(kind), random_videos(4, prompt_frames), some_actions(4, 40)
    draws = record_draws(monkeypatch)
    played = world.rollout(prompt, actions, seed=5)
    own, draws[:] = list(draws), []
    recomputed = rollout_uncached(world, prompt, actions, seed=5)
    assert len(own) == len(draws) == 40 * world.config.sampling.maskgit_steps
    assert len(played[0, prompt_frames:].flatten(1).unique(dim=0)) == 40
    are_same = [same(one, other) for one, other in zip(played, recomputed, strict=True)]
    assert sum(are_same) >= 3, are_same
    assert all(is_same or differ_by_rounding(own, draws, row) for row, is_same in enumerate(are_same))


@pytest.mark.parametrize("kind", KINDS[:4])
def test_recomputing_a_window_equals_recomputing_all_within_the_context(
    make_world: Make, random_videos: Videos, kind: str
) -> None:
    """Beyond the context they differ: deeper layers still know of older frames."""
    world, prompt, actions = make_world(kind), random_videos(2, 1), some_actions(2, 40)
    context = world.config.context_length
    whole = rollout_uncached(world, prompt, actions, seed=5)
    windowed = rollout_uncached(world, prompt, actions, seed=5, window=context)
    assert same(windowed[:, :context], whole[:, :context])
    assert not same(windowed, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_a_rollout(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Frame by frame, also beyond the context."""
    world, prompt, actions = make_world(kind), random_videos(3, 2), some_actions(3, 12)
    rolled = world.rollout(prompt, actions, seed=7)
    assert rolled.shape == (3, 14, 3, 64, 64)
    state, first = world.reset(prompt, [7, 8, 9])
    assert torch.equal(rolled[:, 1], first)
    assert torch.equal(rolled[:, 2:], play(world, state, actions)[1])
    assert 0 <= rolled.min() < rolled.max() <= 1
    assert rolled.dtype == torch.float32


def test_a_rollout_of_no_actions_is_the_prompt_rebuilt(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    prompt = random_videos(2, 3)
    rebuilt = tiny_world.rollout(prompt, some_actions(2, 0))
    assert same(rebuilt, tiny_world.tokenizer.decode(tiny_world.tokenizer.encode(prompt)))


@pytest.mark.parametrize("kind", ["additive", "token", "film"])
def test_actions_change_the_frame(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Every two actions give different frames, from the same states and with the same noise."""
    world, rows = make_world(kind), 4
    state, _ = world.reset(random_videos(rows, 1), range(rows))
    frames = [world.step(world.fork(state), torch.full((rows,), action))[1] for action in range(ACTIONS)]
    for one, other in itertools.combinations(frames, 2):
        assert not same(one, other)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_an_action_changes_no_frame_before_the_next(make_world: Make, random_videos: Videos, kind: str) -> None:
    """``latent_actions[:, 3]`` changes the frame that it leads to and no earlier one."""
    world, prompt, actions = make_world(kind), random_videos(4, 2), some_actions(4, 6)
    other = actions.clone()
    other[:, 3] = (other[:, 3] + 1) % ACTIONS
    changes = (world.rollout(prompt, actions) - world.rollout(prompt, other)).abs().amax(dim=(0, 2, 3, 4))
    assert (changes[: 2 + 3] == 0).all()
    assert changes[2 + 3] > 1e-3


@pytest.mark.parametrize("kind", ["additive", "st-lam", "token-lam"])
def test_a_prompt_is_conditioned_on_its_labels(make_world: Make, random_videos: Videos, kind: str) -> None:
    """The previous action is "none" for frame 0, and the label of transition t for frame t + 1."""
    world, prompt = make_world(kind), random_videos(8, 4)
    given: list[Tensor] = []
    world.dynamics.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    state, _ = world.reset(prompt, range(8))
    labels = world.label(prompt)
    whole = torch.cat([torch.full((8, 1), ACTIONS), labels], dim=1)
    assert torch.equal(given[0], whole[:, :-1])
    assert torch.equal(state.previous_actions, whole[:, -1:])
    assert labels.unique().numel() > 2


def test_a_prompt_counts_up_to_the_context(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Frames before the last one change the next frames; those beyond the context do not."""
    prompt, actions = random_videos(2, 12), some_actions(2, 3)
    context = tiny_world.config.context_length
    played = tiny_world.rollout(prompt, actions)
    assert played.shape[1] == context + 3
    shorter = tiny_world.rollout(prompt[:, -context:], actions)
    assert torch.equal(played, shorter)
    for start in (-2, -1):
        assert not same(tiny_world.rollout(prompt[:, start:], actions)[:, -3:], played[:, -3:])


def test_a_context_of_one_frame(tiny_config: WorldConfig, vary: Any) -> None:
    """Such a world caches no earlier frame, and still plays."""
    world = GenieWorldModel(vary(tiny_config, {"context_length": 1})).eval()
    state, _ = world.reset(torch.rand(2, 1, 3, 64, 64), [0, 1])
    state, frames = play(world, state, some_actions(2, 4))
    assert frames.shape == (2, 4, 3, 64, 64)


def test_oblong_frames(make_world: Make, random_videos: Videos) -> None:
    world = make_world("oblong")
    frames = world.rollout(random_videos(2, 2, 45, 77), some_actions(2, 8))
    assert frames.shape == (2, 10, 3, 45, 77)


def test_bfloat16(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """The reconstructed prompt is near that of float32, frames are float32 in [0, 1], and the KV cache is bfloat16."""
    low, prompt = copy.deepcopy(tiny_world), random_videos(2, 2)
    low.set_precision("bfloat16")
    states = [world.reset(prompt, [0, 1]) for world in (tiny_world, low)]
    assert (states[0][1] - states[1][1]).abs().mean() < 0.02
    state, frames = play(low, states[1][0], some_actions(2, 10))
    assert frames.dtype == torch.float32
    assert 0 <= frames.min() < frames.max() <= 1
    assert {tensor.dtype for tensor in tensors(state)} == {torch.bfloat16}


def test_wrong_arguments(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Errors name the argument and its value."""
    prompt = random_videos(2, 1)
    state, _ = tiny_world.reset(prompt, [0, 1])
    zeros = torch.zeros(2, dtype=torch.int64)
    wrong: list[tuple[str, Callable[[], Any]]] = [
        (r"videos must be .* got \(2, 1, 3, 64, 32\)", lambda: tiny_world.reset(prompt[..., :32], [0, 1])),
        (r"videos must be .* got \(2, 3, 64, 64\)", lambda: tiny_world.reset(prompt[:, 0], [0, 1])),
        (r"videos must be .*uint8", lambda: tiny_world.reset(prompt.byte(), [0, 1])),
        (r"seeds must be 2 .* got \[0\]", lambda: tiny_world.reset(prompt, [0])),
        (r"seeds must be 2 .* got \[0, -1\]", lambda: tiny_world.reset(prompt, [0, -1])),
        (r"maskgit_steps must be positive, got 0", lambda: tiny_world.reset(prompt, [0, 1], maskgit_steps=0)),
        (r"temperature must be positive, got -1", lambda: tiny_world.reset(prompt, [0, 1], temperature=-1.0)),
        (r"latent_actions must be \(2,\), got \(1,\)", lambda: tiny_world.step(state, zeros[:1])),
        (r"latent_actions must be in \[0, 8\), got 8..8", lambda: tiny_world.step(state, zeros + 8)),
        (r"latent_actions must be int64, got torch.float32", lambda: tiny_world.step(state, zeros.float())),
        (r"latent_actions must be \(2, S\), got \(2,\)", lambda: tiny_world.rollout(prompt, zeros)),
        (r"rows must be 2 different .* got \[1, 1\]", lambda: tiny_world.replace(state, [1, 1], prompt, [0, 1])),
        (r"rows must be 2 different .* got \[1\]", lambda: tiny_world.replace(state, [1], prompt, [0, 1])),
        (r"rows must be in \[0, 2\), got 0..2", lambda: tiny_world.replace(state, [0, 2], prompt, [0, 1])),
        (r"rows must be in \[0, 2\), got -1..0", lambda: tiny_world.replace(state, [0, -1], prompt, [0, 1])),
    ]
    for message, call in wrong:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5, 1.5])
def test_prompts_out_of_range_are_refused(tiny_world: GenieWorldModel, value: float) -> None:
    videos = torch.rand(2, 2, 3, 64, 64)
    videos[1, 0, 2, 5, 5] = value
    with pytest.raises(ValueError, match="prompt_videos"):
        tiny_world.reset(videos, [0, 1])
