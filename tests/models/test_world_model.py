"""The world as it is played: cached stepping against full recomputation, and rows that live by themselves."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from genie_gym.configs import WorldConfig
from genie_gym.models import maskgit
from genie_gym.models.uncached import rollout_uncached
from genie_gym.models.world_model import GenieWorldModel, WorldState

KINDS = ["additive", "token", "film", "full", "spatial", "fsq", "st-lam", "token-lam", "folded", "conv"]
Make = Callable[[str], GenieWorldModel]
Videos = Callable[..., Tensor]
ACTIONS = 8


def some_actions(batch: int, steps: int, seed: int = 0) -> Tensor:
    return torch.randint(ACTIONS, (batch, steps), generator=torch.Generator().manual_seed(seed))


def count_passes(world: GenieWorldModel) -> list[int]:
    """Frames in each pass through the dynamics from now on, while the world is played."""
    heard: list[int] = []
    step = world.dynamics.step

    def spy(tokens: Tensor, *inputs: Any, **named: Any) -> Tensor:
        heard.append(tokens.shape[1])
        return step(tokens, *inputs, **named)

    world.dynamics.step = spy  # type: ignore[method-assign, assignment]
    return heard


def listen_tokens(world: GenieWorldModel) -> list[Tensor]:
    """(B, 1, N) tokens of each frame drawn from now on."""
    heard: list[Tensor] = []
    draw = world._draw

    def spy(*inputs: Any) -> Tensor:
        heard.append(draw(*inputs))
        return heard[-1]

    world._draw = spy  # type: ignore[method-assign, assignment]
    return heard


class Drawn(NamedTuple):
    """What tokens were drawn from, and the tokens."""

    shares: Tensor
    uniforms: Tensor
    tokens: Tensor


def listen_draws(monkeypatch: pytest.MonkeyPatch) -> list[Drawn]:
    """Collect the draws of each MaskGIT step from now on."""
    heard: list[Drawn] = []
    draw_rows = maskgit._draw_rows

    def spy(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        tokens, log_shares = draw_rows(logits, temperature, uniforms)
        heard.append(Drawn(torch.softmax(logits.double() / temperature, dim=-1), uniforms, tokens))
        return tokens, log_shares

    monkeypatch.setattr(maskgit, "_draw_rows", spy)
    return heard


def part_at_a_border(some: list[Drawn], others: list[Drawn], row: int) -> bool:
    """Whether the first tokens that differ in a row were decided by numbers on the border between two tokens."""
    for one, other in zip(some, others, strict=True):
        differ = one.tokens[row] != other.tokens[row]
        if differ.any():
            distance = (one.shares[row].cumsum(dim=-1) - one.uniforms[row][:, None]).abs().amin(dim=-1)
            return bool((distance[differ] < 1e-5).all())
    return False


def tensors(state: WorldState) -> list[Tensor]:
    """The memory of past frames."""
    caches = [state.dynamics, state.decoder]
    return [part for cache in caches for block in cache.blocks if block is not None for part in block]


def play(world: GenieWorldModel, state: WorldState, latent_actions: Tensor) -> tuple[WorldState, Tensor]:
    """The state and frames (B, S, C, H, W) after actions (B, S)."""
    frames = []
    for actions in latent_actions.unbind(dim=1):
        state, frame = world.step(state, actions)
        frames.append(frame)
    return state, torch.stack(frames, dim=1)


def same(one: Tensor, other: Tensor) -> bool:
    """As near as two orders of adding up float32 numbers come; a token that differs is 1000 times as far."""
    return one.shape == other.shape and bool((one - other).abs().max() < 1e-4)


@pytest.mark.parametrize("prompt_frames", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_changes_nothing(
    make_world: Make, random_videos: Videos, monkeypatch: pytest.MonkeyPatch, kind: str, prompt_frames: int
) -> None:
    """Over 40 frames, five times the context, the tokens and frames of a full recomputation with the same noise.

    Both round in an order of their own, so that now and then (about once in a hundred rows) the number that decides a
    token lies between them, and that row goes another way from there; for no other reason.
    """
    world, prompt, actions = make_world(kind), random_videos(4, prompt_frames), some_actions(4, 40)
    draws = listen_draws(monkeypatch)
    played = world.rollout(prompt, actions, seed=5)
    own, draws[:] = list(draws), []
    recomputed = rollout_uncached(world, prompt, actions, seed=5)
    assert len(own) == len(draws) == 40 * world.config.sampling.maskgit_steps
    assert len(played[0, prompt_frames:].flatten(1).unique(dim=0)) == 40
    are_same = [same(one, other) for one, other in zip(played, recomputed, strict=True)]
    assert sum(are_same) >= 3, are_same
    assert all(is_same or part_at_a_border(own, draws, row) for row, is_same in enumerate(are_same))


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_window_changes_nothing_within_the_context(make_world: Make, random_videos: Videos, kind: str) -> None:
    """And forgets beyond it what deeper layers still know of older frames."""
    world, prompt, actions = make_world(kind), random_videos(2, 1), some_actions(2, 40)
    context = world.config.context_length
    whole = rollout_uncached(world, prompt, actions, seed=5)
    windowed = rollout_uncached(world, prompt, actions, seed=5, window=context)
    assert same(windowed[:, :context], whole[:, :context])
    assert not same(windowed, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_a_rollout(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Frame for frame, beyond the context."""
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


@pytest.mark.parametrize("kind", ["additive", "token", "film", "full"])
def test_rows_do_not_hang_on_their_batch(make_world: Make, random_videos: Videos, kind: str) -> None:
    world, prompt, actions = make_world(kind), random_videos(4, 2), some_actions(4, 12)
    heard = listen_tokens(world)
    together = world.rollout(prompt, actions, seed=2)
    drawn = torch.cat(heard, dim=1)
    for row in range(4):
        heard.clear()
        alone = world.rollout(prompt[row : row + 1], actions[row : row + 1], seed=2 + row)
        assert same(alone[0], together[row])
        assert torch.equal(torch.cat(heard, dim=1)[0], drawn[row])


def test_a_fork_goes_its_own_way(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Neither steps nor replaced rows of one reach the other, within and beyond the context."""
    state, _ = tiny_world.reset(random_videos(2, 1), [0, 1])
    state, _ = play(tiny_world, state, some_actions(2, 10))
    forks = [tiny_world.fork(state) for _ in range(3)]
    frames = play(tiny_world, forks[0], some_actions(2, 12, seed=1))[1]
    replaced, _ = tiny_world.replace(forks[1], [1], random_videos(1, 2), [9])
    play(tiny_world, replaced, some_actions(2, 12, seed=2))
    assert torch.equal(play(tiny_world, state, some_actions(2, 12, seed=1))[1], frames)
    assert not same(play(tiny_world, forks[2], some_actions(2, 12, seed=2))[1], frames)


@pytest.mark.parametrize("kind", ["additive", "token", "full", "spatial"])
def test_steps_are_undone_exactly(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Far beyond the context, row by row of different ages; what is played again comes out as it did."""
    world, actions = make_world(kind), some_actions(2, 24)
    state, _ = world.reset(random_videos(2, 1), [0, 1])
    state, _ = play(world, state, actions[:, :3])
    state, _ = world.replace(state, [1], random_videos(1, 2), [9])
    backs, frames = [], []
    for each in actions.unbind(dim=1):
        backs.append(world.remember(state))
        state, frame = world.step(state, each)
        frames.append(frame)
    for back in (1, 2, 20):
        for number in range(24 - 1, 24 - 1 - back, -1):
            state = world.undo(state, backs[number])
        state, again = play(world, state, actions[:, 24 - back :])
        assert torch.equal(again, torch.stack(frames[24 - back :], dim=1))
    with pytest.raises(ValueError, match="state must be the latest"):
        world.remember(world.step(state, actions[:, 0])[0]._replace(version=state.version))


def test_a_state_whose_memory_is_gone_is_refused(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """By all that takes a state, after a step and after a replacement; the latest one still works."""
    actions = torch.zeros(2, dtype=torch.int64)
    first, _ = tiny_world.reset(random_videos(2, 1), [0, 1])
    second, _ = tiny_world.step(first, actions)
    third, _ = tiny_world.replace(second, [0], random_videos(1, 1), [5])
    for old in (first, second):
        for call in (
            lambda old=old: tiny_world.step(old, actions),
            lambda old=old: tiny_world.fork(old),
            lambda old=old: tiny_world.replace(old, [0], random_videos(1, 1), [5]),
        ):
            with pytest.raises(ValueError, match="state must be the latest"):
                call()
    tiny_world.step(third, actions)


def test_a_refused_call_loses_nothing(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    state, _ = tiny_world.reset(random_videos(2, 1), [0, 1])
    twin = tiny_world.fork(state)
    with pytest.raises(ValueError, match="latent_actions"):
        tiny_world.step(state, torch.tensor([0, 8]))
    with pytest.raises(ValueError, match="seeds"):
        tiny_world.replace(state, [1], random_videos(1, 1), [-1])
    actions = some_actions(2, 3)
    assert torch.equal(play(tiny_world, state, actions)[1], play(tiny_world, twin, actions)[1])


@pytest.mark.parametrize("kind", ["additive", "token", "full", "spatial"])
@pytest.mark.parametrize("age", [1, 12])
def test_replaced_rows_begin_anew_and_others_go_on(
    make_world: Make, random_videos: Videos, kind: str, age: int
) -> None:
    world, prompts = make_world(kind), random_videos(2, 3, seed=4)
    state, _ = world.reset(random_videos(4, 2), [0, 1, 2, 3])
    state, _ = play(world, state, some_actions(4, age))
    untouched = world.fork(state)
    replaced, first = world.replace(state, [2, 0], prompts, [11, 10])
    fresh, fresh_first = world.reset(prompts, [11, 10])
    assert torch.equal(first, fresh_first)
    actions = some_actions(4, 10, seed=1)
    frames = play(world, replaced, actions)[1]
    assert same(frames[[1, 3]], play(world, untouched, actions)[1][[1, 3]])
    assert same(frames[[2, 0]], play(world, fresh, actions[[2, 0]])[1])


def test_the_seed_decides(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """And nothing else does: not torch's own generator, not what was played before."""
    prompt, actions = random_videos(2, 1), some_actions(2, 6)
    one = tiny_world.rollout(prompt, actions, seed=0)
    torch.manual_seed(99)
    assert torch.equal(tiny_world.rollout(prompt, actions, seed=0), one)
    other = tiny_world.rollout(prompt, actions, seed=100)
    assert torch.equal(other[:, 0], one[:, 0])
    changes = (other - one).abs().amax(dim=(2, 3, 4))
    assert (changes[:, 1:] > 0.01).all()


def test_noise_is_new_for_each_frame_and_row(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Rows alike in all but the seed go apart, and so does one row from its own past."""
    prompt = random_videos(1, 1).expand(3, -1, -1, -1, -1)
    heard = listen_tokens(world := copy.deepcopy(tiny_world))
    world.rollout(prompt, torch.zeros(3, 4, dtype=torch.int64), seed=0)
    frames = torch.cat(heard, dim=1).flatten(0, 1)
    assert len(frames.unique(dim=0)) == len(frames)


@pytest.mark.parametrize("kind", ["additive", "token", "full"])
def test_sessions_go_on_in_constant_memory(make_world: Make, random_videos: Videos, kind: str) -> None:
    world, sizes = make_world(kind), {}
    state, _ = world.reset(random_videos(1, 1), [0])
    for step in range(1, 61):
        state, frame = world.step(state, some_actions(1, 1, seed=step)[:, 0])
        assert torch.isfinite(frame).all()
        if step in (1, 20, 60):
            sizes[step] = sum(tensor.untyped_storage().nbytes() for tensor in tensors(state))
    assert sizes[1] == sizes[20] == sizes[60]
    assert state.ages == (60,)


@pytest.mark.parametrize("kind", ["additive", "token", "film"])
def test_actions_change_the_frame(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Each of them, from the same states and with the same noise."""
    world, rows = make_world(kind), 4
    state, _ = world.reset(random_videos(rows, 1), range(rows))
    frames = [world.step(world.fork(state), torch.full((rows,), action))[1] for action in range(ACTIONS)]
    for one, other in itertools.combinations(frames, 2):
        assert not same(one, other)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_an_action_leads_to_the_next_frame(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Action 3 changes the frame after it and none before."""
    world, prompt, actions = make_world(kind), random_videos(4, 2), some_actions(4, 6)
    other = actions.clone()
    other[:, 3] = (other[:, 3] + 1) % ACTIONS
    changes = (world.rollout(prompt, actions) - world.rollout(prompt, other)).abs().amax(dim=(0, 2, 3, 4))
    assert (changes[: 2 + 3] == 0).all()
    assert changes[2 + 3] > 1e-3


@pytest.mark.parametrize("kind", ["additive", "st-lam", "token-lam"])
def test_a_prompts_own_actions_lead_to_its_frames(make_world: Make, random_videos: Videos, kind: str) -> None:
    """The dynamics is told "none" for the first, and the label of t for frame t + 1."""
    world, prompt = make_world(kind), random_videos(8, 4)
    led: list[Tensor] = []
    world.dynamics.register_forward_pre_hook(lambda _, inputs: led.append(inputs[1]))
    state, _ = world.reset(prompt, range(8))
    labels = world.label(prompt)
    whole = torch.cat([torch.full((8, 1), ACTIONS), labels], dim=1)
    assert torch.equal(led[0], whole[:, :-1])
    assert torch.equal(state.previous_actions, whole[:, -1:])
    assert labels.unique().numel() > 2


def test_a_longer_prompt_counts(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Frames before the last one change what comes; those beyond the context don't."""
    prompt, actions = random_videos(2, 12), some_actions(2, 3)
    context = tiny_world.config.context_length
    played = tiny_world.rollout(prompt, actions)
    assert played.shape[1] == context + 3
    shorter = tiny_world.rollout(prompt[:, -context:], actions)
    assert torch.equal(played, shorter)
    for start in (-2, -1):
        assert not same(tiny_world.rollout(prompt[:, start:], actions)[:, -3:], played[:, -3:])


@pytest.mark.parametrize("maskgit_steps", [1, 3, 25])
def test_maskgit_steps_can_be_overridden(
    tiny_world: GenieWorldModel, random_videos: Videos, maskgit_steps: int
) -> None:
    world = copy.deepcopy(tiny_world)
    state, _ = world.reset(random_videos(1, 1), [0], maskgit_steps=maskgit_steps)
    heard = count_passes(world)
    state, _ = world.step(state, torch.tensor([1]))
    assert heard == [2] + [1] * (maskgit_steps - 1)
    state, _ = world.replace(state, [0], random_videos(1, 2), [3])
    heard.clear()
    world.step(state, torch.tensor([1]))
    assert len(heard) == maskgit_steps
    usual, _ = world.reset(random_videos(1, 1), [0])
    assert usual.sampling == world.config.sampling


def test_temperature_can_be_overridden(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Next to none, the seed no longer matters; a high one makes tokens vary more between seeds."""
    world, prompt = copy.deepcopy(tiny_world), random_videos(1, 1).expand(40, -1, -1, -1, -1)
    heard, kinds = listen_tokens(world), []
    for temperature in (1e-4, 1.0, 50.0):
        state, _ = world.reset(prompt, range(40), maskgit_steps=1, temperature=temperature)
        world.step(state, torch.ones(40, dtype=torch.int64))
        shares = torch.nn.functional.one_hot(heard[-1][:, 0], 64).float().mean(dim=0)
        kinds.append(torch.special.entr(shares).sum(dim=-1).mean().item())
    assert kinds[0] == pytest.approx(0, abs=1e-6)
    assert kinds[0] < kinds[1] < kinds[2] <= math.log(40)


def test_the_context_limits_what_is_remembered(tiny_config: WorldConfig, vary: Any, make_world: Make) -> None:
    """A world that remembers one frame has nothing to carry, and still plays."""
    world = GenieWorldModel(vary(tiny_config, {"context_length": 1})).eval()
    state, _ = world.reset(torch.rand(2, 1, 3, 64, 64), [0, 1])
    state, frames = play(world, state, some_actions(2, 4))
    assert frames.shape == (2, 4, 3, 64, 64)


def test_oblong_frames(make_world: Make, random_videos: Videos) -> None:
    world = make_world("oblong")
    frames = world.rollout(random_videos(2, 2, 48, 80), some_actions(2, 8))
    assert frames.shape == (2, 10, 3, 48, 80)


def test_bfloat16(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """The prompt is rebuilt nearly alike, frames are float32 in [0, 1], and the cache takes half the room."""
    low, prompt = copy.deepcopy(tiny_world), random_videos(2, 2)
    low.set_precision("bfloat16")
    states = [world.reset(prompt, [0, 1]) for world in (tiny_world, low)]
    assert (states[0][1] - states[1][1]).abs().mean() < 0.02
    state, frames = play(low, states[1][0], some_actions(2, 10))
    assert frames.dtype == torch.float32
    assert 0 <= frames.min() < frames.max() <= 1
    assert {tensor.dtype for tensor in tensors(state)} == {torch.bfloat16}


def test_wrong_arguments(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Each names the argument and what it was."""
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


@pytest.mark.parametrize(("steps", "temperature"), [(0, None), (2.5, None), (None, 0.0), (None, -1.0)])
def test_sampling_out_of_range_is_refused(tiny_world: GenieWorldModel, steps: Any, temperature: Any) -> None:
    with pytest.raises(ValueError, match="maskgit_steps" if temperature is None else "temperature"):
        tiny_world.reset(torch.rand(1, 1, 3, 64, 64), [0], maskgit_steps=steps, temperature=temperature)
