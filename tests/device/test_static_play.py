"""Play in fixed memory: the frames of the world's own step, row by row, and nothing that a CUDA graph cannot repeat."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genie_gym.data.frames import round_pixels, to_float
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import kernels, prepare, static_play
from genie_gym.serving.static_play import StaticPlay

KINDS = ["additive", "token", "film", "full", "spatial", "fsq", "folded", "conv"]
STEPS = 20
"""More than twice the context of the tiny world, so that the rings of its caches turn twice."""

Actions = Callable[[int, int], Tensor]
Play = Callable[..., Tensor]


def assert_equals_the_worlds_step(world: GenieWorldModel, actions: Tensor, restarts: tuple[int, ...] = (2, 13)) -> None:
    """Play both, restart the last row before and after the context is full, and compare every frame."""
    rows, last = len(actions), len(actions) - 1
    play = StaticPlay(world, world.start_clips, rows)
    play.start(range(rows), range(rows), range(rows))
    state, frames = world.reset(to_float(world.start_clips[:rows]), range(rows))
    assert torch.equal(play.frames, round_pixels(frames))
    for number, each in enumerate(actions.unbind(dim=1)):
        if number in restarts:
            play.start([last], [3], [100 + number])
            state, first = world.replace(state, [last], to_float(world.start_clips[3:]), [100 + number])
            assert torch.equal(play.frames[last:], round_pixels(first))
        state, frames = world.step(state, each)
        assert torch.equal(play.step(each), round_pixels(frames)), number


@pytest.mark.parametrize("kind", KINDS)
def test_another_frame_than_the_worlds_step(
    make_world: Callable[[str], GenieWorldModel], some_actions: Actions, kind: str
) -> None:
    """Frame for frame in float32, also with rows of different ages and after the rings have turned."""
    assert_equals_the_worlds_step(make_world(kind), some_actions(3, STEPS))


def test_a_single_row_that_takes_another_path(tiny_world: GenieWorldModel, some_actions: Actions) -> None:
    assert_equals_the_worlds_step(tiny_world, some_actions(1, STEPS))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_kernels_that_miscount_frames(tiny_world: GenieWorldModel, some_actions: Actions, precision: str) -> None:
    if not kernels.can_multiply(getattr(torch, precision)):
        pytest.skip(f"no kernels for {precision} here")
    world = prepare(copy.deepcopy(tiny_world), precision)
    # in bfloat16 a clip that is read alone is rounded another way than among others
    assert_equals_the_worlds_step(world, some_actions(4, STEPS), (2, 13) if precision == "float32" else ())


def test_a_row_that_depends_on_its_neighbours(
    tiny_world: GenieWorldModel, play_all: Play, some_actions: Actions
) -> None:
    """A row plays the same with other neighbours, and alone."""
    actions, others = some_actions(3, STEPS), some_actions(6, STEPS)[3:]
    others[0] = actions[0]
    alone, beside, elsewhere = (play_all(tiny_world, each)[:, 0] for each in (actions[:1], actions, others))
    assert torch.equal(alone, beside)
    assert torch.equal(alone, elsewhere)


def test_a_frame_that_knows_later_actions(tiny_world: GenieWorldModel, play_all: Play, some_actions: Actions) -> None:
    actions = some_actions(2, STEPS)
    later = actions.clone()
    later[:, 12:] = (later[:, 12:] + 1) % 8
    one, other = (play_all(tiny_world, each) for each in (actions, later))
    assert torch.equal(one[:13], other[:13])
    assert not torch.equal(one[13:], other[13:])


def test_clips_that_are_mixed_up_when_read_in_parts(
    tiny_world: GenieWorldModel, play_all: Play, some_actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = play_all(tiny_world, some_actions(4, 3))
    monkeypatch.setattr(static_play, "_CLIPS_AT_ONCE", 3)
    assert torch.equal(play_all(tiny_world, some_actions(4, 3)), whole)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_cut_to_32_bits(tiny_world: GenieWorldModel, seed: int) -> None:
    with pytest.raises(ValueError, match=r"seeds must be in \[0, 4294967296\), got"):
        StaticPlay(tiny_world, tiny_world.start_clips, 2).start([0, 1], [0, 1], [0, seed])


class Devices(TorchDispatchMode):
    """Collects the devices of all tensors that go into operations and come out of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        self.found |= {each.device.type for each in leaves if isinstance(each, Tensor)}
        self.operations.append(str(func))
        return result


def move(owner: object, device: str) -> None:
    """Move all tensors that are attributes of an object."""
    for name, value in list(vars(owner).items()):
        if isinstance(value, Tensor):
            setattr(owner, name, value.to(device))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_needs_the_host(make_world: Callable[[str], GenieWorldModel], kind: str) -> None:
    """Under capture a step must read no value, take no tensor from the host and have no shape that depends on values.

    On the device ``meta``, whose tensors have no values, the first and the last raise; the second shows as a tensor of
    another device. Two steps queue equal operations, whatever the ages.
    """
    world = make_world(kind)
    play = StaticPlay(world, world.start_clips, 2)
    play.world, play.device = copy.deepcopy(world).to("meta"), torch.device("meta")
    state = play._state
    for cache in (state.dynamics, state.decoder):
        cache.settled = cache.settled.to("meta")
        cache.blocks = [block and type(block)(*(part.to("meta") for part in block)) for block in cache.blocks]
    play._state = state._replace(tokens=state.tokens.to("meta"), previous_actions=state.previous_actions.to("meta"))
    move(play, "meta")
    move(play._draw_numbers, "meta")
    queued = []
    for _ in range(2):
        with torch.no_grad(), Devices() as devices:
            play._run()
        assert devices.found == {"meta"}
        queued.append(devices.operations)
    assert len(queued[0]) > 100
    assert queued[0] == queued[1]
