"""Random numbers as tensor operations: bit for bit those that numpy draws from the same seed and age."""

import itertools

import pytest
import torch

from genie_gym.configs import SamplingConfig
from genie_gym.models.maskgit import draw_uniforms
from genie_gym.serving.seeded_uniforms import MOST_SEEDS, SeededUniforms

NUMBERS = [0, 1, 2, 999, 2**16, 2**31 - 1, 2**31, MOST_SEEDS - 1]


@pytest.mark.parametrize(("maskgit_steps", "positions"), [(2, 256), (1, 1), (3, 24)])
def test_the_numbers_of_numpy(maskgit_steps: int, positions: int) -> None:
    seeds, ages = zip(*itertools.product(NUMBERS, NUMBERS), strict=True)
    sampling = SamplingConfig(maskgit_steps=maskgit_steps)
    wanted = draw_uniforms(seeds, ages, sampling, positions)
    drawn = SeededUniforms(wanted[0].numel(), torch.device("cpu"))(torch.tensor(seeds), torch.tensor(ages))
    assert torch.equal(drawn.view_as(wanted), wanted)


def test_an_odd_count_is_the_start_of_an_even_one() -> None:
    seeds, ages = torch.arange(3), torch.arange(3)
    odd, even = (SeededUniforms(count, torch.device("cpu"))(seeds, ages) for count in (7, 8))
    assert odd.shape == (3, 7)
    assert torch.equal(odd, even[:, :7])
