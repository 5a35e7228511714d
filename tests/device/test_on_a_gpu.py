"""Play on a GPU. What is asserted of the captured step:

- the capture itself: CUDA refuses to capture an operation that waits for the GPU or allocates outside of its pool;
- its replays draw the frames of the same operations run one by one, to the last bit, while the rings of the caches turn
  and rows restart;
- neither the operations one by one nor a replay make the host wait (``torch.cuda.set_sync_debug_mode``);
- its random numbers are numpy's, and its frames in float32 those of the world's own step up to a few values that were
  rounded another way.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from genie_gym.configs import SamplingConfig
from genie_gym.envs import WorldHandle
from genie_gym.models.maskgit import draw_uniforms
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.serving import prepare
from genie_gym.serving.seeded_uniforms import SeededUniforms
from genie_gym.serving.static_play import StaticPlay
from genie_gym.torch_env import GenieTorchEnv

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
KINDS = ["additive", "token", "film", "full", "spatial", "fsq", "folded", "conv"]
Make = Callable[[str], GenieWorldModel]
Actions = Callable[[int, int], Tensor]


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Raise an error within the block when the host waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_that_repeats_its_first_step(
    make_world: Make, some_actions: Actions, kind: str, precision: str
) -> None:
    world = prepare(make_world(kind).to("cuda"), precision)
    captured, eager = (StaticPlay(world, world.start_clips, 3) for _ in range(2))
    assert captured._graph is not None
    eager._graph = None
    for play in (captured, eager):
        play.start(range(3), range(3), range(3))
    assert torch.equal(captured.frames, eager.frames)
    seen = set()
    for number, actions in enumerate(some_actions(3, 40).to("cuda").unbind(dim=1)):
        if number in (2, 13):
            for play in (captured, eager):
                play.start([1], [3], [100 + number])
        with no_waiting():
            frames, others = captured.step(actions), eager.step(actions)
        assert torch.equal(frames, others), number
        seen.add(frames.cpu().numpy().tobytes())
    assert len(seen) == 40


def test_other_random_numbers_than_numpys() -> None:
    seeds, ages = [0, 7, 2**31 - 1], [0, 5, 2**20]
    wanted = draw_uniforms(seeds, ages, SamplingConfig(maskgit_steps=2), 256)
    draw = SeededUniforms(wanted[0].numel(), torch.device("cuda"))
    drawn = draw(torch.tensor(seeds, device="cuda"), torch.tensor(ages, device="cuda"))
    assert torch.equal(drawn.cpu().view_as(wanted), wanted)


def test_another_frame_than_the_worlds_step(make_world: Make, some_actions: Actions) -> None:
    """One step from the same start: later frames follow a token that was rounded another way."""
    world, actions = prepare(make_world("folded").to("cuda"), "float32"), some_actions(4, 1).to("cuda")
    play = StaticPlay(world, world.start_clips, 4)
    play.start(range(4), range(4), range(4))
    videos = torch.from_numpy(world.start_clips).permute(0, 1, 4, 2, 3) / 255
    state, _ = world.reset(videos, range(4))
    frames = world.step(state, actions[:, 0])[1].mul(255).round().permute(0, 2, 3, 1)
    is_near = (play.step(actions[:, 0]).float() - frames).abs() <= 1
    assert is_near.float().mean() > 0.99


def test_an_environment_that_waits_for_its_frames(make_world: Make, some_actions: Actions) -> None:
    """Without rewards that end episodes no step waits for the GPU, and all that it returns is there."""
    world = prepare(make_world("film").to("cuda"), "bfloat16")
    env = GenieTorchEnv(3, checkpoint=WorldHandle(world), max_episode_steps=None)
    observation = env.reset(seed=0)
    for actions in some_actions(3, 12).to("cuda").unbind(dim=1):
        with no_waiting():
            observation, rewards, terminations, truncations, _ = env.step(actions)
        for each in (observation, rewards, terminations, truncations):
            assert each.device.type == "cuda"
    assert len(observation.flatten(1).unique(dim=0)) == 3
