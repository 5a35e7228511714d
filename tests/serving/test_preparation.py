"""A prepared world plays the frames of the plain one, in every variant and in batches of any size."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genie_gym.configs import WorldConfig
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.nn.st_transformer import SpatioTemporalTransformer
from genie_gym.serving import native_precision, prepare
from genie_gym.serving.packing import PACKED, unpack

FRAMES = 8
VARIANTS = ["additive", "token", "film", "full", "spatial", "folded", "conv", "oblong"]


def play_tokens(world: GenieWorldModel, videos: Tensor, actions: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tokens and the frames of each step."""
    state, _ = world.reset(videos, range(len(videos)))
    tokens, frames = [], []
    for each in actions.unbind(dim=1):
        state, frame = world.step(state, each)
        tokens.append(state.tokens)
        frames.append(frame)
    return tokens, frames


@pytest.mark.parametrize("variant", VARIANTS)
def test_frames_equal_those_of_pytorch(
    variant: str, make_world: Callable[[str], GenieWorldModel], random_videos: Callable[..., Tensor]
) -> None:
    """In float32; a token may differ if its random number lies on the border between two tokens."""
    world = make_world(variant)
    prepared = prepare(copy.deepcopy(world), "float32")
    videos = random_videos(3, 2, world.config.height, world.config.width)
    actions = torch.randint(8, (3, FRAMES))
    assert torch.equal(prepared.label(videos), world.label(videos))
    (tokens, frames), (own_tokens, own_frames) = (play_tokens(each, videos, actions) for each in (world, prepared))
    agree = [torch.equal(one, other) for one, other in zip(tokens, own_tokens, strict=True)]
    alike = agree.index(False) if False in agree else FRAMES
    assert alike >= FRAMES // 2, "tokens differ early: this is more than rounding"
    for one, other in zip(frames[:alike], own_frames[:alike], strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["film", "token", "conv"])
def test_a_row_of_a_batch_equals_the_row_alone(
    variant: str, make_world: Callable[[str], GenieWorldModel], random_videos: Callable[..., Tensor]
) -> None:
    """Bit for bit; also after a fork, a join, an undone step and a split."""
    world = prepare(make_world(variant), "float32")
    videos, actions = random_videos(3, 2), torch.randint(8, (3, FRAMES))
    together = world.rollout(videos, actions, seed=5)
    for row in range(3):
        assert torch.equal(world.rollout(videos[[row]], actions[[row]], seed=5 + row)[0], together[row])
    states = [world.reset(videos[[row]], [5 + row])[0] for row in range(3)]
    joined = world.join([world.fork(state) for state in states])
    back = world.remember(joined)
    strayed, _ = world.step(joined, (actions[:, 0] + 1) % 8)
    state = world.undo(strayed, back)
    parts = world.split(state)
    for row, part in enumerate(parts):
        assert torch.equal(world.step(part, actions[row, :1])[1][0], together[row, 2])


def test_auto_selects_the_native_precision(tiny_config: WorldConfig, vary: Callable[..., WorldConfig]) -> None:
    world = GenieWorldModel(vary(tiny_config, {"precision": "auto"}))
    assert world.dynamics.precision == torch.float32
    assert str(prepare(world).dynamics.precision) == f"torch.{native_precision(torch.device('cpu'))}"
    assert prepare(world, "float32").dynamics.precision == torch.float32


def test_weights_stored_in_bfloat16_play_like_cast_ones(
    tiny_world: GenieWorldModel, random_videos: Callable[..., Tensor]
) -> None:
    """Storing transformers in bfloat16 saves casting them per frame, and changes frames by rounding only."""
    videos, actions = random_videos(2, 2), torch.randint(8, (2, 10))
    cast, prepared = copy.deepcopy(tiny_world), prepare(copy.deepcopy(tiny_world), "bfloat16")
    cast.set_precision("bfloat16")
    assert (cast.rollout(videos, actions) - prepared.rollout(videos, actions)).abs().mean() < 0.02
    assert {weight.dtype for weight in prepared.dynamics.transformer.parameters()} == {torch.bfloat16}
    assert prepared.tokenizer.quantizer.codebook.dtype == torch.float32
    assert not any(weight.requires_grad for weight in prepared.parameters())


def test_packing_keeps_names_weights_and_references(tiny_world: GenieWorldModel) -> None:
    world = copy.deepcopy(tiny_world)
    transformer, names = world.dynamics.transformer, list(world.state_dict())
    prepare(world, "float32")
    assert world.dynamics.transformer is transformer
    assert list(world.state_dict()) == names
    assert any(type(module) in PACKED.values() for module in world.modules())
    unpack(world)
    assert type(transformer) is SpatioTemporalTransformer
    assert not any(type(module) in PACKED.values() for module in world.modules())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda world: pickle.loads(pickle.dumps(world))])
def test_copies_of_a_prepared_world_play_the_same_frames(
    tiny_world: GenieWorldModel,
    random_videos: Callable[..., Tensor],
    clone: Callable[[GenieWorldModel], GenieWorldModel],
) -> None:
    world, videos, actions = (
        prepare(copy.deepcopy(tiny_world), "float32"),
        random_videos(2, 2),
        torch.randint(8, (2, 4)),
    )
    frames = world.rollout(videos, actions)
    other = clone(world)
    assert torch.equal(other.rollout(videos, actions), frames)
    for weight in other.dynamics.parameters():
        weight.zero_()
    assert torch.equal(world.rollout(videos, actions), frames), "a copy packs its own weights"
    assert not torch.equal(other.rollout(videos, actions), frames)


def test_a_prepared_world_can_be_trained(tiny_world: GenieWorldModel) -> None:
    """With gradients packed twins run plain PyTorch, so the gradients of the loss are the same."""
    tokens, actions = torch.randint(64, (2, 4, tiny_world.config.tokens_per_frame)), torch.randint(8, (2, 3))
    gradients = []
    for world in (copy.deepcopy(tiny_world), prepare(copy.deepcopy(tiny_world), "float32")):
        world.dynamics.requires_grad_(True)
        torch.manual_seed(0)
        with torch.enable_grad():
            world.dynamics.loss(tokens, actions).loss.backward()
        gradients.append([weight.grad for weight in world.dynamics.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
