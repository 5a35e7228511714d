"""The world as it is played: cached stepping against full recomputation, and rows that live by themselves."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.configs import WorldConfig
from genie_gym.models.maskgit import sample
from genie_gym.models.world_model import Blocks, GenieWorldModel, WorldState, _noise

KINDS = ["additive", "token", "film", "full", "spatial", "fsq", "st-lam", "token-lam"]
Make = Callable[[str], GenieWorldModel]
Videos = Callable[..., Tensor]
ACTIONS = 8


def some_actions(batch: int, steps: int, seed: int = 0) -> Tensor:
    return torch.randint(ACTIONS, (batch, steps), generator=torch.Generator().manual_seed(seed))


def listen(world: GenieWorldModel) -> list[tuple[Tensor, Tensor]]:
    """(tokens, features) of each call of the dynamics from now on."""
    heard: list[tuple[Tensor, Tensor]] = []
    world.dynamics.register_forward_hook(lambda _, inputs, output: heard.append((inputs[0], output[0])))
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


def tensors(state: WorldState) -> list[Tensor]:
    blocks: list[Blocks] = [state.dynamics, state.decoder]
    return [part for group in blocks for block in group if block is not None for part in block] + [state.lengths]


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
def test_the_cache_changes_nothing(make_world: Make, random_videos: Videos, kind: str, prompt_frames: int) -> None:
    """Within the context every pass equals one over all frames so far, and so does every frame decoded."""
    world, prompt = make_world(kind), random_videos(2, prompt_frames)
    steps = world.config.context_length - prompt_frames
    actions = some_actions(2, steps)
    tokens = world.tokenizer.encode(prompt)
    labels = world.label(prompt) if prompt_frames > 1 else actions[:, :0]
    lead = world.dynamics.lead_actions(torch.cat([labels, actions], dim=1))
    state, first = world.reset(prompt, [3, 4])
    assert same(first, world.tokenizer.decode(tokens)[:, -1])
    heard = listen(world)
    for step in range(steps):
        heard.clear()
        state, frame = world.step(state, actions[:, step])
        passes = heard[:]
        assert len(passes) == world.config.sampling.maskgit_steps + 1
        for seen, features in passes:
            whole, _ = world.dynamics(torch.cat([tokens, seen], dim=1), lead[:, : tokens.shape[1] + 1])
            torch.testing.assert_close(features[0], whole[-1], atol=1e-5, rtol=0)
            torch.testing.assert_close(
                world.dynamics.logits(features[0]), world.dynamics.logits(whole[-1]), atol=1e-4, rtol=0
            )
        tokens = torch.cat([tokens, passes[-1][0]], dim=1)
        assert same(frame, world.tokenizer.decode(tokens)[:, -1])


@pytest.mark.parametrize("kind", KINDS[:3])
def test_tokens_equal_those_drawn_without_a_cache(make_world: Make, random_videos: Videos, kind: str) -> None:
    """A second, plain way to play: all frames through the dynamics for each pass, with the same noise."""
    world, prompt, actions = make_world(kind), random_videos(2, 2), some_actions(2, 6)
    tokens, config = world.tokenizer.encode(prompt), world.config
    lead = world.dynamics.lead_actions(torch.cat([world.label(prompt), actions], dim=1))
    for step in range(6):

        def predict(asked: Tensor, tokens: Tensor = tokens, step: int = step) -> Tensor:
            features, _ = world.dynamics(torch.cat([tokens, asked[:, None]], dim=1), lead[:, : step + 3])
            return world.dynamics.logits(features[-1])

        shape = (config.sampling.maskgit_steps, 2, config.tokens_per_frame)
        numbers = torch.stack([torch.from_numpy(_noise(seed, step, shape)) for seed in (5, 6)])
        empty = torch.full((2, config.tokens_per_frame), world.dynamics.hidden_token)
        drawn = sample(predict, empty, world.dynamics.hidden_token, config.sampling, numbers)
        tokens = torch.cat([tokens, drawn[:, None]], dim=1)
    heard = listen_tokens(world)
    played = world.rollout(prompt, actions, seed=5)
    assert torch.equal(torch.cat(heard, dim=1), tokens[:, 2:])
    assert same(played, world.tokenizer.decode(tokens))


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


def test_an_old_state_can_be_stepped_again(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Nothing is changed in place: not by steps, not by ``replace``, and not beyond the context."""
    state, _ = tiny_world.reset(random_videos(2, 1), [0, 1])
    state, _ = play(tiny_world, state, some_actions(2, 10))
    before = [tensor.clone() for tensor in tensors(state)]
    _, frames = play(tiny_world, state, some_actions(2, 3, seed=1))
    tiny_world.replace(state, [1], random_videos(1, 2), [9])
    assert all(torch.equal(old, tensor) for old, tensor in zip(before, tensors(state), strict=True))
    assert torch.equal(play(tiny_world, state, some_actions(2, 3, seed=1))[1], frames)
    assert not same(play(tiny_world, state, some_actions(2, 3, seed=2))[1], frames)


@pytest.mark.parametrize("kind", ["additive", "token", "full", "spatial"])
@pytest.mark.parametrize("age", [1, 12])
def test_replaced_rows_begin_anew_and_others_go_on(
    make_world: Make, random_videos: Videos, kind: str, age: int
) -> None:
    world, prompts = make_world(kind), random_videos(2, 3, seed=4)
    state, _ = world.reset(random_videos(4, 2), [0, 1, 2, 3])
    state, _ = play(world, state, some_actions(4, age))
    replaced, first = world.replace(state, [2, 0], prompts, [11, 10])
    fresh, fresh_first = world.reset(prompts, [11, 10])
    assert torch.equal(first, fresh_first)
    actions = some_actions(4, 10, seed=1)
    frames = play(world, replaced, actions)[1]
    assert same(frames[[1, 3]], play(world, state, actions)[1][[1, 3]])
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
    assert sizes[20] == sizes[60]
    assert sizes[1] <= sizes[20]
    assert state.lengths.tolist() == [world.config.context_length - 1]
    assert state.ages == (60,)
    assert len({part.shape[0] for part in tensors(state)[:-1]}) == 1


@pytest.mark.parametrize("kind", ["additive", "token", "film"])
def test_actions_change_the_frame(make_world: Make, random_videos: Videos, kind: str) -> None:
    """Each of them, from the same states and with the same noise."""
    world, rows = make_world(kind), 4
    state, _ = world.reset(random_videos(rows, 1), range(rows))
    frames = [world.step(state, torch.full((rows,), action))[1] for action in range(ACTIONS)]
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
    world.reset(prompt, range(8))
    labels = world.label(prompt)
    assert torch.equal(led[0], torch.cat([torch.full((8, 1), ACTIONS), labels], dim=1))
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
    heard = listen(world)
    world.step(state, torch.tensor([1]))
    assert len(heard) == maskgit_steps + 1
    state, _ = world.replace(state, [0], random_videos(1, 2), [3])
    heard.clear()
    world.step(state, torch.tensor([1]))
    assert len(heard) == maskgit_steps + 1
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
    assert state.lengths.tolist() == [0, 0]
    assert sum(tensor.numel() for tensor in tensors(state)[:-1]) == 0


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
    assert {tensor.dtype for tensor in tensors(state)[:-1]} == {torch.bfloat16}


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
