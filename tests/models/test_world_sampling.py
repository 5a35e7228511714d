"""Sampling of the world's frames: seeds, noise, MaskGIT steps and temperature."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from genie_gym.models.world_model import GenieWorldModel
from tests.models.world_helpers import Videos, record_tokens, some_actions


def count_passes(world: GenieWorldModel) -> list[int]:
    """Return a list that receives the number of frames in each pass of the dynamics from now on."""
    passes: list[int] = []
    step = world.dynamics.step

    def spy(tokens: Tensor, *inputs: Any, **named: Any) -> Tensor:
        passes.append(tokens.shape[1])
        return step(tokens, *inputs, **named)

    world.dynamics.step = spy  # type: ignore[method-assign, assignment]
    return passes


def test_frames_depend_on_the_seed_alone(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Not on torch's global generator, nor on earlier play."""
    prompt, actions = random_videos(2, 1), some_actions(2, 6)
    one = tiny_world.rollout(prompt, actions, seed=0)
    torch.manual_seed(99)
    assert torch.equal(tiny_world.rollout(prompt, actions, seed=0), one)
    other = tiny_world.rollout(prompt, actions, seed=100)
    assert torch.equal(other[:, 0], one[:, 0])
    changes = (other - one).abs().amax(dim=(2, 3, 4))
    assert (changes[:, 1:] > 0.01).all()


def test_noise_is_new_for_each_frame_and_row(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Rows that differ in their seeds only draw different tokens, and so does each next frame of a row."""
    prompt = random_videos(1, 1).expand(3, -1, -1, -1, -1)
    recorded = record_tokens(world := copy.deepcopy(tiny_world))
    world.rollout(prompt, torch.zeros(3, 4, dtype=torch.int64), seed=0)
    frames = torch.cat(recorded, dim=1).flatten(0, 1)
    assert len(frames.unique(dim=0)) == len(frames)


@pytest.mark.parametrize("maskgit_steps", [1, 3, 25])
def test_maskgit_steps_can_be_overridden(
    tiny_world: GenieWorldModel, random_videos: Videos, maskgit_steps: int
) -> None:
    world = copy.deepcopy(tiny_world)
    state, _ = world.reset(random_videos(1, 1), [0], maskgit_steps=maskgit_steps)
    passes = count_passes(world)
    state, _ = world.step(state, torch.tensor([1]))
    assert passes == [2] + [1] * (maskgit_steps - 1)
    state, _ = world.replace(state, [0], random_videos(1, 2), [3])
    passes.clear()
    world.step(state, torch.tensor([1]))
    assert len(passes) == maskgit_steps
    usual, _ = world.reset(random_videos(1, 1), [0])
    assert usual.sampling == world.config.sampling


def test_temperature_can_be_overridden(tiny_world: GenieWorldModel, random_videos: Videos) -> None:
    """Near zero all seeds draw the same tokens; a higher temperature makes them vary more between seeds."""
    world, prompt = copy.deepcopy(tiny_world), random_videos(1, 1).expand(40, -1, -1, -1, -1)
    recorded, entropies = record_tokens(world), []
    for temperature in (1e-4, 1.0, 50.0):
        state, _ = world.reset(prompt, range(40), maskgit_steps=1, temperature=temperature)
        world.step(state, torch.ones(40, dtype=torch.int64))
        frequencies = torch.nn.functional.one_hot(recorded[-1][:, 0], 64).float().mean(dim=0)
        entropies.append(torch.special.entr(frequencies).sum(dim=-1).mean().item())
    assert entropies[0] == pytest.approx(0, abs=1e-6)
    assert entropies[0] < entropies[1] < entropies[2] <= math.log(40)


@pytest.mark.parametrize(("steps", "temperature"), [(0, None), (2.5, None), (None, 0.0), (None, -1.0)])
def test_sampling_out_of_range_is_refused(tiny_world: GenieWorldModel, steps: Any, temperature: Any) -> None:
    with pytest.raises(ValueError, match="maskgit_steps" if temperature is None else "temperature"):
        tiny_world.reset(torch.rand(1, 1, 3, 64, 64), [0], maskgit_steps=steps, temperature=temperature)
